"""Beam search over one window: which hypotheses live on, which have ended, which one is said.

The rules are those of ``whisper.decode`` with ``beam_size``:

1. Each live hypothesis offers its ``size + 1`` likeliest next tokens. All offers are ranked by the sum of
   their log-probabilities; the best ``size`` that are not ends live on. An end that ranks among them is kept
   as a hypothesis that has ended.
2. The window ends when ``round(size * patience)`` hypotheses have ended, or at the limit of tokens. If fewer
   than ``size`` have ended then, the best of those alive are taken for ended, too.
3. Said is the one with the highest sum, divided by its number of tokens, or by ((5 + tokens) / 6) to the
   power of ``length_penalty`` (Wu et al. 2016, equation 14).

Impossible tokens are offered to nobody; whisper ranks them last and drops them in the next step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.core.messages import BeamSearch
from stream_server.engine.rows import DecodeOptions


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Tokens without their end, and the sum of the log-probabilities, the end's included."""

    tokens: tuple[int, ...]
    logprob: float
    is_whole: bool
    """It ended by itself."""


class Beams:
    """The hypotheses of one window under way.

    Args:
        search: How many, and when it is enough.
        options: What the window is asked for.
        language: It is decoded in.
        prompt: Fed before the first token.
        sot_index: Where the start-of-transcript stands in the prompt.
        tokens_max: A hypothesis ends after this many tokens.
        eot: The token that ends one.
    """

    def __init__(
        self,
        search: BeamSearch,
        options: DecodeOptions,
        language: str,
        prompt: Sequence[int],
        sot_index: int,
        tokens_max: int,
        eot: int,
    ) -> None:
        self.options = options
        self.language = language
        self.sot_index = sot_index
        self.alive: list[tuple[int, ...]] = [()]
        """Tokens of the live hypotheses, by row: one before the first step, then as a rule ``size``."""
        self.no_speech_prob = 0.0
        self.passes = 0
        self._search = search
        self._prompt = prompt
        self._tokens_max = tokens_max
        self._eot = eot
        # In single precision, as whisper adds them up: equal sums are then equal here.
        self._sums: list[np.float32] = [np.float32(0)]
        self._ended: list[Hypothesis] = []

    @property
    def n_cached(self) -> int:
        """Tokens of each row whose keys and values are there."""
        return 0 if self.passes == 0 else len(self._prompt) + self.passes - 1

    @property
    def feeds(self) -> list[list[int]]:
        """What each row is fed next: the prompt to the only one, then to ``size`` rows their last token."""
        if self.passes == 0:
            return [list(self._prompt)]
        n_idle = self._search.size - len(self.alive)
        return [[tokens[-1]] for tokens in self.alive] + [[self._eot]] * n_idle

    def advance(self, tokens: NDArray[np.int64], logprobs: NDArray[np.float32]) -> list[int] | None:
        """Take one step.

        Args:
            tokens: int64 (rows, size + 1), the likeliest after each row, best first.
            logprobs: float32, of the same shape.

        Returns:
            For each of the ``size`` rows to come, the row that it goes on from; None: the window has ended.
        """
        self.passes += 1
        offers = [
            (self._sums[row] + logprobs[row, i], row, int(tokens[row, i]))
            for row in range(len(self.alive))
            for i in range(tokens.shape[1])
            if logprobs[row, i] > -np.inf
        ]
        # Stable: of equal sums, the one offered first goes first.
        offers.sort(key=lambda offer: offer[0], reverse=True)
        alive, sums, sources = [], [], []
        for total, row, token in offers:
            if token == self._eot:
                self._end(self.alive[row], float(total))
                continue
            alive.append((*self.alive[row], token))
            sums.append(total)
            sources.append(row)
            if len(alive) == self._search.size:
                break
        self.alive, self._sums = alive, sums
        if len(self._ended) >= self._search.ended_max or not alive or len(alive[0]) == self._tokens_max:
            return None
        return sources + [0] * (self._search.size - len(sources))

    def _end(self, tokens: tuple[int, ...], logprob: float) -> None:
        if len(self._ended) < self._search.ended_max:
            self._ended.append(Hypothesis(tokens, logprob, is_whole=True))

    def best(self) -> Hypothesis:
        """What is said, once the window has ended."""
        found = list(self._ended)
        for row in np.argsort(self._sums)[::-1]:
            if len(found) >= self._search.size:
                break
            found.append(Hypothesis(self.alive[row], float(self._sums[row]), is_whole=False))
        return max(found, key=self._score, default=Hypothesis((), -np.inf, is_whole=False))

    def _score(self, hypothesis: Hypothesis) -> float:
        n_tokens, alpha = len(hypothesis.tokens), self._search.length_penalty
        return hypothesis.logprob / (n_tokens if alpha is None else ((5 + n_tokens) / 6) ** alpha)
