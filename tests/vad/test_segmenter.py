"""Rules of the segmenter, one by one; its invariants are in test_segmenter_properties.py."""

import math
from collections.abc import Sequence

import pytest

from vad.config import SegmenterConfig
from vad.events import CloseReason, Event, SegmentClosed, SegmentGrew, SpeechStarted
from vad.segmenter import Segmenter

# 32 ms each. With these settings: pre-roll and post-roll 6 frames, pause 15, limit 156, no fade.
RULES = SegmenterConfig(post_roll_ms=192, fade_ms=0)
QUIET = [0.02]
SPEECH = [0.9]
MURMUR = [0.4]  # Between the thresholds.


def drive(probabilities: list[float], segmenter: Segmenter | None = None) -> list[Event]:
    segmenter = segmenter or Segmenter(RULES)
    return [event for probability in probabilities for event in segmenter.push(probability)]


def closed(events: list[Event]) -> list[SegmentClosed]:
    return [event for event in events if isinstance(event, SegmentClosed)]


def test_silence_reports_nothing() -> None:
    assert drive(QUIET * 300) == []


def test_murmur_alone_never_opens_a_segment() -> None:
    assert drive(MURMUR * 300) == []


def test_the_first_speech_frame_starts_an_utterance_and_a_segment_with_pre_roll() -> None:
    assert drive(QUIET * 20 + SPEECH) == [SpeechStarted(20), SegmentGrew(0, 14, 21)]


def test_a_session_that_begins_with_speech_has_no_pre_roll() -> None:
    assert drive(SPEECH) == [SpeechStarted(0), SegmentGrew(0, 0, 1)]


def test_a_probability_at_a_threshold_counts_as_above_it() -> None:
    assert drive([0.5]) == [SpeechStarted(0), SegmentGrew(0, 0, 1)]
    assert closed(drive(SPEECH * 9 + [0.35] + QUIET * 15))[0].last_speech_frame == 9


def test_a_segment_grows_by_a_frame_per_push_up_to_the_post_roll() -> None:
    events = drive(SPEECH * 10 + QUIET * 14)
    assert events[1:] == [SegmentGrew(0, 0, end) for end in range(1, 17)]


def test_a_pause_closes_the_segment_after_the_post_roll() -> None:
    events = drive(QUIET * 20 + SPEECH * 10 + QUIET * 15)
    assert events[-1] == SegmentClosed(0, 14, 36, 29, CloseReason.PAUSE, utterance_end=True)


def test_how_a_segment_closes_is_known_when_its_post_roll_is_complete() -> None:
    segmenter = Segmenter(RULES)
    assert segmenter.if_paused() is None
    drive(SPEECH * 10 + QUIET * 5, segmenter)
    assert segmenter.if_paused() is None
    drive(QUIET, segmenter)
    foretold = SegmentClosed(0, 0, 16, 9, CloseReason.PAUSE, utterance_end=True)
    assert segmenter.if_paused() == foretold
    assert drive(QUIET * 9, segmenter) == [foretold]
    assert segmenter.if_paused() is None


def test_without_a_post_roll_it_is_known_a_frame_after_speech() -> None:
    segmenter = Segmenter(SegmenterConfig(post_roll_ms=0))
    drive(SPEECH * 10, segmenter)
    assert segmenter.if_paused() is None
    drive(QUIET, segmenter)
    assert segmenter.if_paused() == SegmentClosed(0, 0, 10, 9, CloseReason.PAUSE, utterance_end=True)


def test_a_pause_one_frame_too_short_does_not() -> None:
    assert closed(drive(SPEECH * 10 + QUIET * 14 + SPEECH + QUIET * 14)) == []


def test_murmur_keeps_an_open_segment_going() -> None:
    events = closed(drive(SPEECH * 5 + MURMUR * 30 + QUIET * 15))
    assert events == [SegmentClosed(0, 0, 41, 34, CloseReason.PAUSE, utterance_end=True)]


