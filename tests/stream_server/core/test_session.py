"""One session, told what happens in every order that can happen."""

import dataclasses
from itertools import pairwise

import pytest
from driver import LIMITS, SETTINGS, START, World, answer, as_bytes, check_complete, check_story, kinds

from stream_server.audio.decoder import AudioFormat, Encoding
from stream_server.core.jobs import GuardRule
from stream_server.core.messages import (
    Audio,
    ClientMessage,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    KeepAlive,
    Lag,
    Partial,
    SpeechStarted,
    Start,
    Started,
    Task,
    Tier,
)
from stream_server.core.session import FLUSHES_MAX, State
from stream_server.core.settings import ModelFacts, Tiers
from stream_server.engine.fake import numbered_frame, numbered_speech, numbers_in, silence
from stream_server.errors import (
    BadMessage,
    EngineFailed,
    IdleTimeout,
    NotSupported,
    ProtocolViolation,
    ShuttingDown,
    UnsupportedAudio,
)


def started() -> World:
    return World().start()


def speaking(n_frames: int = 40) -> World:
    """A session in the middle of an utterance, scored and without a final."""
    world = started()
    world.send(numbered_speech(range(n_frames)))
    world.score()
    return world


# ---------------------------------------------------------------- start


def test_start_is_answered_with_session_model_limits_and_features() -> None:
    settings = dataclasses.replace(SETTINGS, features=("resume",))
    world = World(settings).start()
    assert world.events == [Started(world.session.id, "fake", LIMITS, ("resume",))]
    assert world.session.state is State.STREAMING


@pytest.mark.parametrize(
    ("message", "error", "hint"),
    [
        (Start(AudioFormat(), language="fr"), NotSupported, "de, en"),
        (Start(AudioFormat(), language=""), NotSupported, "de, en"),
        (Start(AudioFormat(), task=Task.TRANSLATE), NotSupported, "translate"),
        (Start(AudioFormat(), context=True), NotSupported, "leave start.context out"),
        (Start(AudioFormat(), words=True), NotSupported, "names no alignment_heads; leave start.words out"),
        (Audio(b"\0\0"), ProtocolViolation, "start"),
        (Flush(), ProtocolViolation, "start"),
        (Finish(), ProtocolViolation, "start"),
        (KeepAlive(), ProtocolViolation, "start"),
    ],
)
def test_a_wrong_first_message_ends_the_session_at_once(
    message: ClientMessage, error: type[Exception], hint: str
) -> None:
    world = World()
    world.receive(message)
    assert kinds(world.events) == [Failed]
    assert isinstance(world.error, error)
    assert hint in str(world.error)
    assert world.close_code == world.error.close_code


def test_a_model_that_translates_takes_the_task_and_language() -> None:
    facts = ModelFacts("big", frozenset({"de"}), can_translate=True)
    world = World(dataclasses.replace(SETTINGS, tiers=Tiers({Tier.LIVE: facts})))
    world.start(Start(AudioFormat(), language="de", task=Task.TRANSLATE))
    world.send(numbered_speech(range(40)))
    world.score()
    assert {(job.language, job.task, job.tier) for job in world.jobs} == {("de", Task.TRANSLATE, "live")}


BOTH = Tiers(
    {
        Tier.LIVE: ModelFacts("small", frozenset({"en"}), can_translate=False),
        Tier.FILES: ModelFacts("large", frozenset({"de", "en"}), can_translate=True, can_time_words=True),
    }
)


@pytest.mark.parametrize(
    ("start", "model", "tier", "features"),
    [
        (Start(AudioFormat()), "small", Tier.LIVE, ()),
        (Start(AudioFormat(), language="de", words=True, tier=Tier.FILES), "large", Tier.FILES, ("words",)),
    ],
)
def test_a_client_is_read_by_the_model_of_the_tier_it_asks_for(
    start: Start, model: str, tier: Tier, features: tuple[str, ...]
) -> None:
    world = World(dataclasses.replace(SETTINGS, tiers=BOTH)).start(start)
    [started] = world.of(Started)
    assert (started.model, started.features) == (model, features)
    world.send(numbered_speech(range(40)))
    world.score()
    assert {job.tier for job in world.jobs} == {tier}


