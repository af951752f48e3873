"""Segmenting a whole recording, with a scorer that hears loudness."""

import numpy as np

from vad.audio import Float32Array, Int16Array
from vad.config import SegmenterConfig
from vad.events import CloseReason, SegmentClosed
from vad.recording import segment_recording


class LoudnessScorer:
    """Scores a frame 1 when its first sample is not zero."""

    def score_stream(self, frames: Float32Array) -> Float32Array:
        return (frames[:, 0] != 0).astype(np.float32)


def recording(*parts: tuple[int, int]) -> Int16Array:
    """Join parts of (number of samples, value)."""
    return np.concatenate([np.full(n_samples, value, dtype=np.int16) for n_samples, value in parts])


def test_a_recording_is_framed_scored_and_segmented() -> None:
    samples = recording((20 * 512, 0), (40 * 512, 9_000), (30 * 512, 0), (40 * 512 + 1, 9_000))
    assert segment_recording(samples, LoudnessScorer()) == [
        SegmentClosed(0, 14, 63, 59, CloseReason.PAUSE, utterance_end=True),
        SegmentClosed(1, 84, 131, 130, CloseReason.END, utterance_end=True),
    ]


def test_the_given_settings_are_used() -> None:
    samples = recording((20 * 512, 0), (40 * 512, 9_000))
    segments = segment_recording(samples, LoudnessScorer(), SegmenterConfig(pre_roll_ms=0))
    assert segments[0].start_frame == 20


def test_an_empty_recording_has_no_segments() -> None:
    assert segment_recording(recording((0, 0)), LoudnessScorer()) == []
