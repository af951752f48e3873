"""From utterances to windows: what one row of a batch hears, and what it shall say about it. Pure.

A window is one utterance, or several in running speech, perhaps cut at a word's edge, disturbed, with some
silence around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import augment, sounds
from .config import SAMPLE_RATE_HZ, Stage
from .dataset import Dataset, Sample

_SPEED = (0.88, 1.14)
_WORDS_MIN_WHEN_CUT = 3


@dataclass(slots=True)
class Heard:
    """One utterance within a window; times in seconds from the window's first sample."""

    tokens: np.ndarray
    token_s: np.ndarray
    start_s: float
    end_s: float


@dataclass(slots=True)
class Window:
    """Samples float32 (n,) and what is heard in them."""

    samples: np.ndarray
    heard: list[Heard] = field(default_factory=list)
    phones: list[np.ndarray] = field(default_factory=list)
    """Arrays of [class, start_s, end_s] rows, float32 (m, 3)"""


@dataclass(slots=True)
class _Piece:
    """An utterance after change of speed and cutting."""

    samples: np.ndarray
    tokens: np.ndarray
    token_s: np.ndarray
    phones: np.ndarray
    cut_start: bool = False
    cut_end: bool = False


def make(
    dataset: Dataset,
    chosen: list[Sample],
    stage: Stage,
    rng: np.random.Generator,
    other: Callable[[], Sample],
) -> Window:
    """Build the window that holds the chosen utterances; ``other`` gives a talker for the background."""
    pieces = [_piece(dataset, sample, stage, rng) for sample in chosen]
    window = _join(pieces, rng)
    babble = None
    if rng.random() < 0.15:
        babble = np.resize(dataset.audio(other()), len(window.samples))
    window.samples = augment.disturb(window.samples, stage, rng, babble)
    return window


def without_speech(seconds: float, rng: np.random.Generator) -> Window:
    """Return a window in which nobody speaks."""
    return Window(sounds.draw(int(seconds * SAMPLE_RATE_HZ), rng))


def _piece(dataset: Dataset, sample: Sample, stage: Stage, rng: np.random.Generator) -> _Piece:
    audio = dataset.audio(sample)
    factor = 1.0
    if rng.random() < stage.p_speed:
        factor = float(rng.uniform(*_SPEED))
        audio = augment.change_speed(audio, factor)
    ends = sample.phone_end_s / factor
    starts = np.concatenate(([0.0], ends[:-1])) if len(ends) else ends
    phones = np.stack([sample.phones.astype(np.float32), starts, ends], axis=1).astype(np.float32)
    spans = np.where(sample.token_s < 0, -1.0, sample.token_s / factor).astype(np.float32)
    piece = _Piece(audio, sample.tokens, spans, phones)
    return _cut(piece, sample.word_of, rng) if rng.random() < stage.p_cut else piece


def _cut(piece: _Piece, word_of: np.ndarray, rng: np.random.Generator) -> _Piece:
    """Begin or end the piece at the edge of a word, as a window in running speech does."""
    n_words = int(word_of[-1]) + 1
    if n_words < 2 * _WORDS_MIN_WHEN_CUT:
        return piece
    first, last = 0, n_words
    if rng.random() < 0.5:
        first = int(rng.integers(1, n_words - _WORDS_MIN_WHEN_CUT))
    else:
        last = int(rng.integers(_WORDS_MIN_WHEN_CUT, n_words))
    keep = (word_of >= first) & (word_of < last)
    heard = keep & (piece.token_s[:, 0] >= 0)
    start_s = float(piece.token_s[heard, 0].min()) if first else 0.0
    length_s = len(piece.samples) / SAMPLE_RATE_HZ
    end_s = float(piece.token_s[heard, 1].max()) if last < n_words else length_s
    samples = piece.samples[int(start_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)]
    phones = piece.phones - np.array([0, start_s, start_s], np.float32)
    phones = phones[(phones[:, 2] > 0) & (phones[:, 1] < end_s - start_s)]
    spans = np.where(piece.token_s < 0, -1.0, piece.token_s - start_s)[keep].astype(np.float32)
    return _Piece(samples, piece.tokens[keep], spans, phones, first > 0, last < n_words)


def _join(pieces: list[_Piece], rng: np.random.Generator) -> Window:
    """Put pieces one after the other with pauses; a cut edge stands at the window's edge."""
    at_s = 0.0 if pieces[0].cut_start else float(rng.uniform(0.0, 0.4))
    parts: list[np.ndarray] = [np.zeros(int(at_s * SAMPLE_RATE_HZ), np.float32)]
    window = Window(parts[0])
    for k, piece in enumerate(pieces):
        at_s = sum(len(part) for part in parts) / SAMPLE_RATE_HZ
        window.heard.append(_shift(piece, at_s))
        window.phones.append(piece.phones + np.array([0, at_s, at_s], np.float32))
        is_last = k == len(pieces) - 1
        pause_s = 0.0 if is_last and piece.cut_end else float(rng.uniform(0.05, 0.5 if is_last else 0.9))
        level = 1.0 if len(pieces) == 1 else float(rng.uniform(0.6, 1.0))
        parts += [piece.samples * level, np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
    window.samples = np.concatenate(parts)
    return window


def _shift(piece: _Piece, by_s: float) -> Heard:
    spans = np.where(piece.token_s < 0, -1.0, piece.token_s + by_s).astype(np.float32)
    voiced = spans[spans[:, 0] >= 0]
    end_s = by_s + len(piece.samples) / SAMPLE_RATE_HZ
    if not len(voiced):
        return Heard(piece.tokens, spans, by_s, end_s)
    return Heard(piece.tokens, spans, float(voiced[:, 0].min()), float(voiced[:, 1].max()))
