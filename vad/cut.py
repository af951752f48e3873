"""Chooses where to cut running speech, from nothing but speech probabilities.

A probability tells how much a frame sounds like speech, not where words end; its deepest dip is the likeliest
gap between words. In fluent speech it often stays near 1 from word to word, and then any place is as good. A
single low frame is often the closure of a plosive inside a word, a run of low frames rarely is: so the
probabilities are smoothed over 160 ms first, longer than a closure (about 100 ms).

A *breath* is a dip so deep that nobody speaks there. A cut at one harms no word, and what begins behind it
mostly begins a sentence or a phrase.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

ChooseCut: TypeAlias = Callable[[Sequence[float], int], int]
"""A choice by whoever knows more, such as the audio or word times: maps the probabilities of consecutive
frames, and the session's index of the first of them, to the position in the sequence before which to cut."""

_REACH_FRAMES: Final = 2
"""Frames on either side over which a probability is averaged: 5 frames, 160 ms in all."""

_BREATH: Final = 0.5
"""A smoothed probability below it is a breath's."""

_DIGITS: Final = 5
"""Scores of one frame differ by up to a millionth with the batch around it; that must not move a cut."""


def choose_cut(probabilities: Sequence[float], n_late: int) -> int:
    """Return the index before which to cut: the lowest smoothed probability, the latest of equals.

    The latest, because longer segments give the decoder more context; for the same reason only breaths are
    looked for before the last frames. At the edges the average is taken over the frames that are there.

    Args:
        probabilities: speech probabilities of consecutive frames, at least one.
        n_late: how many of the last ones may be cut at without a breath, at least one.
    """
    best, best_probability = 0, float("inf")
    for index in range(len(probabilities)):
        smoothed = _smoothed(probabilities, index)
        is_offered = smoothed < _BREATH or index >= len(probabilities) - n_late
        if is_offered and smoothed <= best_probability:
            best, best_probability = index, smoothed
    return best


def is_breath(probabilities: Sequence[float], index: int) -> bool:
    """Whether nobody speaks around a place in the probabilities of consecutive frames."""
    return _smoothed(probabilities, index) < _BREATH


def _smoothed(probabilities: Sequence[float], index: int) -> float:
    around = probabilities[max(0, index - _REACH_FRAMES) : index + _REACH_FRAMES + 1]
    return round(sum(around) / len(around), _DIGITS)
