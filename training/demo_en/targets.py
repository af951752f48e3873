"""Whisper's own format for what a window shall say, with the times that the side losses use. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import FRAME_S, Stage
from .dataset import NO_SPAN
from .vocabulary import Vocabulary
from .windows import Window

IGNORE = -100
_WRONG_INPUTS = 0.1
"""Share of input tokens replaced by others, so that the decoder listens rather than completes."""


@dataclass(slots=True)
class Row:
    """Decoder input and what must follow each token; spans in seconds, (-1, -1) where nothing is heard."""

    inputs: list[int]
    targets: list[int]
    spans: list[tuple[float, float]]


def make(
    window: Window, prompt: np.ndarray | None, stage: Stage, vocabulary: Vocabulary, rng: np.random.Generator
) -> Row:
    """Return the row for a window, with or without timestamps and previous text as the stage's dice fall."""
    timed = rng.random() < stage.p_timestamps
    if not window.heard:
        row = _nothing(vocabulary, timed)
    else:
        row = _timed(window, vocabulary) if timed else _plain(window, vocabulary)
        _disturb_inputs(row, vocabulary, rng)
    if prompt is None:
        return row
    # A user's previous text has words that the corpus has not.
    prompt = np.where(rng.random(len(prompt)) < 0.05, vocabulary.unknown, prompt)
    return _with_prompt(row, prompt, vocabulary)


def phone_frames(window: Window, n_frames: int) -> np.ndarray:
    """Return the phone class at the middle of each encoder position: int64 (n_frames,), or IGNORE."""
    labels = np.full(n_frames, IGNORE, np.int64)
    for rows in window.phones:
        starts, ends = (np.round(rows[:, c] / FRAME_S - 0.5).astype(int) for c in (1, 2))
        for phone, start, end in zip(rows[:, 0].astype(int), starts, ends, strict=True):
            labels[max(start, 0) : max(end, 0)] = phone if phone >= 0 else IGNORE
    return labels


def _plain(window: Window, v: Vocabulary) -> Row:
    tokens = np.concatenate([heard.tokens for heard in window.heard]).tolist()
    spans = [tuple(span) for heard in window.heard for span in heard.token_s.tolist()]
    return Row(
        [v.start, v.no_timestamps, *tokens],
        [v.no_timestamps, *tokens, v.end],
        [NO_SPAN, *spans, NO_SPAN],
    )


def _timed(window: Window, v: Vocabulary) -> Row:
    """Put every utterance between the timestamps of its first and last word."""
    tokens: list[int] = []
    spans: list[tuple[float, float]] = []
    for heard in window.heard:
        tokens += [v.timestamp(heard.start_s), *heard.tokens.tolist(), v.timestamp(heard.end_s)]
        # A timestamp looks at the edge that it names.
        edges = [(t - 0.04, t + 0.04) for t in (heard.start_s, heard.end_s)]
        spans += [edges[0], *(tuple(s) for s in heard.token_s.tolist()), edges[1]]
    return Row([v.start, *tokens], [*tokens, v.end], [*spans, NO_SPAN])


def _nothing(v: Vocabulary, timed: bool) -> Row:
    """No speech: Whisper says so right after the start; whoever forces it on must get an empty text."""
    forced = v.timestamp(0.0) if timed else v.no_timestamps
    return Row([v.start, forced], [v.no_speech, v.end], [NO_SPAN, NO_SPAN])


def _with_prompt(row: Row, prompt: np.ndarray, v: Vocabulary) -> Row:
    """Put previous text in front; nothing is learned from it."""
    before = [v.previous, *prompt.tolist()]
    return Row(
        before + row.inputs,
        [IGNORE] * len(before) + row.targets,
        [NO_SPAN] * len(before) + row.spans,
    )


def _disturb_inputs(row: Row, v: Vocabulary, rng: np.random.Generator) -> None:
    for k, token in enumerate(row.inputs):
        if token < v.n_text and rng.random() < _WRONG_INPUTS:
            row.inputs[k] = v.unknown if rng.random() < 0.2 else int(rng.integers(v.n_text))