def test_a_server_without_a_model_for_files_reads_them_with_the_live_one() -> None:
    world = World(SETTINGS).start(Start(AudioFormat(), tier=Tier.FILES))
    assert world.of(Started)[0].model == "fake"


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([START], START),
        ([START, Finish()], Audio(b"")),
        ([START, Finish()], Flush()),
        ([START, Finish()], Finish()),
    ],
)
def test_a_message_out_of_order_is_a_protocol_violation_after_the_finals(
    before: list[ClientMessage], message: ClientMessage
) -> None:
    world = World()
    world.receive(before[0])
    world.send(numbered_speech(range(20)))
    for early in before[1:]:
        world.receive(early)
    world.receive(message)
    world.settle()
    assert world.numbers == list(range(20))
    assert isinstance(world.error, ProtocolViolation)
    check_complete(world.events)


def test_keepalive_may_follow_finish() -> None:
    world = speaking()
    world.receive(Finish())
    assert world.receive(KeepAlive()) == []
    world.settle()
    assert world.close_code == 1000


# ---------------------------------------------------------------- speech to finals


def test_an_utterance_gives_speech_started_partials_and_one_final() -> None:
    world = started()
    world.send(silence(20))
    world.settle()
    for number in range(62):
        world.send(numbered_frame(number))
        world.settle()
    world.send(silence(31))
    world.settle()
    assert kinds(world.events) == [Started, SpeechStarted, *[Partial] * 4, Final]
    assert world.of(SpeechStarted)[0].at == 20 * 512
    assert world.numbers == list(range(62))
    final = world.of(Final)[0]
    assert (final.segment, final.language, final.utterance_end) == (0, "en", True)
    # 192 ms of pre-roll and 96 ms of post-roll are six frames and three.
    assert (final.start, final.end) == (14 * 512, 85 * 512)
    check_story(world.events)


def test_partials_grow_and_tell_what_is_stable() -> None:
    world = started()
    for number in range(60):
        world.send(numbered_frame(number))
        world.settle()
    first, second, *_ = world.of(Partial)
    assert (first.revision, second.revision) == (1, 2)
    assert second.text.startswith(first.text)
    assert second.text[: second.stable] == first.text


