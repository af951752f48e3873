"""How speech is cut into segments: thresholds and durations, checked when they are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vad.audio import frame_to_ms, frames_covering_ms, frames_within_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """Settings of a ``Segmenter``.

    The silence that ends an utterance depends on its age: ``pause_ms`` up to an age of ``segment_s_min``,
    then in a straight line down to ``pause_ms_min`` at ``segment_s_max``, and so from there on. A short
    "yes, …" may take breath; a long utterance is better ended at a short pause than cut inside a word.

    The pauses inside the sentences of the included recordings last up to 224 ms and the gaps between
    utterances at least 800 ms, in between the defaults; lower pauses caption sooner and split more often.

    Raises:
        ValueError: a value is out of its range; the message names the key and the range.
    """

    enter_threshold: float = 0.5
    """Speech begins at this probability."""

    exit_threshold: float = 0.35
    """Begun speech goes on down to this probability."""

    pause_ms: float = 480
    """Silence that ends a young utterance."""

    pause_ms_min: float = 320
    """Silence that ends an utterance that is ``segment_s_max`` old or older."""

    fade_ms: float = 96
    """At most so much of the pause may lie before the last speech frame, behind the last that was surely
    speech: a detector hears speech some 80 ms longer than it lasts, in noise 200 ms. It shortens no pause to
    less than the post-roll; 0 counts every pause from the last speech frame."""

    pre_roll_ms: float = 192
    """Audio before the first speech frame that a segment includes: soft onsets score low."""

    post_roll_ms: float = 96
    """Audio after the last speech frame that a segment includes: endings fade below the threshold."""

    segment_s_min: float = 2.0
    """The earliest place for a cut while speech goes on. A pause may end a shorter segment."""

    segment_s_max: float = 5.0
    """No segment lasts longer, pre-roll and overlap included."""

    overlap_ms: float = 0
    """Audio before a cut that the next segment begins with, for owners who join what both say of it; none
    where the cut is at a breath."""

    def __post_init__(self) -> None:
        """Check every value against its range."""
        _require("enter_threshold", self.enter_threshold, 0.01, 1.0)
        _require("exit_threshold", self.exit_threshold, 0.01, self.enter_threshold)
        _require("pause_ms", self.pause_ms, 64, 5_000)
        _require("pause_ms_min", self.pause_ms_min, 64, self.pause_ms)
        _require("fade_ms", self.fade_ms, 0, 500)
        _require("pre_roll_ms", self.pre_roll_ms, 0, 500)
        _require("post_roll_ms", self.post_roll_ms, 0, 1_000)
        # One second is more than the longest pre-roll, so that speech lies before any cut. 30 s is what
        # Whisper decodes at once.
        _require("segment_s_min", self.segment_s_min, 1.0, 29.0)
        _require("segment_s_max", self.segment_s_max, self.segment_s_min + 1.0, 30.0)
        # Less than the shortest segment, so that each cut lies behind the one before.
        _require("overlap_ms", self.overlap_ms, 0, min(2_000, 1_000 * self.segment_s_min - 200))

    def pause_frames_by_age(self) -> tuple[int, ...]:
        """Return the pause that ends an utterance, in frames, indexed by the utterance's age in frames.

        Ages run from 0 to the longest segment, whose pause holds for all older utterances; the caller
        computes this once.
        """
        n_ages = frames_within_ms(1000 * self.segment_s_max) + 1
        return tuple(frames_covering_ms(self._pause_ms_at(frame_to_ms(age))) for age in range(n_ages))

    def _pause_ms_at(self, age_ms: float) -> float:
        shrink_start_ms = 1000 * self.segment_s_min
        shrink_ms = 1000 * (self.segment_s_max - self.segment_s_min)
        share = min(1.0, max(0.0, (age_ms - shrink_start_ms) / shrink_ms))
        return self.pause_ms + share * (self.pause_ms_min - self.pause_ms)


def _require(key: str, value: float, low: float, high: float) -> None:
    # Written so that NaN, which compares false with everything, is refused too.
    if not low <= value <= high:
        raise ValueError(f"{key} must be between {low:g} and {high:g}, not {value:g}")


PRESETS: Final[Mapping[str, SegmenterConfig]] = {
    "captions": SegmenterConfig(),
    # People who dictate stop to think: an utterance is a sentence, not a breath.
    "dictation": SegmenterConfig(pause_ms=1_000, pause_ms_min=700),
    # Turns follow each other fast and both parties wait for the answer; a narrow band scores lower.
    "telephone": SegmenterConfig(enter_threshold=0.4, exit_threshold=0.25, pause_ms=400, pause_ms_min=288),
    # Far microphones: murmurs and chairs must not open an utterance, and echo lets endings fade slowly.
    "conference-room": SegmenterConfig(
        enter_threshold=0.6,
        exit_threshold=0.4,
        pause_ms=640,
        pause_ms_min=400,
        pre_roll_ms=256,
        post_roll_ms=256,
    ),
}
"""Settings by situation. All but ``captions`` are starting points chosen by reasons, not by measurements."""
