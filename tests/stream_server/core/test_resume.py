"""Sessions whose connections break: what is kept, for whom, for how long, and that nobody notices."""

from collections import deque

import numpy as np
import pytest
from driver import RESUMABLE, START, Client, HubWorld, World, as_bytes, check_complete, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.audio.decoder import AudioFormat, Encoding
from stream_server.client.send_log import SendLog
from stream_server.core.hub import EXPIRED_MAX, TAKEN_OVER
from stream_server.core.messages import (
    Ack,
    Audio,
    ClientMessage,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    KeepAlive,
    Numbered,
    Partial,
    Resumed,
    ServerEvent,
    SessionId,
    SpeechStarted,
    Start,
    Started,
)
from stream_server.dialects import schema
from stream_server.engine.fake import numbered_speech, numbers_in, silence
from stream_server.errors import (
    EngineFailed,
    EventOutOfRange,
    NotSupported,
    ProtocolViolation,
    ResumeExpired,
    ShuttingDown,
    StreamError,
    UnknownSession,
    UnsupportedAudio,
)

SPEECH = numbered_speech(range(50))
RESUME_S = RESUMABLE.limits.resume_s


def resumable(**options: float) -> HubWorld:
    return HubWorld(RESUMABLE, **options)


def error_of(client: Client) -> type[StreamError]:
    event = client.read()[-1]
    assert isinstance(event, Failed)
    return type(event.error)


def resumed(client: Client) -> Resumed:
    event = client.read()[0]
    assert isinstance(event, Resumed)
    return event


# ---------------------------------------------------------------- acks


def acks(world: World) -> list[int]:
    return [ack.samples for ack in world.of(Ack)]


def test_audio_at_real_time_is_acknowledged_once_a_second() -> None:
    world = World(RESUMABLE).start()
    for _ in range(100):
        world.now_s += 0.032
        world.send(silence(1))
    assert acks(world) == [32 * 512, 64 * 512, 96 * 512]


def test_audio_faster_than_real_time_is_acknowledged_every_five_seconds_of_it() -> None:
    world = World(RESUMABLE).start()
    for _ in range(320):
        world.send(silence(1))
    assert acks(world) == [157 * 512, 314 * 512]


def test_the_last_audio_before_a_silence_of_the_client_is_acknowledged_too() -> None:
    world = World(RESUMABLE).start()
    world.send(silence(1))
    world.pass_time(1.0)
    world.pass_time(1.0)
    assert acks(world) == [512]


def test_acks_count_samples_as_the_client_does() -> None:
    for audio, n_bytes in (
        (AudioFormat(Encoding.MULAW, 8_000), 8_000),
        (AudioFormat(Encoding.PCM_F32LE, 48_000, 2), 48_000 * 8),
        (AudioFormat(Encoding.PCM_S16LE, 44_100, 2), 44_100 * 4),
    ):
        world = World(RESUMABLE).start(Start(audio))
        world.now_s += 1.0
        world.receive(Audio(bytes(n_bytes + 1) if audio.bytes_per_frame > 1 else bytes(n_bytes)))
        assert acks(world) == [audio.sample_rate_hz]


def test_no_acks_where_nothing_can_be_resumed() -> None:
    world = World().start()
    world.send(silence(400))
    world.pass_time(5.0)
    assert not acks(world)


# ---------------------------------------------------------------- going on


def test_a_lost_connection_is_resumed_with_what_was_missed() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    world.score(client.id)
    client.read()
    client.leave(None)
    world.pass_time(30.0)
    again = world.resume(client)
    assert kinds(again.read()) == [Resumed]
    assert resumed(again) == Resumed(client.id, 50 * 512, 0, closing=False)
    again.speak(numbered_speech(range(50, 80))).say(Finish())
    world.settle()
    assert client.numbers + again.numbers == list(range(80))
    assert isinstance(again.events[-1], Finished)
    assert (world.watcher.n_resumed, world.watcher.detached) == (1, [])


