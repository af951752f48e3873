"""Many sessions on one hub: each is addressed by its id, and none feels what happens to another."""

import dataclasses
from collections.abc import Sequence

import pytest
from driver import HubWorld, answer, kinds
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.messages import (
    Audio,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Partial,
    Started,
    Warned,
)
from stream_server.core.session import Session
from stream_server.engine.fake import numbered_speech, numbers_in, silence
from stream_server.errors import (
    BadMessage,
    EngineFailed,
    InternalError,
    Overloaded,
    ShuttingDown,
    SlowReader,
    StreamError,
)


def error_of(events: Sequence[object]) -> StreamError:
    assert isinstance(events[-1], Failed)
    return events[-1].error


def test_a_stream_goes_through_the_stages_and_back() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(50))).say(Finish())
    world.settle()
    assert client.numbers == list(range(50))
    assert kinds(client.events)[-1] is Finished
    assert client.seat.close_code == 1000
    assert client.seat.is_done


def test_the_writer_is_woken_by_whatever_happens() -> None:
    world = HubWorld()
    client = world.open("a", start=False)
    for step in (
        lambda: client.speak(silence(0)),
        lambda: world.pass_time(1.0),
        lambda: world.hub.refuse(client.id, BadMessage("?"), world.now_s),
        lambda: world.hub.drain(world.now_s),
    ):
        before = client.n_wakes
        step()
        assert client.n_wakes > before


def test_streams_do_not_mix() -> None:
    world = HubWorld()
    clients = [world.open(str(i)) for i in range(5)]
    assert len(world.hub) == 5
    for i, client in enumerate(clients):
        client.speak(numbered_speech(range(1_000 * i, 1_000 * i + 200 + i))).say(Finish())
    world.settle()
    for i, client in enumerate(clients):
        assert client.numbers == list(range(1_000 * i, 1_000 * i + 200 + i))


def test_a_message_that_cannot_be_read_ends_the_session_after_its_finals() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(50)))
    world.hub.refuse(client.id, BadMessage("not JSON"), world.now_s)
    world.settle()
    assert client.numbers == list(range(50))
    assert isinstance(error_of(client.events), BadMessage)
    assert client.seat.close_code == 1007


# ---------------------------------------------------------------- leaving


def test_whoever_leaves_is_withdrawn_from_the_stages() -> None:
    world = HubWorld()
    client, other = world.open("a"), world.open("b").speak(numbered_speech(range(50)))
    client.speak(numbered_speech(range(50)))
    world.score(client.id)
    client.leave()
    assert len(world.hub) == 1
    assert (world.scorer.withdrawn, world.decoder.withdrawn) == ([client.id], [client.id])
    other.say(Finish())
    world.settle()
    assert other.numbers == list(range(50))


def test_what_comes_back_for_a_session_that_is_gone_is_dropped_and_counted() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(50)))
    world.score(client.id)
    late = answer(world.decoder.jobs[0])
    client.leave()
    again = world.open("b")
    world.hub.receive_result(late, world.now_s)
    world.hub.receive_scores(client.id, [1.0], world.now_s)
    assert world.hub.n_orphans == 2
    assert kinds(again.read()) == [Started]


# ---------------------------------------------------------------- bugs


def test_a_job_that_the_engine_cannot_read_ends_its_session_and_no_other() -> None:
    world = HubWorld()
    victim, other = (world.open(name).speak(numbered_speech(range(50))) for name in "ab")
    world.score(victim.id)
    unread = world.decoder.jobs[0].answered(text="", language=None, now_s=0.0, problem="it is empty")
    world.hub.receive_result(unread, world.now_s)
    assert world.bugs == [victim.id]
    assert isinstance(error_of(victim.read()), InternalError)
    other.say(Finish())
    world.settle()
    assert other.numbers == list(range(50))


def test_a_bug_ends_its_session_and_no_other() -> None:
    world = HubWorld()
    victim, other = (world.open(name).speak(numbered_speech(range(50))) for name in "ab")
    world.score(victim.id)
    job = world.decoder.jobs[0]
    world.hub.receive_result(dataclasses.replace(answer(job), final=True, segment=9), world.now_s)
    assert world.bugs == [victim.id]
    assert isinstance(error_of(victim.read()), InternalError)
    assert victim.seat.close_code == 1011
    other.say(Finish())
    world.settle()
    assert other.numbers == list(range(50))


def test_what_a_bug_was_about_is_not_told_to_the_client() -> None:
    world = HubWorld()
    client = world.open("a")
    world.hub.receive_scores(client.id, [1.0, 0.5], world.now_s)
    assert "scores" not in str(error_of(client.read()))


