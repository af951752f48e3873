"""What holds for every track of probabilities, every configuration and every place of a flush."""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vad.config import SegmenterConfig
from vad.cut import ChooseCut
from vad.events import CloseReason, Event, SegmentClosed, SegmentGrew, SpeechStarted
from vad.segmenter import Segmenter


@dataclass(frozen=True)
class Session:
    """What a segmenter is told: probabilities, and the frames after which the client flushes."""

    config: SegmenterConfig
    probabilities: list[float]
    flushed_after: frozenset[int]
    cut_share: float | None = None
    """Where in the stretch offered the owner cuts, from 0 to 1; None leaves the choice to the segmenter."""


@dataclass
class Trace:
    """What it answered: the events of each push, and what was to be kept before it."""

    steps: list[list[Event]] = field(default_factory=list)
    keep_from: list[int] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [event for step in self.steps for event in step]

    @property
    def closed(self) -> list[SegmentClosed]:
        return [event for event in self.events if isinstance(event, SegmentClosed)]


@st.composite
def configs(draw: st.DrawFn) -> SegmenterConfig:
    if draw(st.booleans()):
        return SegmenterConfig()
    enter = draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))
    pause_ms = draw(st.sampled_from([64, 200, 480, 1_500]))
    segment_s_min = draw(st.sampled_from([1.0, 1.7, 2.0]))
    return SegmenterConfig(
        enter_threshold=enter,
        exit_threshold=draw(st.sampled_from([0.2, enter])) if enter > 0.2 else enter,
        pause_ms=pause_ms,
        pause_ms_min=draw(st.sampled_from([64, pause_ms])),
        pre_roll_ms=draw(st.sampled_from([0, 50, 192, 500])),
        post_roll_ms=draw(st.sampled_from([0, 192, 1_000])),
        fade_ms=draw(st.sampled_from([0, 96, 500])),
        segment_s_min=segment_s_min,
        segment_s_max=segment_s_min + draw(st.sampled_from([1.0, 1.3, 3.0])),
    )