def test_a_partial_that_waits_is_never_half_a_second_older_than_what_was_heard() -> None:
    world = started()
    for number in range(150):
        world.send(numbered_frame(number))
        world.score()
        ages = [number + 1 - job.n_samples // 512 for job in world.jobs]
        assert ages == ([] if number < 15 else [(number + 1) % 16])
    world.decode()
    assert [len(numbers_in(partial.text)) for partial in world.of(Partial)] == [144]


def test_the_next_segment_has_partials_though_the_last_ones_never_came_back() -> None:
    world = speaking()
    world.receive(Flush())
    world.jobs.clear()  # The engine drops a partial whose final is there.
    world.send(numbered_speech(range(40, 60)))
    world.score()
    assert [(job.segment, job.final) for job in world.jobs] == [(1, False)]


def test_unless_asked_partials_show_only_what_is_sure_and_only_when_there_is_more_of_it() -> None:
    world = World(dataclasses.replace(SETTINGS, sure_word=0.5)).start(Start(AudioFormat()))
    last = "one two three for five six"
    said = [
        ("one", (0.9,)),
        ("one two three four", (0.9, 0.9, 0.4, 0.2)),
        ("one two three four", (0.9, 0.9, 0.4, 0.2)),
        ("one two", (0.9, 0.9)),
        (last, (0.9, 0.9, 0.4, 0.2, 0.9, 0.4)),
        (last, (0.9, 0.9, 0.5, 0.6, 0.9, 0.4)),
    ]
    for i, (text, probabilities) in enumerate(said):
        world.send(numbered_speech(range(16 * i, 16 * i + 16)))
        world.score()
        world.decode(text=text, word_probabilities=probabilities)
    assert [(partial.text, partial.stable) for partial in world.of(Partial)] == [
        ("one", 3),
        ("one two", 7),
        ("one two three for five", 22),
    ]


def test_each_segment_starts_its_partials_anew() -> None:
    world = started()
    for _ in range(2):
        for number in range(40):
            world.send(numbered_frame(number))
            world.settle()
        world.receive(Flush())
        world.settle()
    first = [partial for partial in world.of(Partial) if partial.revision == 1]
    assert [(partial.segment, partial.stable) for partial in first] == [(0, 0), (1, 0)]


def test_the_first_partial_of_a_segment_has_half_a_second_of_audio() -> None:
    world = speaking(11)
    world.receive(Flush())
    world.settle()
    world.send(silence(100))
    world.settle()
    # Six frames of pre-roll count.
    world.send(numbered_speech(range(9)))
    world.score()
    assert world.jobs == []
    world.send(numbered_frame(9))
    world.score()
    assert [job.n_samples for job in world.jobs] == [16 * 512]


def test_no_partial_is_asked_for_once_the_end_is_near() -> None:
    world = started()
    world.send(numbered_speech(range(200)))
    world.receive(Finish())
    world.score()
    assert [job.final for job in world.jobs] == [True, True]


def _n_samples_kept(world: World) -> int:
    window = world.session._streaming._windows.audio
    return window.end - window.start


def test_audio_that_no_segment_can_need_is_forgotten() -> None:
    world = started()
    world.send(silence(300))
    world.score()
    assert _n_samples_kept(world) == 6 * 512
    world.send(numbered_speech(range(200)))
    world.score()
    assert _n_samples_kept(world) < 160 * 512


def test_a_client_that_wants_no_partials_gets_none() -> None:
    world = World().start(Start(AudioFormat(), partials=False))
    world.send(numbered_speech(range(100)))
    world.score()
    assert world.jobs == []
    world.receive(Finish())
    world.settle()
    assert not world.of(Partial)
    assert world.numbers == list(range(100))


def test_a_partial_that_comes_after_its_segment_closed_is_not_shown() -> None:
    world = speaking()
    world.receive(Flush())
    partial, final = world.jobs
    assert (partial.final, final.final) == (False, True)
    assert world.decode(0) == []
    assert kinds(world.decode(0)) == [Final, Flushed]


def test_each_job_carries_the_tokens_of_the_segments_last_partial_as_its_draft() -> None:
    world = started()
    drafts = []
    for number in range(60):
        world.send(numbered_frame(number))
        world.score()
        if world.jobs:
            (job,) = world.jobs
            drafts.append(job.draft)
            (partial,) = world.decode()
            assert isinstance(partial, Partial)
    assert drafts == [(), *(tuple(range(n)) for n in (16, 32))]
    world.receive(Flush())
    (final,) = world.jobs
    assert final.final
    assert final.draft == tuple(range(len(final.draft)))
    assert len(final.draft) > 32


def test_a_segment_starts_without_a_draft_though_the_one_before_was_cut_in_speech() -> None:
    world = started()
    jobs = []
    for number in range(200):
        world.send(numbered_frame(number))
        world.score()
        jobs += world.jobs
        while world.jobs:
            world.decode()
    first = {job.segment: job.draft for job in reversed(jobs)}
    assert first == {0: (), 1: ()}
    assert [bool(job.draft) for job in jobs if job.final] == [True]
    assert all(job.draft for job in jobs if job.segment == 1 and job.revision > 1)


def test_a_partial_whose_text_the_guard_took_away_changes_nothing_that_is_shown() -> None:
    world = speaking(20)
    world.decode()
    shown = world.of(Partial)
    world.send(numbered_speech(range(20, 60)))
    world.score()
    (job,) = world.jobs
    invented = job.answered(text="", language="en", now_s=0.0, tokens=(9_999,), dropped=GuardRule.NO_SPEECH)
    world.jobs.clear()
    assert world.take(world.session.receive_result(invented, world.now_s)) == []
    world.send(numbered_speech(range(60, 90)))
    world.score()
    assert world.of(Partial) == shown
    assert world.jobs[0].draft == job.draft, "the draft is the one of what is shown"


def test_a_final_whose_text_the_guard_took_away_is_delivered_empty() -> None:
    world = speaking(20)
    world.receive(Finish())
    world.score()
    final = world.jobs.pop()
    world.jobs.clear()
    dropped = final.answered(text="", language="en", now_s=0.0, dropped=GuardRule.PHRASE)
    world.take(world.session.receive_result(dropped, world.now_s))
    assert [event.text for event in world.of(Final)] == [""]
    assert kinds(world.events)[-1] is Finished


def test_the_tokens_of_a_partial_that_came_too_late_are_nobodys_draft() -> None:
    world = speaking()
    world.receive(Flush())
    world.decode(0)
    world.send(numbered_speech(range(40, 60)))
    world.score()
    assert [(job.segment, job.draft) for job in world.jobs] == [(0, ()), (1, ())]


def test_a_final_job_carries_the_number_of_partials_before_it() -> None:
    world = speaking()
    world.decode()
    world.receive(Flush())
    assert (world.jobs[0].final, world.jobs[0].revision) == (True, 1)


def test_running_speech_is_cut_and_only_the_last_segment_ends_the_utterance() -> None:
    world = started()
    world.send(numbered_speech(range(200)))
    world.receive(Finish())
    world.settle()
    assert [final.utterance_end for final in world.of(Final)] == [False, True]
    assert len(world.of(SpeechStarted)) == 1
    assert world.numbers == list(range(200))
    assert world.of(Finished) == [Finished(200 * 512, 2)]


def test_finals_leave_in_order_whatever_order_results_come_in() -> None:
    world = World().start(Start(AudioFormat(), partials=False))
    for first in (0, 100, 200):
        world.send(numbered_speech(range(first, first + 10)))
        world.receive(Flush())
        world.score()
    assert world.decode(2) == []
    assert world.decode(1) == []
    assert kinds(world.decode(0)) == [Final, Flushed, Final, Flushed, Final, Flushed]
    assert world.numbers == [*range(10), *range(100, 110), *range(200, 210)]


def test_a_job_carries_its_hops() -> None:
    world = started()
    world.now_s = 2_000.0
    world.send(numbered_speech(range(40)))
    world.now_s = 2_001.0
    world.score()
    assert (world.jobs[0].hops.received_s, world.jobs[0].hops.submitted_s) == (2_000.0, 2_001.0)


def test_silence_gives_no_final_and_finishes() -> None:
    world = started()
    world.send(silence(200))
    world.receive(Finish())
    world.settle()
    assert world.events[1:] == [Finished(200 * 512, 0)]
    assert world.close_code == 1000


def test_no_audio_at_all_finishes_with_nothing() -> None:
    world = started()
    world.receive(Finish())
    assert world.events[1:] == [Finished(0, 0)]
    assert world.close_code == 1000


def test_a_tenth_of_a_second_of_speech_is_one_final() -> None:
    world = started()
    world.send(numbered_speech(range(4))[:1_600])
    world.receive(Finish())
    world.settle()
    assert world.numbers == [0, 1, 2, 3]
    assert world.of(Final)[0].end == 1_600
    assert world.of(Finished) == [Finished(1_600, 1)]


def test_other_rates_are_counted_at_16_khz() -> None:
    world = World().start(Start(AudioFormat(Encoding.MULAW, 8_000)))
    world.receive(Audio(b"\xff" * 8_000))
    world.receive(Finish())
    world.settle()
    assert world.of(Finished) == [Finished(16_000, 0)]


# ---------------------------------------------------------------- flush


def test_flush_in_silence_is_answered_at_once() -> None:
    world = started()
    assert kinds(world.receive(Flush())) == [Flushed]


def test_flush_waits_for_scores_and_finals_of_what_came_before_it_only() -> None:
    world = started()
    world.send(numbered_speech(range(20)))
    assert world.receive(Flush()) == []
    world.send(numbered_speech(range(20, 40)))
    world.score(20)
    assert kinds(world.events) == [Started, SpeechStarted]
    while not world.jobs[0].final:
        world.decode()
    assert kinds(world.decode())[-2:] == [Final, Flushed]
    assert world.numbers == list(range(20))
    world.receive(Finish())
    world.settle()
    assert world.numbers == list(range(40))


def test_every_flush_has_its_answer() -> None:
    world = started()
    world.send(numbered_speech(range(5)))
    for _ in range(3):
        world.receive(Flush())
    world.settle()
    assert len(world.of(Flushed)) == 3
    assert len(world.of(Final)) == 1


def test_many_unanswered_flushes_leave_the_socket_unread_until_they_are_answered() -> None:
    world = speaking(5)
    for _ in range(FLUSHES_MAX - 1):
        world.receive(Flush())
    assert world.session.wants_audio
    world.receive(Flush())
    assert not world.session.wants_audio
    world.settle()
    assert world.session.wants_audio
    assert len(world.of(Flushed)) == FLUSHES_MAX


# ---------------------------------------------------------------- ends by an error


def nan_audio(world: World) -> None:
    world.receive(Audio(b"\x00\x00\xc0\x7f"))


@pytest.mark.parametrize(
    ("error", "code"), [(ShuttingDown("bye"), 1001), (IdleTimeout("zzz"), 1008), (BadMessage("?"), 1007)]
)
def test_an_error_comes_after_the_finals_of_all_accepted_audio(error: Exception, code: int) -> None:
    world = started()
    world.send(numbered_speech(range(30))[:-100])
    world.score(7)
    assert Failed not in kinds(world.end(error))
    world.settle()
    assert world.numbers == list(range(30))
    assert world.error is error
    assert world.close_code == code
    check_complete(world.events)


def test_a_float_that_is_no_number_is_unsupported_audio_after_the_finals() -> None:
    world = World().start(Start(AudioFormat(Encoding.PCM_F32LE)))
    world.receive(Audio((numbered_speech(range(9)) / 32768).astype("<f4").tobytes()))
    nan_audio(world)
    world.settle()
    assert world.numbers == list(range(9))
    assert isinstance(world.error, UnsupportedAudio)


def test_a_stray_byte_at_finish_is_a_bad_message_after_the_finals() -> None:
    world = started()
    world.receive(Audio(as_bytes(numbered_speech(range(9))) + b"\x01"))
    world.receive(Finish())
    world.settle()
    assert world.numbers == list(range(9))
    assert isinstance(world.error, BadMessage)
    assert "1 stray byte" in str(world.error)
    assert world.close_code == 1007


def test_a_stray_byte_without_any_sample_is_a_bad_message_at_once() -> None:
    world = started()
    world.receive(Audio(b"\x01"))
    assert kinds(world.receive(Finish())) == [Failed]


def test_what_a_client_says_after_its_mistake_is_not_heard() -> None:
    world = speaking()
    world.receive(START)
    assert world.receive(Audio(as_bytes(numbered_speech(range(90, 99))))) == []
    assert world.receive(START) == []
    assert world.end(ShuttingDown("bye")) == []
    world.settle()
    assert world.numbers == list(range(40))
    assert isinstance(world.error, ProtocolViolation)


def test_finals_that_never_come_are_not_waited_for_beyond_the_drain_time() -> None:
    world = speaking()
    world.end(ShuttingDown("bye"))
    assert world.pass_time(10.0) == []
    assert kinds(world.pass_time(0.1)) == [Failed]
    assert world.close_code == 1001
    assert world.decode(-1) == []


def test_the_drain_time_counts_from_the_error_not_from_finish() -> None:
    world = speaking()
    world.receive(Finish())
    world.pass_time(60.0)
    world.receive(Finish())
    assert world.pass_time(1.0) == []
    world.settle()
    assert world.numbers == list(range(40))
    assert isinstance(world.error, ProtocolViolation)


def test_a_finished_session_waits_for_its_finals_as_long_as_they_take() -> None:
    world = speaking()
    world.receive(Finish())
    for _ in range(100):
        assert world.pass_time(10.0) == []
    world.settle()
    assert kinds(world.events)[-1] is Finished


def test_a_dead_engine_ends_the_session_at_once() -> None:
    world = speaking()
    world.take(world.session.fail(EngineFailed("gone")))
    assert world.close_code == 1011
    assert isinstance(world.error, EngineFailed)


def test_a_closed_session_does_nothing_whatever_it_is_told() -> None:
    world = speaking()
    job = next(job for job in world.jobs if not job.final)
    world.session.disconnect()
    assert world.receive(Finish()) == []
    assert world.send(numbered_speech(range(5))) == []
    assert world.take(world.session.receive_scores([1.0], world.now_s)) == []
    assert world.take(world.session.receive_result(answer(job), world.now_s)) == []
    assert world.pass_time(100) == []
    assert world.end(ShuttingDown("bye")) == []
    assert world.take(world.session.fail(ShuttingDown("bye"))) == []


def test_a_final_nobody_asked_for_is_a_bug() -> None:
    world = speaking()
    world.receive(Flush())
    final = world.jobs[-1]
    with pytest.raises(AssertionError, match="segment 7"):
        world.session.receive_result(dataclasses.replace(answer(final), segment=7), world.now_s)
    world.decode(-1)
    with pytest.raises(AssertionError, match="segment 0"):
        world.session.receive_result(answer(final), world.now_s)


def test_more_scores_than_frames_are_a_bug() -> None:
    world = started()
    world.send(numbered_speech(range(3)))
    with pytest.raises(AssertionError, match="more scores"):
        world.session.receive_scores([0.0] * 4, world.now_s)


# ---------------------------------------------------------------- time


def test_a_client_that_never_starts_is_idle() -> None:
    world = World()
    assert world.pass_time(30.0) == []
    world.pass_time(0.1)
    assert isinstance(world.error, IdleTimeout)
    assert world.close_code == 1008


@pytest.mark.parametrize("message", [KeepAlive(), Audio(b""), Audio(as_bytes(silence(1))), Flush()])
def test_audio_and_keepalive_reset_the_idle_timer(message: ClientMessage) -> None:
    world = started()
    for _ in range(10):
        assert world.pass_time(29.9) == []
        world.receive(message)
    world.settle()
    world.pass_time(30.1)
    assert isinstance(world.error, IdleTimeout)


def test_idle_does_not_fire_while_the_socket_is_left_unread() -> None:
    world = started()
    world.send(silence(400))
    assert not world.session.wants_audio
    for _ in range(10):
        assert world.pass_time(20.0) == []
    world.score()
    assert world.session.wants_audio
    assert world.pass_time(29.0) == []
    world.pass_time(2.0)
    assert isinstance(world.error, IdleTimeout)


# ---------------------------------------------------------------- back-pressure


def test_audio_ten_seconds_ahead_stops_the_reading_until_decoding_has_caught_up() -> None:
    world = started()
    world.send(silence(312))
    assert world.session.wants_audio
    world.send(silence(1))
    assert not world.session.wants_audio
    world.score(1)
    assert world.session.wants_audio
    assert world.session.n_samples == 313 * 512


def test_scored_audio_whose_final_is_awaited_counts_as_behind() -> None:
    world = World().start(Start(AudioFormat(), partials=False))
    world.send(numbered_speech(range(320)))
    world.score()
    assert world.session.behind_samples == 320 * 512
    assert not world.session.wants_audio
    world.decode()
    assert world.session.wants_audio


def test_lag_is_told_at_most_once_a_second() -> None:
    world = started()
    world.send(silence(320))
    for _ in range(24):
        world.now_s += 0.125
        world.send(silence(1))
    assert len(world.of(Lag)) == 4
    assert world.of(Lag)[0] == Lag(320 * 512)
    times = [at for at, event in zip(world.sent_s, world.events, strict=True) if isinstance(event, Lag)]
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


# ---------------------------------------------------------------- where the time goes


def test_a_final_tells_when_its_last_speech_came_and_when_the_pause_was_long_enough() -> None:
    world = started()
    world.now_s = 2_000.0
    for frame in [*numbered_speech(range(40)).reshape(-1, 512), *silence(20).reshape(-1, 512)]:
        world.send(frame)
        world.score()
        world.now_s += 1.0
    (job,) = [job for job in world.jobs if job.final]
    # 40 frames of speech and 3 of silence are decoded; the 15th of silence ends the utterance.
    assert job.n_samples == 43 * 512
    assert (job.hops.received_s, job.hops.heard_s, job.hops.submitted_s) == (2_039.0, 2_054.0, 2_054.0)


def test_scores_that_come_late_are_the_detectors_time_and_not_the_networks() -> None:
    world = speaking(40)
    world.now_s = 3_000.0
    world.send(silence(15))
    world.now_s = 3_001.5
    world.score()
    (job,) = [job for job in world.jobs if job.final]
    assert (job.hops.heard_s, job.hops.submitted_s) == (3_000.0, 3_001.5)


def test_a_flush_is_what_its_final_waited_for() -> None:
    world = speaking(40)
    world.now_s += 5.0
    world.receive(Flush())
    (job,) = [job for job in world.jobs if job.final]
    assert (job.hops.heard_s - job.hops.received_s, job.hops.submitted_s) == (5.0, world.now_s)


def test_the_events_carry_the_hops_of_their_job() -> None:
    world = speaking(40)
    world.settle()
    world.send(silence(15))
    world.settle()
    carried = [event.hops for event in world.events if isinstance(event, Partial | Final)]
    assert len(carried) >= 2
    assert all(hops is not None and hops.received_s for hops in carried)


def test_only_a_client_that_asks_gets_a_trace() -> None:
    world = World()
    assert not world.session.wants_trace
    assert not world.start().session.wants_trace
    asked = World()
    asked.receive(dataclasses.replace(START, trace=True))
    assert asked.session.wants_trace