def test_a_stage_that_breaks_on_one_session_does_not_break_the_caller() -> None:
    world = HubWorld()
    victim, other = world.open("a"), world.open("b")
    world.scorer.submit = None  # type: ignore[assignment,method-assign]  what calls it has a bug
    victim.speak(numbered_speech(range(5)))
    del world.scorer.submit
    assert world.bugs == [victim.id]
    assert isinstance(error_of(victim.read()), InternalError)
    other.speak(numbered_speech(range(5))).say(Finish())
    world.settle()
    assert other.numbers == list(range(5))


def test_a_session_that_breaks_while_draining_does_not_keep_the_others_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = HubWorld()
    victim, other = (world.open(name).speak(numbered_speech(range(50))) for name in "ab")
    original = Session.end

    def end(self: Session, error: StreamError, now_s: float) -> object:
        assert self.id != victim.id, "a bug"
        return original(self, error, now_s)

    monkeypatch.setattr(Session, "end", end)
    world.hub.drain(world.now_s)
    world.settle()
    assert isinstance(error_of(victim.read()), InternalError)
    assert other.numbers == list(range(50))
    assert isinstance(error_of(other.events), ShuttingDown)


# ---------------------------------------------------------------- an engine that is full


def test_a_final_without_room_is_held_and_offered_again_in_its_order() -> None:
    world = HubWorld()
    client, other = world.open("a"), world.open("b")
    client.speak(numbered_speech(range(40))).speak(silence(40)).speak(numbered_speech(range(40, 80)))
    other.speak(numbered_speech(range(9))).speak(silence(20))
    world.decoder.refuse_finals = Overloaded("full")
    world.score(client.id)
    client.say(Finish())
    world.score(client.id)
    world.score(other.id)
    assert [job.final for job in world.decoder.jobs] == [False] * len(world.decoder.jobs)
    world.decoder.refuse_finals = None
    world.pass_time(1.0)
    finals = [(job.session, job.segment) for job in world.decoder.jobs if job.final]
    assert finals == [("a", 0), ("a", 1), ("b", 0)]
    other.say(Finish())
    world.settle()
    assert client.numbers == list(range(80))
    assert other.numbers == list(range(9))
    assert (client.seat.close_code, other.seat.close_code) == (1000, 1000)


def test_finals_without_room_hold_their_client_back_so_that_what_is_held_is_bounded() -> None:
    world = HubWorld()
    client = world.open("a")
    world.decoder.refuse_finals = Overloaded("full")
    n_frames = 0
    while client.seat.session.wants_audio:
        client.speak(numbered_speech(range(n_frames, n_frames + 10)))
        n_frames += 10
        world.score(client.id)
    assert n_frames * 512 / 16_000 < 16
    held = len(world.hub._jobs)
    assert 2 <= held <= 7
    world.decoder.refuse_finals = None
    world.pass_time(1.0)
    client.say(Finish())
    world.settle()
    assert client.numbers == list(range(n_frames))


def test_what_is_held_for_a_session_that_is_gone_is_dropped() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(40))).speak(silence(40))
    world.decoder.refuse_finals = Overloaded("full")
    world.score(client.id)
    client.leave()
    world.decoder.refuse_finals = None
    world.pass_time(1.0)
    assert not [job for job in world.decoder.jobs if job.final]


# ---------------------------------------------------------------- clients that do not read


def test_a_client_that_leaves_finals_unread_is_told_and_abandoned() -> None:
    world = HubWorld(outbox_wait_s=10.0)
    client, other = world.open("a"), world.open("b")
    other.read()
    world.pass_time(10.0)
    assert not client.seat.is_abandoned
    before = client.n_wakes
    world.pass_time(0.1)
    assert client.seat.is_abandoned
    assert client.n_wakes > before
    assert isinstance(error_of(client.read()), SlowReader)
    assert client.seat.close_code == 1013
    assert not other.seat.is_abandoned


def test_a_client_with_too_many_unread_events_is_abandoned_at_the_next_tick() -> None:
    world = HubWorld(outbox_max=5)
    client = world.open("a")
    for _ in range(5):
        client.say(Flush())
    world.pass_time(0.1)
    assert isinstance(error_of(client.read()), SlowReader)


def test_a_finished_client_that_does_not_read_is_abandoned_without_another_error() -> None:
    world = HubWorld()
    client = world.open("a").say(Finish())
    world.pass_time(11.0)
    world.pass_time(11.0)
    assert client.seat.is_abandoned
    assert kinds(client.read()) == [Started, Finished]


