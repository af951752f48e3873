"""Voice activity detection: the speech in a stream of audio, in segments a recogniser can decode.

``Framer`` cuts samples into frames, ``vad.model.SileroVad`` scores frames, ``Segmenter`` turns scores into
events. Importing ``vad`` does not import torch; only ``vad.model`` does.
"""

from vad.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from vad.config import SegmenterConfig
from vad.events import CloseReason, Event, SegmentClosed, SegmentGrew, SpeechStarted
from vad.framing import Framer
from vad.recording import segment_recording
from vad.segmenter import Segmenter
from vad.states import VadStates

__all__ = [
    "FRAME_SAMPLES",
    "SAMPLE_RATE_HZ",
    "CloseReason",
    "Event",
    "Framer",
    "SegmentClosed",
    "SegmentGrew",
    "Segmenter",
    "SegmenterConfig",
    "SpeechStarted",
    "VadStates",
    "segment_recording",
]