@st.composite
def tracks(draw: st.DrawFn) -> list[float]:
    """Runs of a level with some noise, long enough to reach the limit, or free numbers."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.lists(st.floats(0, 1), max_size=300))
    levels = st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.35, 0.4, 0.49, 0.5, 0.9, 1.0])
    runs = draw(st.lists(st.tuples(levels, st.integers(1, 170)), max_size=12))
    noise = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clean = np.concatenate([np.full(length, level) for level, length in runs] or [np.empty(0)])
    return [float(p) for p in np.clip(clean + noise * rng.uniform(-1, 1, len(clean)), 0, 1)]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    probabilities = draw(tracks())
    flushes = draw(st.frozensets(st.integers(0, max(0, len(probabilities) - 1)), max_size=3))
    cut_share = draw(st.none() | st.sampled_from([0.0, 0.5, 1.0]))
    return Session(draw(configs()), probabilities, flushes, cut_share)


def chooser(share: float | None) -> ChooseCut | None:
    if share is None:
        return None
    return lambda probabilities, first_frame: int(share * (len(probabilities) - 1))


def drive(session: Session) -> Trace:
    segmenter, trace = Segmenter(session.config, chooser(session.cut_share)), Trace()
    for frame, probability in enumerate(session.probabilities):
        trace.keep_from.append(segmenter.keep_from_frame)
        trace.steps.append(segmenter.push(probability))
        if frame in session.flushed_after:
            trace.keep_from.append(segmenter.keep_from_frame)
            trace.steps.append(segmenter.flush())
    trace.keep_from.append(segmenter.keep_from_frame)
    trace.steps.append(segmenter.finish())
    return trace


def clear_frames(session: Session) -> list[int]:
    return [i for i, p in enumerate(session.probabilities) if p >= session.config.enter_threshold]


check = settings(max_examples=150)


@check
@given(sessions())
def test_segments_are_numbered_from_zero_ordered_and_do_not_overlap(session: Session) -> None:
    segments = drive(session).closed
    assert [segment.segment for segment in segments] == list(range(len(segments)))
    borders = [border for segment in segments for border in (segment.start_frame, segment.end_frame)]
    assert borders == sorted(borders)
    assert all(0 <= segment.start_frame < segment.end_frame for segment in segments)
    assert not borders or borders[-1] <= len(session.probabilities)


@check
@given(sessions())
def test_a_segment_closes_as_foretold_unless_speech_goes_on(session: Session) -> None:
    segmenter = Segmenter(session.config, chooser(session.cut_share))
    foretold: SegmentClosed | None = None
    for probability in session.probabilities:
        for event in segmenter.push(probability):
            # A segment of the full length may close at a frame of murmur, too.
            if isinstance(event, SegmentClosed) and probability < session.config.exit_threshold:
                is_cut = event.reason is CloseReason.LENGTH
                assert is_cut or foretold in (None, event)
        foretold = segmenter.if_paused()


@check
@given(sessions())
def test_no_segment_is_longer_than_the_limit(session: Session) -> None:
    limit = math.floor(session.config.segment_s_max * 1000 / 32)
    assert all(segment.end_frame - segment.start_frame <= limit for segment in drive(session).closed)


@check
@given(sessions())
def test_only_a_pause_a_flush_or_the_end_makes_a_segment_short(session: Session) -> None:
    shortest = math.ceil(session.config.segment_s_min * 1000 / 32)
    for segment in drive(session).closed:
        assert segment.end_frame - segment.start_frame >= shortest or segment.reason is not CloseReason.LENGTH


@check
@given(sessions())
def test_every_clear_speech_frame_lies_in_exactly_one_segment(session: Session) -> None:
    segments = drive(session).closed
    for frame in clear_frames(session):
        assert sum(segment.start_frame <= frame < segment.end_frame for segment in segments) == 1


@check
@given(sessions())
def test_every_segment_contains_clear_speech(session: Session) -> None:
    clear = clear_frames(session)
    for segment in drive(session).closed:
        assert any(segment.start_frame <= frame < segment.end_frame for frame in clear)
        assert segment.start_frame <= segment.last_speech_frame < segment.end_frame


@check
@given(sessions())
def test_every_utterance_has_one_start_and_one_end(session: Session) -> None:
    marks = []
    for event in drive(session).events:
        if isinstance(event, SpeechStarted):
            marks.append("start")
        elif isinstance(event, SegmentClosed) and event.utterance_end:
            marks.append("end")
    assert marks == ["start", "end"] * (len(marks) // 2)


@check
@given(sessions())
def test_an_utterance_starts_with_the_first_clear_frame_of_its_first_segment(session: Session) -> None:
    clear = clear_frames(session)
    events = drive(session).events
    for before, after in pairwise(events):
        if isinstance(before, SpeechStarted):
            assert isinstance(after, SegmentGrew)
            assert before.frame == min(frame for frame in clear if frame >= after.start_frame)


@check
@given(sessions())
def test_segments_of_one_utterance_join_without_a_gap(session: Session) -> None:
    segments = drive(session).closed
    for before, after in pairwise(segments):
        assert before.utterance_end or before.end_frame == after.start_frame


@check
@given(sessions())
def test_only_a_cut_for_length_leaves_the_utterance_open(session: Session) -> None:
    for segment in drive(session).closed:
        assert segment.utterance_end is (segment.reason is not CloseReason.LENGTH)


@check
@given(sessions())
def test_a_segment_grows_once_per_push_from_a_fixed_start_within_the_limit(session: Session) -> None:
    limit = math.floor(session.config.segment_s_max * 1000 / 32)
    trace = drive(session)
    last: dict[int, SegmentGrew] = {}
    for step in trace.steps:
        grown = [event for event in step if isinstance(event, SegmentGrew)]
        assert len(grown) <= 1
        for event in grown:
            assert event.end_frame - event.start_frame <= limit
            if event.segment in last:
                assert last[event.segment].start_frame == event.start_frame
                assert last[event.segment].end_frame < event.end_frame
            last[event.segment] = event
    assert {s.segment: s.start_frame for s in trace.closed} == {n: g.start_frame for n, g in last.items()}


@check
@given(sessions())
def test_what_was_given_up_is_never_asked_for_again(session: Session) -> None:
    trace = drive(session)
    assert trace.keep_from == sorted(trace.keep_from)
    for keep_from, step in zip(trace.keep_from, trace.steps, strict=True):
        for event in step:
            if not isinstance(event, SpeechStarted):
                assert event.start_frame >= keep_from


@check
@given(sessions())
def test_the_same_input_gives_the_same_events(session: Session) -> None:
    assert drive(session).steps == drive(session).steps


@check
@given(sessions(), st.integers(0, 300))
def test_the_future_changes_nothing_already_reported(session: Session, n_frames: int) -> None:
    shorter = replace(session, probabilities=session.probabilities[:n_frames])
    steps = drive(shorter).steps[:-1]
    assert drive(session).steps[: len(steps)] == steps


def _is_long_enough(
    config: SegmenterConfig, pause: int, frame: int, last_speech: int, last_sure: int
) -> bool:
    """Whether nothing was surely heard for the pause, but for the fade, and nothing at all for a while."""
    counted_from = max(last_sure, last_speech - math.floor(config.fade_ms / 32))
    least = min(pause, math.floor(config.post_roll_ms / 32))
    return frame - counted_from >= pause and frame - last_speech >= least


@check
@given(sessions())
def test_an_utterance_ends_by_the_silence_that_its_age_asks_for_neither_before_nor_after(
    session: Session,
) -> None:
    config, pauses = session.config, session.config.pause_frames_by_age()
    segmenter = Segmenter(config, chooser(session.cut_share))
    utterance_start = segment_start = last_speech = last_sure = 0
    for frame, probability in enumerate(session.probabilities):
        was_open = segmenter.is_open
        events = segmenter.push(probability)
        if not was_open and segmenter.is_open:
            [grew] = [event for event in events if isinstance(event, SegmentGrew)]
            utterance_start = segment_start = grew.start_frame
            last_sure = frame
        if probability >= (config.exit_threshold if was_open else config.enter_threshold):
            last_speech = frame
        if probability >= min(1.0, config.enter_threshold + 0.2):
            last_sure = frame
        age = min(frame + 1 - utterance_start, len(pauses) - 1)
        if segmenter.is_open:
            assert not _is_long_enough(config, pauses[age], frame, last_speech, last_sure)
        for event in events:
            is_at_limit = frame + 1 - segment_start == len(pauses) - 1
            if isinstance(event, SegmentClosed) and event.utterance_end and not is_at_limit:
                assert _is_long_enough(config, pauses[age], frame, last_speech, last_sure)
            segment_start = event.start_frame if isinstance(event, SegmentGrew) else segment_start
        if frame in session.flushed_after:
            segmenter.flush()