FADES = SegmenterConfig(fade_ms=96, post_roll_ms=128)
"""Three frames and four."""


@pytest.mark.parametrize(
    ("n_murmur", "n_silent"),
    [
        pytest.param(0, 15, id="speech that ends at once"),
        pytest.param(1, 14, id="a frame that may be what the detector hears behind speech"),
        pytest.param(3, 12, id="as many as the fade has room for"),
        pytest.param(4, 12, id="one more"),
        pytest.param(30, 12, id="murmur"),
    ],
)
def test_what_the_detector_may_hear_behind_speech_counts_to_the_pause(n_murmur: int, n_silent: int) -> None:
    spoken = SPEECH * 10 + [0.69] * n_murmur
    assert closed(drive(spoken + QUIET * (n_silent - 1), Segmenter(FADES))) == []
    [segment] = closed(drive(spoken + QUIET * n_silent, Segmenter(FADES)))
    assert (segment.last_speech_frame, segment.end_frame) == (9 + n_murmur, 14 + n_murmur)


def test_after_a_frame_that_is_surely_speech_the_pause_counts_anew() -> None:
    spoken = SPEECH * 10 + MURMUR * 3 + [0.7]
    assert closed(drive(spoken + QUIET * 14, Segmenter(FADES))) == []
    assert len(closed(drive(spoken + QUIET * 15, Segmenter(FADES)))) == 1


@pytest.mark.parametrize(("pause_ms", "n_silent"), [(64, 2), (128, 4), (160, 4), (224, 4), (256, 5)])
def test_the_fade_makes_no_pause_shorter_than_the_post_roll(pause_ms: float, n_silent: int) -> None:
    config = SegmenterConfig(fade_ms=96, post_roll_ms=128, pause_ms=pause_ms, pause_ms_min=pause_ms)
    spoken = SPEECH * 10 + MURMUR * 9
    assert closed(drive(spoken + QUIET * (n_silent - 1), Segmenter(config))) == []
    assert len(closed(drive(spoken + QUIET * n_silent, Segmenter(config)))) == 1


def test_a_post_roll_longer_than_the_pause_ends_at_the_frames_pushed() -> None:
    config = SegmenterConfig(pause_ms=96, pause_ms_min=96, post_roll_ms=500)
    assert closed(drive(SPEECH * 5 + QUIET * 3, Segmenter(config)))[0].end_frame == 8


def test_the_pre_roll_never_reaches_into_the_segment_before() -> None:
    events = closed(drive(SPEECH * 5 + QUIET * 15 + SPEECH * 5 + QUIET * 15))
    assert [(event.start_frame, event.end_frame) for event in events] == [(0, 11), (14, 31)]
    tight = SegmenterConfig(pause_ms=96, pause_ms_min=96)
    events = closed(drive(SPEECH * 5 + QUIET * 4 + SPEECH * 5 + QUIET * 3, Segmenter(tight)))
    assert [(event.start_frame, event.end_frame) for event in events] == [(0, 8), (8, 17)]


def test_a_long_segment_ends_at_a_shorter_pause_than_a_young_one() -> None:
    assert closed(drive(SPEECH * 20 + QUIET * 12)) == []
    assert closed(drive(SPEECH * 130 + QUIET * 12))[0].end_frame == 136


def test_running_speech_is_cut_at_the_dip_of_the_last_second() -> None:
    events = drive(SPEECH * 140 + QUIET * 5 + SPEECH * 11)
    assert events[-2:] == [
        SegmentClosed(0, 0, 142, 141, CloseReason.LENGTH, utterance_end=False),
        SegmentGrew(1, 142, 156),
    ]


def test_a_dip_before_the_last_second_is_used_if_it_is_a_breath() -> None:
    assert closed(drive(SPEECH * 100 + QUIET * 5 + SPEECH * 51))[0].end_frame == 102
    assert closed(drive(SPEECH * 100 + [0.6] * 5 + SPEECH * 51))[0].end_frame == 155


