"""One row of a batch: what it is asked for, what it says so far, and the guess it carries.

A guess is a run of tokens that may come next, with branches beside it (``engine.guesses``). It is fed behind
what is known, in the same pass, and the pass predicts the token after each of its places. The predictions are
kept as long as the guess before them is what was predicted: these are the tokens that decoding one by one
finds, with the same probabilities. So it is for a row that samples, since each of its tokens has a random
number of its own. A wrong guess costs its places in one pass and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_server.core.messages import BeamSearch
from stream_server.engine.guesses import Branch, Cues, branches_of, continuations


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
    """What the row may say, as tokens; changes the number of passes, not the outcome. None: a token a pass.
    An empty draft still lets the row try branches."""
    temperature: float = 0.0
    """Above 0 tokens are sampled."""
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
    word_probabilities: tuple[float, ...] = ()
    """Of the text, see ``engine.sureness``; empty after a beam search."""


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
    cues: Cues | None
    """What is worth a guess without a draft; None: guess nothing."""
    guess: list[int] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    """Beside the guess."""
    hint: int | None = None
    """What may come instead of the first token of the guess."""
    tokens: list[int] = field(default_factory=list)
    n_cached: int = 0
    """Keys and values before this place are final."""
    logprob: float = 0.0
    """Sum over the tokens, the end included."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token."""
    no_speech_prob: float = 0.0
    passes: int = 0
    is_whole: bool = False
    chances: NDArray[np.float64] | None = None
    """The random number of each token, at least 0 and below 1; None: the likeliest token is taken."""

    def suppose(self, guess: Sequence[int], n_vocab: int) -> None:
        """Carry a guess, as far as it can be right: to its end-of-text or the limit of tokens."""
        self.guess = []
        for token in guess[: self.tokens_max - len(self.tokens) - 1]:
            if not 0 <= token < n_vocab or token == self.eot:
                break
            self.guess.append(token)

    def branch_out(self, n_max: int) -> None:
        """Carry up to ``n_max`` branches beside the guess in the next pass."""
        self.branches = []
        # To sample at a place costs as much as a pass saves.
        if self.cues is None or self.chances is not None or n_max == 0:
            return
        closing = self.cues.closing(self.options.draft or ())
        found = branches_of(self.guess, self.cues, closing, self.hint, is_draft=self.passes == 0)
        # What a branch predicts is the second token behind its place.
        place_max = self.tokens_max - len(self.tokens) - 2
        self.branches = [branch for branch in found if branch.place <= place_max][:n_max]

    @property
    def feed(self) -> list[int]:
        """The tokens of the row's next pass; the last ``n_places`` of them are predicted from."""
        return self.known + self.guess + [branch.token for branch in self.branches]

    @property
    def stems(self) -> list[int]:
        """For each token of ``feed``, the place in it of the token before; -1: what is cached."""
        n_run = len(self.known) + len(self.guess)
        return [*range(-1, n_run - 1), *(len(self.known) - 1 + branch.place for branch in self.branches)]

    def chance(self, number: int) -> float | None:
        """The random number of a token of the row; None if it does not sample."""
        return None if self.chances is None else float(self.chances[number])

    @property
    def n_places(self) -> int:
        """How many tokens the next pass predicts."""
        return 1 + len(self.guess) + len(self.branches)

    def accept(self, best: Sequence[int], logprobs: Sequence[float], n_vocab: int) -> bool:
        """Take the predictions of a pass, one for each place; returns whether the row has ended."""
        self.passes += 1
        self.n_cached += len(self.known)
        guess, n_run = self.guess, 1 + len(self.guess)
        beside = dict(zip(self.branches, zip(best[n_run:], logprobs[n_run:], strict=True), strict=True))
        for i, (token, logprob) in enumerate(zip(best[:n_run], logprobs[:n_run], strict=True)):
            if self._say(token, logprob):
                return True
            if i == len(guess) or token != guess[i]:
                break
            self.n_cached += 1
        following = beside.get(Branch(i, token))
        if following is not None and self._say(*following):
            return True
        # The keys of a branch do not stand in its place: it is fed once more.
        self.known = self.tokens[-1:] if following is None else self.tokens[-2:]
        self.hint = None
        next_guess: Sequence[int] = []
        if following is None and self.cues is not None:
            probed, _ = beside.get(Branch(i, self.cues.probe), (self.eot, 0.0))
            ways = continuations(token, guess[i:], best[i + 1 : n_run], probed, self.cues)
            likely = [way for way in ways if way and way[0] != self.eot]
            next_guess = likely[0] if likely else self._end()
            self.hint = likely[1][0] if len(likely) > 1 else None
        self.suppose(next_guess, n_vocab)
        return False

    def _end(self) -> list[int]:
        """A guess at the end, which is then found in the same pass as the last token.

        A row without a draft makes none: it would cost a place in each pass of a large batch.
        """
        draft = self.options.draft
        return [self.cues.closing(draft)] if self.cues is not None and draft else []

    def _say(self, token: int, logprob: float) -> bool:
        """Add a token to what the row says; returns whether it has ended."""
        self.logprob += logprob
        if token == self.eot:
            self.is_whole = True
            return True
        self.tokens.append(token)
        self.logprobs.append(logprob)
        return len(self.tokens) == self.tokens_max