def test_finals_are_made_while_nobody_listens_and_wait() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH).speak(silence(20))
    client.read()
    client.leave(None)
    world.settle()
    again = world.resume(client)
    assert kinds(again.read()) == [Resumed, SpeechStarted, Final]
    assert again.numbers == list(range(50))


def test_a_partial_of_a_lost_connection_waits_for_nobody() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    world.score(client.id)
    world.decode()
    assert Partial not in kinds(world.resume(client).read())


def test_a_split_sample_is_sent_again_whole() -> None:
    world = resumable()
    audio = as_bytes(SPEECH)
    client = world.open("a").say(Audio(audio[:1001]))
    client.leave(None)
    again = world.resume(client)
    assert resumed(again).samples == 500
    again.say(Audio(audio[1000:])).say(Finish())
    world.settle()
    assert again.numbers == list(range(50))


@pytest.mark.parametrize(
    "audio",
    [
        AudioFormat(Encoding.MULAW, 8_000),
        AudioFormat(Encoding.ALAW, 11_025),
        AudioFormat(Encoding.PCM_F32LE, 48_000, 2),
        AudioFormat(Encoding.PCM_S16LE, 44_100, 2),
    ],
)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=5).map(sorted))
def test_the_resampler_hears_nothing_of_the_break(audio: AudioFormat, cuts: list[int]) -> None:
    spoken = np.random.default_rng(7).integers(0, 255, 30_000 * audio.bytes_per_frame // 8, dtype=np.uint8)
    if audio.encoding is Encoding.PCM_F32LE:
        spoken = np.random.default_rng(7).uniform(-1, 1, len(spoken) // 4).astype("<f4").view(np.uint8)
    data = spoken.tobytes()
    heard = []
    for places in ([], cuts):
        world = World(RESUMABLE).start(Start(audio))
        begin = 0
        for place in [*places, len(data)]:
            world.receive(Audio(data[begin:place]))
            world.session.detach()
            [event] = world.take(world.session.resume(world.now_s))
            assert isinstance(event, Resumed)
            begin = event.samples * audio.bytes_per_frame
        heard.append(np.concatenate([*world.frames, np.zeros(0, np.int16)]).tobytes())
    assert heard[0] == heard[1]


def test_a_session_that_waits_is_not_idle_and_is_again_after_it_was_resumed() -> None:
    world = resumable()
    client = world.open("a")
    client.leave(None)
    for _ in range(40):
        world.pass_time(1.0)
    again = world.resume(client)
    assert kinds(again.read()) == [Resumed, Started]
    world.pass_time(30.0)
    assert len(again.read()) == 2
    world.pass_time(0.1)
    assert error_of(again).code == "idle_timeout"


def test_more_flushes_are_known_from_those_that_were_accepted() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH).say(Flush()).say(Flush())
    client.leave(None)
    assert resumed(world.resume(client)).flushes == 2


def test_who_did_not_hear_that_it_finished_hears_it_again() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH).say(Finish())
    world.settle()
    client.leave(None)
    world.pass_time(30.0)
    again = world.resume(client)
    assert kinds(again.read()) == [Resumed, Started, SpeechStarted, Final, Finished]
    assert resumed(again).closing
    assert again.seat.close_code == 1000
    again.leave()
    assert len(world.hub) == 0


def test_finish_before_the_break_is_known() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH).say(Finish())
    client.leave(None)
    again = world.resume(client)
    assert resumed(again).closing
    world.settle()
    assert again.numbers == list(range(50))
    assert again.seat.close_code == 1000


def test_replayed_events_do_not_make_the_client_a_slow_reader() -> None:
    world = resumable(outbox_max=5)
    client = world.open("a")
    for _ in range(20):
        client.say(Flush()).read()
    client.leave(None)
    client.seen.clear()
    again = world.resume(client)
    world.pass_time(1.0)
    assert not again.seat.is_abandoned
    assert again.read().count(Flushed()) == 20


# ---------------------------------------------------------------- who may, and when not


