"""What a synthesiser gives back, and the arithmetic of its timings. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .numerals import Chunk


class MissingSynthesiser(RuntimeError):
    """A synthesiser is not installed; the message names the Debian package."""


@dataclass(slots=True)
class Reading:
    """A sentence as it was read: samples, phones and the times of the *spoken* words."""

    samples: np.ndarray
    """int16 (n,), 16 kHz"""
    phones: list[tuple[str, int]]
    """Phone and its end in ms."""
    spoken_ms: list[tuple[int, int]]
    """Start and end of each spoken word, in ms."""


def spoken_words(chunks: list[Chunk]) -> list[str]:
    """Return the words that the synthesiser is given, punctuation attached."""
    return [word for _, spoken in chunks for word in spoken.split()]


def written_times(chunks: list[Chunk], spoken_ms: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return start and end of each written word: from its first to its last spoken word."""
    times, at = [], 0
    for _, spoken in chunks:
        n = len(spoken.split())
        times.append((spoken_ms[at][0], spoken_ms[at + n - 1][1]))
        at += n
    return times


def fill_gaps(spans: list[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Give every word without a time of its own a share of the word before it, or of the next one."""
    done: list[tuple[int, int]] = []
    for k, span in enumerate(spans):
        if span is not None:
            done.append(span)
        elif done:
            start, end = done[-1]
            middle = (start + end) // 2
            done[-1] = (start, middle)
            done.append((middle, end))
        else:
            following = next((s for s in spans[k:] if s is not None), (0, 0))
            done.append((following[0], following[0]))
    return done
