"""One row of a batch: what it is asked for, what it says so far, and the guess it carries.

A guess is a run of tokens that may come next. It is fed behind what is known, in the same pass, and the
pass predicts the token after each of its places. The predictions are kept as long as the guess before
them is what was predicted: these are the tokens that greedy decoding finds one by one, with the same
probabilities. A wrong guess costs its places in one pass and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stream_server.core.messages import BeamSearch


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What one row is asked for."""

    language: str | None
    """None: the model's own language, or detection."""
    task: str
    """``transcribe`` or ``translate``."""
    tokens_max: int
    """The row ends after this many tokens."""
    prompt: tuple[int, ...] = ()
    """Tokens of the text before, of which the model sees the last ``n_text_ctx // 2 - 1``."""
    timestamps: bool = False
    initial_timestamp_s_max: float | None = 1.0
    """The latest first timestamp; None: any."""
    draft: tuple[int, ...] | None = None
    """What the row may say, as tokens; changes the number of passes, not the outcome. None: plain greedy
    decoding, a token a pass. An empty draft still lets the row guess where it ends."""
    temperature: float = 0.0
    """Above 0 tokens are sampled, and a draft is not used."""
    seed: int = 0
    """Of the sampling: what a row says does not depend on its neighbours."""
    beam: BeamSearch | None = None
    """Search instead of taking the likeliest token; only at temperature 0, and a draft is not used."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one row says."""

    tokens: tuple[int, ...]
    text: str
    language: str
    avg_logprob: float
    no_speech_prob: float
    passes: int
    """Of the text decoder over this row, language detection not included."""
    is_whole: bool
    """It ended by itself, not at the limit of tokens."""


@dataclass(slots=True)
class Row:
    """A row under way."""

    index: int
    """Its place in the batch as it was given."""
    options: DecodeOptions
    language: str
    known: list[int]
    """Tokens not fed yet: the prompt, later the last token said."""
    sot_index: int
    """Where the start-of-transcript stands in the prompt."""
    tokens_max: int
    eot: int
    closing: int | None
    """The token that ends most hypotheses, a guess for when there is no better; None: guess nothing."""
    guess: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    n_cached: int = 0
    """Keys and values before this place are final."""
    logprob: float = 0.0
    """Sum over the tokens, the end included."""
    no_speech_prob: float = 0.0
    passes: int = 0
    is_whole: bool = False
    chances: np.random.Generator | None = None
    """What samples; None: the likeliest token is taken."""

    def suppose(self, guess: Sequence[int], n_vocab: int) -> None:
        """Carry a guess, as far as it can be right: to its end-of-text or the limit of tokens."""
        self.guess = []
        for token in guess[: self.tokens_max - len(self.tokens) - 1]:
            if not 0 <= token < n_vocab or token == self.eot:
                break
            self.guess.append(token)

    @property
    def feed(self) -> list[int]:
        """The tokens of the row's next pass; the last ``n_places`` of them are predicted from."""
        return self.known + self.guess

    def draw(self) -> float | None:
        """The next random number of the row, at least 0 and below 1; None if it does not sample."""
        return None if self.chances is None else float(self.chances.random())

    @property
    def n_places(self) -> int:
        """How many tokens the next pass predicts."""
        return 1 + len(self.guess)

    def accept(self, best: Sequence[int], logprobs: Sequence[float], n_vocab: int) -> bool:
        """Take the predictions of a pass, one for each place; returns whether the row has ended."""
        self.passes += 1
        self.n_cached += len(self.known)
        guess = self.guess
        for i, (token, logprob) in enumerate(zip(best, logprobs, strict=True)):
            self.logprob += logprob
            if token == self.eot:
                self.is_whole = True
                return True
            self.tokens.append(token)
            if len(self.tokens) == self.tokens_max:
                return True
            if i == len(guess) or token != guess[i]:
                break
            self.n_cached += 1
        self.known = self.tokens[-1:]
        self.suppose(self._next_guess(token, guess[i:], best[i + 1 :]), n_vocab)
        return False

    def _next_guess(self, token: int, rest: list[int], predicted: Sequence[int]) -> Sequence[int]:
        """What may follow ``token``, which came instead of the first of ``rest``.

        ``predicted`` are the predictions after each of ``rest``: though a token before them was wrong,
        they have heard the audio, and are right more often than the draft.
        """
        guess: Sequence[int] = []
        if token in rest:
            guess = rest[rest.index(token) + 1 :]
        elif len(rest) > 1:
            guess = predicted
        if guess and guess[0] != self.eot:
            return guess
        # The end is then found in the same pass as the last token.
        return [] if self.closing is None else [self.closing]