def test_another_identity_is_told_the_same_as_of_a_session_that_never_was() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    thief = world.resume(client, owner="thief", name="thief")
    nothing = Client(world, "other", "thief").resume(SessionId("f" * 32), 0)
    assert error_of(thief) is UnknownSession
    assert str(thief.events[-1].error) == str(nothing.read()[-1].error)  # type: ignore[union-attr]  the last event is a failure
    again = world.resume(client)
    again.say(Finish())
    world.settle()
    assert again.numbers == list(range(50))


def test_a_session_still_attached_is_taken_over_and_its_old_connection_closed() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    old = client.seat
    again = world.resume(client)
    assert (old.close_code, len(old.outbox)) == (TAKEN_OVER, 0)
    world.hub.leave(old, world.now_s, None)
    again.say(Finish())
    world.settle()
    assert again.numbers == list(range(50))
    assert len(world.hub) == 1
    assert world.watcher.detached == []


def test_of_two_who_resume_at_once_the_later_goes_on() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    first = world.resume(client, name="first")
    old = first.seat
    second = world.resume(client, name="second")
    assert old.close_code == TAKEN_OVER
    second.say(Finish())
    world.settle()
    assert second.numbers == list(range(50))
    assert world.watcher.detached == []


def test_a_session_ends_when_nobody_came_back_in_time() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    world.pass_time(RESUME_S)
    assert world.watcher.gone == []
    world.pass_time(0.1)
    late = world.resume(client)
    assert error_of(late) is ResumeExpired
    # Its finals are made all the same, for whoever else follows the session.
    world.settle()
    assert [kept.event for kept in client.seat.replay.after(0)][-1].error.code == "resume_expired"  # type: ignore[union-attr]  the last event is a failure
    world.pass_time(1.0)
    assert [seat.session.id for seat in world.watcher.gone] == [client.id]
    assert client.seat.has_expired
    later = world.resume(client, name="later")
    assert error_of(later) is ResumeExpired
    assert error_of(world.resume(client, owner="thief", name="thief")) is UnknownSession
    assert client.id in world.scorer.withdrawn


def test_a_finished_session_that_nobody_asked_for_goes_too() -> None:
    world = resumable()
    client = world.open("a").say(Finish())
    client.leave(None)
    world.pass_time(RESUME_S + 0.1)
    assert len(world.hub) == 0


def test_who_says_goodbye_leaves_nothing_behind() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(1000)
    assert len(world.hub) == 0
    assert error_of(world.resume(client)) is UnknownSession


def test_a_connection_that_breaks_before_start_leaves_nothing_behind() -> None:
    world = resumable()
    world.open("a", start=False).leave(None)
    refused = Client(world, "b").say(Start(AudioFormat(), language="xx"))
    refused.leave(None)
    assert len(world.hub) == 0


def test_without_resume_a_broken_connection_ends_its_session() -> None:
    world = HubWorld()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    assert len(world.hub) == 0
    assert error_of(world.resume(client)) is NotSupported


def test_the_session_that_has_waited_longest_makes_room() -> None:
    world = resumable(detached_max=2)
    clients = [world.open(name) for name in "abc"]
    for client in clients:
        client.leave(None)
        world.now_s += 1.0
    assert error_of(world.resume(clients[0], name="1")) is ResumeExpired
    assert kinds(world.resume(clients[1], name="2").read()) == [Resumed, Started]
    assert kinds(world.resume(clients[2], name="3").read()) == [Resumed, Started]


def test_the_memory_of_expired_sessions_is_bounded() -> None:
    world = resumable(detached_max=1)
    for number in range(EXPIRED_MAX + 3):
        world.open(str(number)).leave(None)
    assert len(world.hub._expired) == EXPIRED_MAX


@pytest.mark.parametrize("event", [-1, 3, 2**53])
def test_an_event_that_never_was_is_refused_and_the_session_left_alone(event: int) -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    world.score(client.id)
    client.leave(None)
    wrong = Client(world, "wrong").resume(client.id, event)
    assert error_of(wrong) is EventOutOfRange
    assert kinds(world.resume(client).read()) == [Resumed, Started, SpeechStarted]