def test_a_breath_is_looked_for_in_the_last_three_seconds() -> None:
    config = SegmenterConfig(segment_s_max=10.0)
    assert closed(drive(SPEECH * 210 + QUIET * 5 + SPEECH * 105, Segmenter(config)))[0].end_frame == 311
    assert closed(drive(SPEECH * 225 + QUIET * 5 + SPEECH * 90, Segmenter(config)))[0].end_frame == 227


def test_running_speech_goes_on_from_cut_to_cut_as_one_utterance() -> None:
    events = drive(SPEECH * 400 + QUIET * 15)
    assert [type(event) for event in events].count(SpeechStarted) == 1
    assert [(e.segment, e.start_frame, e.end_frame, e.utterance_end) for e in closed(events)] == [
        (0, 0, 155, False),
        (1, 155, 310, False),
        (2, 310, 406, True),
    ]


def test_the_pre_roll_counts_towards_the_limit() -> None:
    events = drive(QUIET * 6 + SPEECH * 150)
    assert closed(events) == [SegmentClosed(0, 0, 155, 154, CloseReason.LENGTH, utterance_end=False)]


def test_the_second_segment_of_a_long_utterance_ends_at_the_short_pause_too() -> None:
    [first, second] = closed(drive([1.0] * 200 + [0.0] * 12))
    assert (first.reason, second.reason) == (CloseReason.LENGTH, CloseReason.PAUSE)
    assert second.last_speech_frame == 199


def test_silence_already_heard_at_a_cut_counts_towards_the_pause() -> None:
    events = closed(drive(SPEECH * 128 + QUIET * 5 + SPEECH * 20 + [0.3] * 3 + QUIET * 12))
    assert events == [
        SegmentClosed(0, 0, 130, 129, CloseReason.LENGTH, utterance_end=False),
        SegmentClosed(1, 130, 159, 152, CloseReason.PAUSE, utterance_end=True),
    ]


def test_a_silent_remainder_ends_the_utterance_instead_of_opening_a_segment() -> None:
    segmenter = Segmenter(RULES)
    events = drive(SPEECH * 150 + QUIET * 6, segmenter)
    assert closed(events) == [SegmentClosed(0, 0, 156, 149, CloseReason.PAUSE, utterance_end=True)]
    assert not segmenter.is_open


def test_a_murmured_remainder_stays_in_the_segment_it_ends() -> None:
    events = closed(drive(SPEECH * 126 + MURMUR * 30))
    assert events == [SegmentClosed(0, 0, 156, 155, CloseReason.PAUSE, utterance_end=True)]


def test_the_owner_may_choose_the_place_of_a_cut() -> None:
    offered: list[tuple[int, int]] = []

    def choose_third(probabilities: Sequence[float], first_frame: int) -> int:
        offered.append((len(probabilities), first_frame))
        return 3

    events = closed(drive(SPEECH * 156, Segmenter(RULES, choose_cut=choose_third)))
    assert offered == [(93, 63)]
    assert events == [SegmentClosed(0, 0, 66, 65, CloseReason.LENGTH, utterance_end=False)]


@pytest.mark.parametrize("index", [-1, 93])
def test_a_place_that_was_not_offered_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 92, not {index}"):
        drive(SPEECH * 156, Segmenter(RULES, choose_cut=lambda probabilities, first_frame: index))


def test_a_cut_is_never_before_the_shortest_length() -> None:
    config = SegmenterConfig(segment_s_min=2.0, segment_s_max=3.0, pause_ms=480, pause_ms_min=480)
    events = closed(drive(SPEECH * 60 + QUIET * 5 + SPEECH * 28, Segmenter(config)))
    assert events == [SegmentClosed(0, 0, 63, 62, CloseReason.LENGTH, utterance_end=False)]


