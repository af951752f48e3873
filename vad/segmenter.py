"""Turns one speech probability per frame into segments of speech, 2-5 s long while speech goes on.

The rules. Durations are ``SegmenterConfig`` values; defaults in brackets.

States. *Quiet*: no segment is open. *Speaking*: a segment is open and the last frame was speech. *Pausing*: a
segment is open and the last frame was not. A frame is speech if its probability is at least the enter
threshold (0.5) or, in an open segment, the exit threshold (0.35).

1. Opening. In quiet, a frame at or above the enter threshold starts an utterance and opens a segment. The
   segment starts up to the pre-roll (192 ms) earlier, but never inside the segment before it.
2. Pausing. When the silence since the last speech frame reaches the current pause (480 ms, shrinking to 320
   ms as the utterance grows from 2 to 5 s), the segment closes with PAUSE. It ends the post-roll (96 ms)
   after the last speech frame; the rest of the silence belongs to no segment, unless as pre-roll of the next.
   Such a segment may be shorter than 2 s. Frames below the sure threshold (0.2 above the enter threshold)
   that the speech ends with count as silence, too, as many as the fade has room for (96 ms); but
   the silence behind them is never less than the post-roll, or the pause where that is shorter.
3. Length. When a segment that did not close by rule 2 is 5 s long, it is cut at the best place of its last
   second, or at a breath before that, see ``vad.cut``, never before it is 2 s long. What follows the cut
   opens the next segment of the same utterance, without a gap; it begins the overlap (none) before the cut,
   or at the cut if that is at a breath. The first part closes with LENGTH.
4. Silent remainder. If no frame after that cut reaches the enter threshold, nothing is opened: the utterance
   ends as by rule 2, after the last speech frame and the post-roll. Silence is never sent, for a decoder
   invents text for it.
5. Flush and finish close an open segment at once, as rule 2 does, with FLUSH or END.

Every closing but LENGTH ends the utterance. It follows that every frame at or above the enter threshold lies
in exactly one segment, overlaps left out, and that every segment contains such a frame behind its overlap.

Nothing here reads a clock: the same probabilities, flushed at the same places, give the same events.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from vad.audio import frames_covering_ms, frames_within_ms
from vad.config import SegmenterConfig
from vad.cut import ChooseCut, choose_cut, is_breath
from vad.events import CloseReason, Event, SegmentClosed, SegmentGrew, SpeechStarted

_SURE_ABOVE_ENTER: Final = 0.2
"""So far above the enter threshold a frame is surely speech; below, it may be what the detector hears behind
it."""
_LATE_MS: Final = 1000
"""How far back from the limit a cut is looked for in fluent speech: two or three word borders."""
_BREATH_MS: Final = 3000
"""How far back from the limit a breath is looked for: the rest of what may be cut of 5 s."""
_N_LATE: Final = frames_within_ms(_LATE_MS)


@dataclass(slots=True)
class _OpenSegment:
    start_frame: int
    utterance_start_frame: int
    """Of the utterance's first segment."""
    last_speech_frame: int
    """By the exit threshold."""
    first_clear_frame: int
    """By the enter threshold, behind the overlap."""
    last_clear_frame: int
    """By the enter threshold."""
    last_sure_frame: int
    """By the sure threshold; before the first of them, the frame that opened the utterance."""