def test_events_not_kept_any_more_are_told() -> None:
    world = resumable(replay_max=4)
    client = world.open("a")
    for _ in range(5):
        client.say(Flush())
    client.leave(None)
    assert error_of(Client(world, "b").resume(client.id, 1)) is EventOutOfRange
    assert kinds(Client(world, "c").resume(client.id, 2).read()) == [Resumed, *[Flushed] * 4]


def test_resume_can_only_be_the_first_message() -> None:
    world = resumable()
    client, other = world.open("a"), world.open("b")
    other.leave(None)
    assert error_of(client.resume(other.id, 1)) is ProtocolViolation


def test_a_connection_opened_to_resume_may_not_start() -> None:
    world = resumable()
    client = Client(world, "a", only_resumes=True).say(START)
    assert error_of(client) is ProtocolViolation


def test_an_abandoned_reader_cannot_come_back() -> None:
    world = resumable()
    client = world.open("a")
    world.pass_time(10.1)
    assert client.seat.is_abandoned
    client.leave(None)
    assert len(world.hub) == 0


# ---------------------------------------------------------------- the end of the server


def test_a_drain_makes_the_finals_of_waiting_sessions_too_and_takes_nobody_back() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    world.hub.drain(world.now_s)
    world.settle()
    kept = [numbered.event for numbered in client.seat.replay.after(0)]
    assert kinds(kept) == [Started, SpeechStarted, Final, Failed]
    assert error_of(world.resume(client)) is ShuttingDown


def test_a_dead_engine_is_told_to_who_comes_back() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    client.leave(None)
    world.hub.fail_all(EngineFailed("gone"), world.now_s)
    assert error_of(world.resume(client)) is EngineFailed


def test_a_mistake_before_the_break_is_told_after_it() -> None:
    world = resumable()
    client = world.open("a").speak(SPEECH)
    world.hub.refuse(client.id, UnsupportedAudio("?"), world.now_s)
    client.leave(None)
    again = world.resume(client)
    assert resumed(again).closing
    world.settle()
    assert again.numbers == list(range(50))
    assert error_of(again) is UnsupportedAudio


# ---------------------------------------------------------------- random cuts on a simulated clock

_FROM_LOG: dict[type, ClientMessage] = {schema.FlushMessage: Flush(), schema.FinishMessage: Finish()}


