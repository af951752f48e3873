"""Segments a whole recording at once: framing, scoring and segmenting as a live session does them."""

from typing import Protocol

import numpy as np

from vad.audio import Float32Array, Int16Array, int16_to_float32
from vad.config import SegmenterConfig
from vad.events import Event, SegmentClosed
from vad.framing import Framer
from vad.segmenter import Segmenter


class StreamScorer(Protocol):
    """What scores a recording; ``vad.model.SileroVad`` is one."""

    def score_stream(self, frames: Float32Array) -> Float32Array:
        """Return the speech probabilities, float32 (k,), of one stream's frames, float32 (k, 512)."""
        ...


def segment_recording(
    samples: Int16Array, scorer: StreamScorer, config: SegmenterConfig | None = None
) -> list[SegmentClosed]:
    """Return the segments of a recording, int16 (n,) at 16 kHz.

    The last frame is padded with zeros, so a segment may end up to 511 samples after the recording does.
    """
    framer = Framer()
    frames = np.concatenate((framer.push(samples), framer.finish()))
    segmenter = Segmenter(config)
    events: list[Event] = []
    for probability in scorer.score_stream(int16_to_float32(frames)):
        events += segmenter.push(float(probability))
    events += segmenter.finish()
    return [event for event in events if isinstance(event, SegmentClosed)]
