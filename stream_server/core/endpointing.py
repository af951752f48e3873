"""Where a session's utterances end: what a client may choose. Pure.

The length of segments, 2 to 5 s while speech goes on, is the server's alone: it bounds the work of the
engine and when captions come.
"""

from dataclasses import dataclass, replace

from stream_server.errors import BadMessage, NotSupported
from vad.config import PRESETS, SegmenterConfig

SILENCE_MS = (64.0, 5_000.0)
SPEECH_THRESHOLD = (0.05, 0.95)
HYSTERESIS = 0.15
"""Begun speech goes on this far below the threshold at which it begins: Silero's own choice."""


@dataclass(frozen=True, slots=True)
class Endpointing:
    """What a client wants; None leaves a value to the preset, and the preset to the server.

    Raises:
        NotSupported: There is no such preset; names those there are.
        BadMessage: A value is out of its bounds; names both.
    """

    preset: str | None = None
    silence_ms: float | None = None
    """Silence that ends a young utterance."""
    silence_ms_min: float | None = None
    """Silence that ends an utterance as old as the longest segment."""
    speech_threshold: float | None = None
    """Probability at which speech begins."""

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            raise NotSupported(f"start.endpointing.preset must be one of {', '.join(PRESETS)}")
        _require("silence_ms", self.silence_ms, SILENCE_MS)
        longest = SILENCE_MS[1] if self.silence_ms is None else self.silence_ms
        _require("silence_ms_min", self.silence_ms_min, (SILENCE_MS[0], longest))
        _require("speech_threshold", self.speech_threshold, SPEECH_THRESHOLD)


def _require(name: str, value: float | None, bounds: tuple[float, float]) -> None:
    low, high = bounds
    # Written so that NaN, which compares false with everything, is refused too.
    if value is not None and not low <= value <= high:
        raise BadMessage(f"start.endpointing.{name} must be between {low:g} and {high:g}, not {value:g}")


def segmenter_config(server: SegmenterConfig, wanted: Endpointing | None) -> SegmenterConfig:
    """The settings of one session.

    Args:
        server: What holds for who wants nothing else; its segment lengths hold for all.
        wanted: Of the client. Where it sets one of the two silences and not the other, they keep their
            order.
    """
    if wanted is None:
        return server
    base = server
    if wanted.preset is not None:
        base = replace(
            PRESETS[wanted.preset],
            segment_s_min=server.segment_s_min,
            segment_s_max=server.segment_s_max,
            overlap_ms=server.overlap_ms,
        )
    pause_ms = base.pause_ms if wanted.silence_ms is None else wanted.silence_ms
    if wanted.silence_ms_min is None:
        pause_ms_min = min(base.pause_ms_min, pause_ms)
    else:
        pause_ms_min = wanted.silence_ms_min
        pause_ms = max(pause_ms, pause_ms_min)
    enter, exit_ = base.enter_threshold, base.exit_threshold
    if wanted.speech_threshold is not None:
        enter = wanted.speech_threshold
        exit_ = max(0.01, enter - HYSTERESIS)
    return replace(
        base, pause_ms=pause_ms, pause_ms_min=pause_ms_min, enter_threshold=enter, exit_threshold=exit_
    )
