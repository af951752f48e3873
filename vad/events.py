"""What a ``Segmenter`` reports. Values only: the audio stays with whoever pushed it.

Frames are indices counted from the first frame of the session; ranges are half open, ``[start, end)``.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class CloseReason(Enum):
    """Why a segment was closed."""

    PAUSE = "pause"
    """The speaker was silent long enough."""

    LENGTH = "length"
    """The segment reached its limit while speech went on; the next segment follows without a gap, and begins
    the overlap earlier unless it was cut at a breath."""

    FLUSH = "flush"
    """The owner asked for it."""

    END = "end"
    """The session ended."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began; exactly one ``SegmentClosed`` with ``utterance_end`` follows before the next."""

    frame: int
    """The first speech frame, not the pre-roll before it."""


@dataclass(frozen=True, slots=True)
class SegmentGrew:
    """The open segment covers more audio than before; at most one per pushed frame."""

    segment: int
    start_frame: int
    end_frame: int


@dataclass(frozen=True, slots=True)
class SegmentClosed:
    """A segment is complete: its range never changes again.

    Take its audio before discarding any: ``Segmenter.keep_from_frame`` speaks of later segments only.
    """

    segment: int
    """Rises by one from 0 within a session, over all utterances."""

    start_frame: int
    end_frame: int

    last_speech_frame: int
    """The last frame that counted as speech; the rest is the fading end. With ``LENGTH``, the frame before
    the
    cut: speech goes on."""

    reason: CloseReason

    utterance_end: bool
    """This was the utterance's last segment."""


Event: TypeAlias = SpeechStarted | SegmentGrew | SegmentClosed