@pytest.mark.parametrize(("method", "reason"), [("flush", CloseReason.FLUSH), ("finish", CloseReason.END)])
def test_flush_and_finish_close_the_open_segment_at_once(method: str, reason: CloseReason) -> None:
    segmenter = Segmenter(RULES)
    drive(SPEECH * 5 + QUIET * 2, segmenter)
    assert getattr(segmenter, method)() == [SegmentClosed(0, 0, 7, 4, reason, utterance_end=True)]
    assert not segmenter.is_open


@pytest.mark.parametrize("method", ["flush", "finish"])
def test_flush_and_finish_report_nothing_in_quiet(method: str) -> None:
    segmenter = Segmenter(RULES)
    drive(QUIET * 5, segmenter)
    assert getattr(segmenter, method)() == []


def test_speech_after_a_flush_is_a_new_utterance() -> None:
    segmenter = Segmenter(RULES)
    drive(SPEECH * 5, segmenter)
    segmenter.flush()
    assert drive(SPEECH, segmenter) == [SpeechStarted(5), SegmentGrew(1, 5, 6)]


def test_nothing_may_follow_finish() -> None:
    segmenter = Segmenter(RULES)
    segmenter.finish()
    for call in (lambda: segmenter.push(0.0), segmenter.flush, segmenter.finish):
        with pytest.raises(RuntimeError, match="finished"):
            call()


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_probability_is_refused_and_not_counted(probability: float) -> None:
    segmenter = Segmenter(RULES)
    with pytest.raises(ValueError, match="between 0 and 1"):
        segmenter.push(probability)
    assert segmenter.n_frames == 0


def test_audio_older_than_the_pre_roll_may_be_discarded_in_quiet() -> None:
    segmenter = Segmenter(RULES)
    drive(QUIET * 3, segmenter)
    assert segmenter.keep_from_frame == 0
    drive(QUIET * 97, segmenter)
    assert segmenter.keep_from_frame == 94


def test_the_audio_of_an_open_segment_is_kept_from_its_start() -> None:
    segmenter = Segmenter(RULES)
    drive(QUIET * 100 + SPEECH * 50, segmenter)
    assert segmenter.keep_from_frame == 94


def test_behind_a_cut_a_segment_begins_the_overlap_earlier_which_counts_to_its_length() -> None:
    events = drive(SPEECH * 400, Segmenter(SegmenterConfig(overlap_ms=1_000)))
    cuts = closed(events)
    assert [(cut.start_frame, cut.end_frame) for cut in cuts] == [(0, 155), (124, 279)]
    assert all(cut.reason is CloseReason.LENGTH for cut in cuts)
    assert events[-1] == SegmentGrew(2, 248, 400)


def test_no_part_is_without_clear_speech() -> None:
    # Behind the first cut, the deepest dip lies before the speech.
    dips = SPEECH * 62 + QUIET * 5 + [0.36] * 83 + SPEECH * 6 + [0.45] * 55 + SPEECH * 20
    [first, second, _] = closed(drive(dips + QUIET * 15))
    assert (first.end_frame, first.reason) == (64, CloseReason.LENGTH)
    assert (second.start_frame, second.reason) == (64, CloseReason.LENGTH)
    assert second.end_frame > 150


def test_behind_a_breath_a_segment_begins_at_the_cut() -> None:
    events = drive(SPEECH * 140 + QUIET * 5 + SPEECH * 11, Segmenter(SegmenterConfig(overlap_ms=1_000)))
    assert events[-1] == SegmentGrew(1, 142, 156)


@pytest.mark.parametrize("overlap_ms", [0, 500, 800])
def test_each_cut_lies_behind_the_one_before_however_long_the_overlap(overlap_ms: float) -> None:
    config = SegmenterConfig(segment_s_min=1.0, segment_s_max=2.0, overlap_ms=overlap_ms)
    # Every cut is made as early as it may be.
    cuts = closed(drive(SPEECH * 600, Segmenter(config, choose_cut=lambda recent, first: 0)))
    ends = [cut.end_frame for cut in cuts]
    assert len(ends) > 10
    assert ends == sorted(set(ends))
    assert all(cut.end_frame - cut.start_frame <= 62 for cut in cuts)