class Segmenter:
    """The segments of one session. Push the probability of every frame, in order, once.

    Not safe for use by two threads at once.

    Args:
        config: thresholds and durations.
        choose_cut: chooses the place of rule 3 instead of ``vad.cut.choose_cut``; called inside ``push``.
    """

    __slots__ = (
        "_choose_cut",
        "_config",
        "_fade",
        "_frames_max",
        "_is_finished",
        "_n_frames",
        "_next_segment",
        "_open",
        "_overlap",
        "_pause_by_age",
        "_post_roll",
        "_pre_roll",
        "_recent",
        "_sure_threshold",
        "_used_until",
    )

    def __init__(self, config: SegmenterConfig | None = None, choose_cut: ChooseCut | None = None) -> None:
        self._choose_cut = choose_cut
        self._config = config = config or SegmenterConfig()
        self._pre_roll = frames_within_ms(config.pre_roll_ms)
        self._post_roll = frames_within_ms(config.post_roll_ms)
        self._fade = frames_within_ms(config.fade_ms)
        self._sure_threshold = min(1.0, config.enter_threshold + _SURE_ABOVE_ENTER)
        self._overlap = frames_within_ms(config.overlap_ms)
        self._pause_by_age = config.pause_frames_by_age()
        self._frames_max = frames_within_ms(1000 * config.segment_s_max)
        frames_cuttable = self._frames_max - frames_covering_ms(1000 * config.segment_s_min)
        # The frames before which a cut may be made, no others: so a cut never comes too early.
        self._recent: deque[float] = deque(maxlen=min(frames_within_ms(_BREATH_MS), frames_cuttable))
        self._open: _OpenSegment | None = None
        self._used_until = 0  # The end of the last closed segment; no later one starts before it.
        self._next_segment = 0
        self._n_frames = 0
        self._is_finished = False

    @property
    def n_frames(self) -> int:
        """Frames pushed so far; the next one has this index."""
        return self._n_frames

    @property
    def is_open(self) -> bool:
        """Whether a segment is open, that is, an utterance has begun and not ended."""
        return self._open is not None

    @property
    def keep_from_frame(self) -> int:
        """The oldest frame that the open or any later segment may include; it never falls.

        Older audio may be discarded once that of the segments closed so far has been taken.
        """
        if self._open is not None:
            return self._open.start_frame
        return max(self._used_until, self._n_frames - self._pre_roll)

    def if_paused(self) -> SegmentClosed | None:
        """Return how the open segment closes if no more speech comes; None before its post-roll is complete.

        It is known some time before the pause is long enough.
        """
        segment = self._open
        if segment is None:
            return None
        n_silent = self._n_frames - 1 - segment.last_speech_frame
        if n_silent < max(1, self._post_roll):
            return None
        return self._closed(segment, self._end_of(segment), segment.last_speech_frame, CloseReason.PAUSE)

    def push(self, probability: float) -> list[Event]:
        """Take the speech probability of the next frame; return what it changes, in order.

        Raises:
            ValueError: ``probability`` is not between 0 and 1, or not a number; or the owner's ``choose_cut``
                chose a place it was not offered.
            RuntimeError: after ``finish``.
        """
        self._check_unfinished()
        if not 0.0 <= probability <= 1.0:
            raise ValueError("a probability must be between 0 and 1")
        start_frame_if_opened = self.keep_from_frame
        frame = self._n_frames
        self._n_frames += 1
        self._recent.append(probability)
        is_clear = probability >= self._config.enter_threshold
        if self._open is not None:
            return self._continue(self._open, frame, probability, is_clear)
        if not is_clear:
            return []
        self._open = _OpenSegment(start_frame_if_opened, start_frame_if_opened, frame, frame, frame, frame)
        return [SpeechStarted(frame), self._grew(self._open)]

    def flush(self) -> list[Event]:
        """Close the open segment, if any, and with it the utterance; later speech starts a new one.

        Raises:
            RuntimeError: after ``finish``.
        """
        self._check_unfinished()
        return [self._end_utterance(self._open, CloseReason.FLUSH)] if self._open else []

    def finish(self) -> list[Event]:
        """Close the open segment, if any: the session is over, and every later call is an error.

        Raises:
            RuntimeError: on a second call.
        """
        self._check_unfinished()
        self._is_finished = True
        return [self._end_utterance(self._open, CloseReason.END)] if self._open else []

    def _check_unfinished(self) -> None:
        if self._is_finished:
            raise RuntimeError("the segmenter is finished")

    def _continue(self, segment: _OpenSegment, frame: int, probability: float, is_clear: bool) -> list[Event]:
        if is_clear:
            segment.last_clear_frame = frame
        if probability >= self._config.exit_threshold:
            segment.last_speech_frame = frame
        if probability >= self._sure_threshold:
            segment.last_sure_frame = frame
        age = self._n_frames - segment.start_frame
        utterance_age = min(self._n_frames - segment.utterance_start_frame, self._frames_max)
        if frame - segment.last_speech_frame >= self._silence_needed(segment, utterance_age):
            return [self._end_utterance(segment, CloseReason.PAUSE)]
        if age == self._frames_max:
            return self._cut(segment)
        if frame > segment.last_speech_frame + self._post_roll:
            return []  # Silence past the post-roll: the segment would not end later for it.
        return [self._grew(segment)]

    def _silence_needed(self, segment: _OpenSegment, utterance_age: int) -> int:
        """Frames behind the last speech frame that end the utterance."""
        pause = self._pause_by_age[utterance_age]
        faded = min(self._fade, segment.last_speech_frame - segment.last_sure_frame)
        return max(pause - faded, min(pause, self._post_roll))

    def _cut(self, segment: _OpenSegment) -> list[Event]:
        """Apply rules 3 and 4 to a segment that has reached its limit."""
        # Behind the first clear frame, so that no part is without one.
        first_frame = max(self._n_frames - len(self._recent), segment.first_clear_frame + 1)
        recent = list(self._recent)[first_frame - self._n_frames :]
        index = self._choose_cut(recent, first_frame) if self._choose_cut else choose_cut(recent, _N_LATE)
        if not 0 <= index < len(recent):
            raise ValueError(f"a cut must be at a position from 0 to {len(recent) - 1}, not {index}")
        cut_frame = first_frame + index
        if segment.last_clear_frame < cut_frame:
            return [self._end_utterance(segment, CloseReason.PAUSE)]
        closed = self._close(segment, cut_frame, cut_frame - 1, CloseReason.LENGTH)
        self._open = _OpenSegment(
            cut_frame if is_breath(recent, index) else cut_frame - self._overlap,
            segment.utterance_start_frame,
            segment.last_speech_frame,
            next(i for i, p in enumerate(recent[index:], cut_frame) if p >= self._config.enter_threshold),
            segment.last_clear_frame,
            segment.last_sure_frame,
        )
        return [closed, self._grew(self._open)]

    def _end_utterance(self, segment: _OpenSegment, reason: CloseReason) -> SegmentClosed:
        return self._close(segment, self._end_of(segment), segment.last_speech_frame, reason)

    def _close(
        self, segment: _OpenSegment, end_frame: int, last_speech_frame: int, reason: CloseReason
    ) -> SegmentClosed:
        closed = self._closed(segment, end_frame, last_speech_frame, reason)
        self._open = None
        self._used_until = end_frame
        self._next_segment += 1
        return closed

    def _closed(
        self, segment: _OpenSegment, end_frame: int, last_speech_frame: int, reason: CloseReason
    ) -> SegmentClosed:
        return SegmentClosed(
            segment=self._next_segment,
            start_frame=segment.start_frame,
            end_frame=end_frame,
            last_speech_frame=last_speech_frame,
            reason=reason,
            utterance_end=reason is not CloseReason.LENGTH,
        )

    def _grew(self, segment: _OpenSegment) -> SegmentGrew:
        return SegmentGrew(self._next_segment, segment.start_frame, self._end_of(segment))

    def _end_of(self, segment: _OpenSegment) -> int:
        """Return where the segment would end if no more speech came: never beyond the frames pushed."""
        return min(segment.last_speech_frame + 1 + self._post_roll, self._n_frames)