def test_a_slow_reader_sees_fewer_partials_and_every_final() -> None:
    world = HubWorld()
    client = world.open("a")
    for number in range(150):
        client.speak(numbered_speech([number]))
        world.settle()
    client.say(Finish())
    world.settle()
    assert client.numbers == list(range(150))
    assert Partial not in kinds(client.events)
    assert client.seat.outbox.n_dropped > 5


# ---------------------------------------------------------------- the end of the server


def test_draining_delivers_finals_then_shutting_down() -> None:
    world = HubWorld()
    clients = [world.open(name).speak(numbered_speech(range(50))) for name in "ab"]
    idle = world.open("c")
    world.hub.drain(world.now_s)
    assert isinstance(error_of(idle.read()), ShuttingDown)
    world.settle()
    for client in clients:
        assert client.numbers == list(range(50))
        assert isinstance(error_of(client.events), ShuttingDown)
        assert client.seat.close_code == 1001


def test_a_dead_engine_ends_all_at_once() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(50)))
    world.hub.fail_all(EngineFailed("gone"), world.now_s)
    assert kinds(client.read()) == [Started, Failed]
    assert client.seat.close_code == 1011
    late = world.open("late", start=False)
    assert isinstance(error_of(late.read()), EngineFailed)


def test_new_sessions_are_refused_while_closing_before_anybody_is_woken() -> None:
    world = HubWorld()
    world.hub.drain(world.now_s)
    late = world.open("late", start=False)
    assert isinstance(error_of(late.read()), ShuttingDown)
    assert late.seat.close_code == 1001
    assert late.n_wakes == 0
    late.leave()
    assert len(world.hub) == 0


# ---------------------------------------------------------------- properties

steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from("speak speak pause flush score decode finish bug leave read".split()),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_one_client_does_the_quiet_one_gets_exactly_its_own(script: list[tuple[int, str]]) -> None:
    world = HubWorld()
    quiet = world.open("quiet")
    clients = [world.open(str(i)) for i in range(4)]
    said = 0
    gone: set[int] = set()
    for i, what in script:
        quiet.speak(numbered_speech([said]))
        said += 1
        if i in gone:
            continue
        client = clients[i]
        match what:
            case "speak":
                client.speak(numbered_speech(range(50_000, 50_060)))
            case "pause":
                client.speak(silence(30))
            case "flush":
                client.say(Flush())
            case "score":
                world.score(client.id)
            case "decode":
                if world.decoder.jobs:
                    world.decode(i % len(world.decoder.jobs))
            case "finish":
                client.say(Finish())
            case "bug":
                world.hub.receive_scores(client.id, [0.5] * 1_000, world.now_s)
            case "leave":
                client.leave()
                gone.add(i)
            case "read":
                client.read()
    quiet.say(Finish())
    world.settle()
    assert quiet.numbers == list(range(said))
    assert quiet.seat.close_code == 1000
    for client in clients:
        assert all(number >= 50_000 for number in client.numbers)


def test_audio_beyond_ten_seconds_turns_reading_off_for_that_client_only() -> None:
    world = HubWorld()
    client, other = world.open("a"), world.open("b")
    client.say(Audio(bytes(2 * 16_000 * 11)))
    assert not client.seat.session.wants_audio
    assert other.seat.session.wants_audio
    world.settle()
    assert client.seat.session.wants_audio
    assert Final not in kinds(client.read())


def test_a_segment_that_cannot_be_decoded_is_empty_and_told_and_the_stream_goes_on() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(10))).say(Flush())
    world.score(client.id)
    world.hub.receive_undecodable(world.decoder.jobs.pop(), world.now_s)
    client.speak(numbered_speech(range(10, 20))).say(Finish())
    world.settle()
    events = client.read()
    warned = [event for event in events if isinstance(event, Warned)]
    assert [event.code for event in warned] == ["segment_undecodable"]
    finals = [event for event in events if isinstance(event, Final)]
    assert [(final.segment, numbers_in(final.text)) for final in finals] == [(0, []), (1, [*range(10, 20)])]
    assert events.index(warned[0]) < events.index(finals[0])
    assert isinstance(events[-1], Finished)


def test_a_segment_of_a_session_that_left_is_dropped_and_counted() -> None:
    world = HubWorld()
    client = world.open("a").speak(numbered_speech(range(10))).say(Flush())
    world.score(client.id)
    job = world.decoder.jobs[0]
    client.leave()
    world.hub.receive_undecodable(job, world.now_s)
    assert world.hub.n_orphans == 1