class Commuter:
    """A client in a tunnel: what it says and hears is under way for a while, and may be lost.

    It keeps the books with the ``SendLog`` of the real client.
    """

    def __init__(self, world: HubWorld) -> None:
        self.world = world
        self.log = SendLog(2, 1 << 30, keeps=True)
        self.heard: list[ServerEvent] = []
        self.last_event = 0
        self.n_said = 0
        self.n_flushes = 0
        self.up: deque[ClientMessage] = deque()
        self.down: deque[Numbered] = deque()
        self.line: Client | None = world.open("s")
        self.n_lines = 0

    def say(self, n_frames: int, n_silent: int) -> None:
        numbers = range(self.n_said, self.n_said + n_frames)
        self.n_said += n_frames
        self.log.add_audio(as_bytes(numbered_speech(numbers)) + as_bytes(silence(n_silent)))

    def flush(self) -> None:
        self.log.add_flush()
        self.n_flushes += 1

    def pump(self, n_messages: int, size: int) -> None:
        """Give messages to the network."""
        for _ in range(n_messages):
            if self.line is None or (message := self.log.next(size)) is None:
                return
            self.up.append(Audio(message) if isinstance(message, bytes) else _FROM_LOG[type(message)])

    def carry_up(self, n_messages: int) -> None:
        for _ in range(min(n_messages, len(self.up))):
            assert self.line is not None
            if self.line.seat.is_done or not self.line.seat.session.wants_audio:
                return
            self.line.say(self.up.popleft())

    def carry_down(self, n_messages: int) -> None:
        if self.line is not None:
            while (numbered := self.line.seat.outbox.pop()) is not None:
                self.down.append(numbered)
        for _ in range(min(n_messages, len(self.down))):
            self.hear(self.down.popleft())

    def hear(self, numbered: Numbered) -> None:
        if numbered.number is not None:
            assert numbered.number == self.last_event + 1, "an event is lost or doubled"
            self.last_event = numbered.number
        match numbered.event:
            case Ack(samples):
                self.log.acknowledge(samples)
            case Resumed() as said:
                self.log.rewind(said.samples, said.flushes, closing=said.closing)
            case event:
                self.log.answer_flush() if isinstance(event, Flushed) else None
                self.heard.append(event)

    def cut(self, *, is_noticed: bool) -> None:
        """The network fails; the server learns of it, or not before somebody else comes."""
        self.up.clear()
        if self.line is not None:
            self.carry_down(0)
            if is_noticed:
                self.line.leave(None)
        self.down.clear()
        self.line = None

    def come_back(self) -> None:
        if self.line is None:
            self.n_lines += 1
            line = Client(self.world, f"line {self.n_lines}", only_resumes=True)
            self.line = line.resume(SessionId("s"), self.last_event)
            assert self.line.id == "s"
            self.carry_down(1)  # The client says nothing before it knows where to go on.

    def settle(self) -> None:
        """The network works and everybody answers, until there is nothing left to do."""
        self.come_back()
        for _ in range(1_000):
            self.pump(100, 4_096)
            self.carry_up(100)
            self.world.settle()
            self.carry_down(1_000)
            if self.log.is_sent and not self.up:
                return
        raise AssertionError("this never ends")


STEPS = st.one_of(
    st.tuples(st.just("say"), st.sampled_from([1, 10, 60, 170]), st.sampled_from([0, 3, 20])),
    st.tuples(st.just("pump"), st.integers(1, 9), st.sampled_from([1, 333, 1_024, 30_001])),
    st.tuples(st.just("up"), st.integers(0, 9)),
    st.tuples(st.just("down"), st.integers(0, 9)),
    st.tuples(st.just("cut"), st.booleans()),
    st.tuples(st.just("come back")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("work")),
    st.tuples(st.just("finish")),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 29.0])),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_whatever_is_lost_on_the_way_every_event_comes_once_and_in_order(
    steps: list[tuple[object, ...]],
) -> None:
    world = resumable(outbox_max=10_000, outbox_wait_s=1e9)
    client = Commuter(world)
    has_finished = False
    for step in steps:
        match step:
            case "say", int(n_frames), int(n_silent) if not has_finished:
                client.say(n_frames, n_silent)
            case "pump", int(n_messages), int(size):
                client.pump(n_messages, size)
            case "up", int(n_messages):
                client.carry_up(n_messages)
            case "down", int(n_messages):
                client.carry_down(n_messages)
            case "cut", bool(is_noticed):
                client.cut(is_noticed=is_noticed)
            case ("come back",):
                client.come_back()
            case ("flush",) if not has_finished:
                client.flush()
            case ("work",):
                world.settle()
            case ("finish",) if not has_finished:
                client.log.add_finish()
                has_finished = True
            case "wait", float(seconds):
                client.come_back()
                client.pump(1, 1_024)
                client.carry_up(1)
                if client.line is not None and not client.up:
                    client.line.say(KeepAlive()) if not client.line.seat.is_done else None
                client.cut(is_noticed=True)
                world.pass_time(seconds)
    if not has_finished:
        client.settle()
        client.log.add_finish()
    client.settle()
    finals = [event for event in client.heard if isinstance(event, Final)]
    assert [n for final in finals for n in numbers_in(final.text)] == list(range(client.n_said))
    assert client.heard.count(Flushed()) == client.n_flushes
    assert isinstance(client.heard[-1], Finished)
    check_complete([event for event in client.heard if not isinstance(event, Partial)])
