"""Beam search in several windows at once: a pass for all their hypotheses, until the last window ends.

What becomes of the hypotheses of one window is decided in ``engine.beams``.

Shapes: B rows, as many of each window; D model width.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stream_server.engine.beams import Beams
from stream_server.engine.cache import BatchCache
from stream_server.engine.network import PLACES_MAX, Network
from stream_server.engine.rules import Place, TokenRules, initial_steps, no_speech_probs


class BeamLoop:
    """Takes windows to the ends of their searches; used by one thread at a time.

    Args:
        network: Computes the passes.
        rules: Of its vocabulary.
        no_speech: The token whose probability is that of no speech.
    """

    def __init__(self, network: Network, rules: TokenRules, no_speech: int) -> None:
        self._network = network
        self._rules = rules
        self._no_speech = no_speech

    def run(self, windows: list[Beams], cache: BatchCache, size: int) -> int:
        """Search each window until it ends.

        Args:
            windows: In the cache's order, at least one; they are changed, and taken out as they end.
            cache: With room for ``size`` rows of each window, and no tokens yet.
            size: Hypotheses of a window.

        Returns:
            How many passes it took.
        """
        n_passes = 0
        hidden = self._feed(windows, cache)
        states = hidden[torch.arange(len(windows)), [window.sot_index for window in windows]]
        probs = no_speech_probs(self._network.logits(states), self._no_speech)
        for window, prob in zip(windows, probs, strict=True):
            window.no_speech_prob = prob
        # Prompts differ in length; afterwards each row feeds one token.
        x = hidden[torch.arange(len(windows)), [len(window.feeds[0]) - 1 for window in windows]]
        while True:
            tokens, logprobs = self._likeliest(x, windows, size + 1)
            sources: list[list[int] | None] = []
            n_rows = len(x) // len(windows)
            for i, window in enumerate(windows):
                rows = slice(i * n_rows, (i + 1) * n_rows)
                taken = window.advance(tokens[rows], logprobs[rows])
                sources.append(None if taken is None else [i * n_rows + row for row in taken])
            n_passes += 1
            kept = _close_up(windows, sources, cache)
            if not windows:
                return n_passes
            cache.gather(kept, max(window.n_cached for window in windows), size)
            x = self._feed(windows, cache)[:, 0]

    def _feed(self, windows: Sequence[Beams], cache: BatchCache) -> Tensor:
        feeds = [window.feeds for window in windows]
        starts = [window.n_cached for window, rows in zip(windows, feeds, strict=True) for _ in rows]
        return self._network.hidden([feed for rows in feeds for feed in rows], starts, cache)

    def _likeliest(
        self, x: Tensor, windows: Sequence[Beams], n_tokens: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The likeliest tokens after each of the rows (B, D), best first, and their log-probabilities."""
        places = [place for window in windows for place in self._places(window, len(x) // len(windows))]
        tokens, logprobs = [], []
        for start in range(0, len(x), PLACES_MAX):
            logits = self._network.logits(x[start : start + PLACES_MAX])
            self._rules.apply(logits, places[start : start + PLACES_MAX])
            best = F.log_softmax(logits, dim=-1).topk(n_tokens, dim=-1)
            tokens.append(best.indices.cpu().numpy())
            logprobs.append(best.values.cpu().numpy())
        return np.concatenate(tokens), np.concatenate(logprobs)

    def _places(self, window: Beams, n_rows: int) -> list[Place]:
        is_first = window.alive == [()]
        if not window.options.timestamps:
            return [Place(is_first, None)] * n_rows
        n_initial = initial_steps(window.options.initial_timestamp_s_max)
        bounds = [list(self._rules.stamp_bounds(tokens, n_initial))[-1] for tokens in window.alive]
        # A row without a hypothesis is predicted too, and its prediction left unread.
        bounds += bounds[:1] * (n_rows - len(bounds))
        return [Place(is_first, stamps) for stamps in bounds]


def _close_up(windows: list[Beams], sources: list[list[int] | None], cache: BatchCache) -> list[int]:
    """Take out the windows that have ended, whose sources are None; returns the sources of all rows left.

    The last ones take their places; of the cache only the audio moves, the rows are to be gathered.
    """
    for i in reversed([i for i, taken in enumerate(sources) if taken is None]):
        last, its_sources = windows.pop(), sources.pop()
        if i < len(windows):
            windows[i], sources[i] = last, its_sources
            cache.move_audio(len(windows), i)
    return [row for taken in sources for row in taken or ()]
