"""Rooms as a for-loop: sources publish, readers read when told, and the clock moves when told."""

from collections.abc import Iterator
from itertools import count

import pytest
from driver import LIMITS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream_server.core.messages import (
    Failed,
    Final,
    Finished,
    Lag,
    Partial,
    SessionId,
    SpeechStarted,
    Started,
)
from stream_server.core.room_log import RoomLimits
from stream_server.core.room_messages import (
    Joined,
    Read,
    RoomEvent,
    RoomFinal,
    RoomPartial,
    SourceJoined,
    SourceLeft,
    is_room_name,
    is_speaker_name,
)
from stream_server.core.rooms import Reader, RoomFacts, Rooms
from stream_server.errors import (
    EngineFailed,
    Overloaded,
    ProtocolViolation,
    ShuttingDown,
    SlowReader,
    StreamError,
)

SMALL = RoomLimits(
    rooms=3,
    sources_per_room=2,
    readers_per_room=4,
    history_events=6,
    history_bytes=1_000,
    history_s=100.0,
    grace_s=30.0,
    unread_s=10.0,
)


class RoomWorld:
    """Rooms, and what their readers read; an event's bytes are its place in a list."""

    def __init__(self, limits: RoomLimits = SMALL, event_bytes: int = 8) -> None:
        self.now_s = 1_000.0
        self.encoded: list[RoomEvent] = []
        self.event_bytes = event_bytes
        self.wakes: dict[str, int] = {}
        lives = (f"{number:016x}" for number in count())
        self.rooms = Rooms(
            limits, self._encode, new_life=lambda: next(lives), unix_s=lambda: 1e9 + self.now_s
        )

    def _encode(self, event: RoomEvent) -> bytes:
        self.encoded.append(event)
        return str(len(self.encoded) - 1).encode().rjust(self.event_bytes, b"0")

    def source(self, name: str, room: str = "hall", speaker: str = "Anna") -> SessionId:
        session = SessionId(name)
        self.rooms.enter(session, room, speaker, self.now_s)
        self.rooms.publish(session, Started(session, "fake", LIMITS, ()), self.now_s)
        return session

    def partial(self, session: SessionId, segment: int, text: str = "so far") -> None:
        self.rooms.publish(session, Partial(segment, 1, 0, 512, text, 0), self.now_s)

    def final(self, session: SessionId, segment: int, text: str = "said") -> None:
        self.rooms.publish(session, Final(segment, 0, 512, text, "en", True), self.now_s)

    def leave(self, session: SessionId) -> None:
        self.rooms.leave(session, self.now_s)

    def reader(self, room: str = "hall", read: Read | None = None, name: str = "reader") -> Reader:
        self.wakes[name] = 0
        return self.rooms.join(room, read or Read(), lambda: self._note(name), self.now_s)

    def _note(self, name: str) -> None:
        self.wakes[name] += 1

    def pop(self, reader: Reader) -> RoomEvent | None:
        data = reader.pop()
        return None if data is None else self.encoded[int(data)]

    def read(self, reader: Reader) -> list[RoomEvent]:
        """Everything that waits for a reader."""
        return list(self._reading(reader))

    def _reading(self, reader: Reader) -> Iterator[RoomEvent]:
        while (event := self.pop(reader)) is not None:
            yield event

    def joined(self, reader: Reader) -> Joined:
        event = self.pop(reader)
        assert isinstance(event, Joined)
        return event

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.rooms.tick(self.now_s)


def numbers(events: list[RoomEvent]) -> list[int]:
    return [event.number for event in events if isinstance(event, SourceJoined | SourceLeft | RoomFinal)]


def texts(events: list[RoomEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, RoomFinal)]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a", "0", "board-301", "a" * 63, "a-"])
def test_a_room_may_have_this_name(name: str) -> None:
    assert is_room_name(name)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a b", "a/b", "a.b", "ä", "a" * 64, "a\n", "٣"])
def test_a_room_may_not_have_this_name(name: str) -> None:
    assert not is_room_name(name)


@pytest.mark.parametrize("name", ["Anna", "Dr. Ng", "王", "x" * 64])
def test_a_speaker_may_have_this_name(name: str) -> None:
    assert is_speaker_name(name)


@pytest.mark.parametrize("name", ["", " ", " Anna", "Anna ", "a\tb", "a\x1b[0m", "\u202eAnna", "x" * 65])
def test_a_speaker_may_not_have_this_name(name: str) -> None:
    assert not is_speaker_name(name)


# ---------------------------------------------------------------- reading


def test_a_reader_gets_what_a_source_says() -> None:
    world = RoomWorld()
    reader = world.reader()
    assert world.joined(reader) == Joined("hall", "0" * 16, False, 1, 0, ())
    anna = world.source("a")
    world.partial(anna, 0)
    [came, partial] = world.read(reader)
    assert isinstance(came, SourceJoined)
    assert isinstance(partial, RoomPartial)
    assert (came.number, came.source.speaker, came.unix_s) == (1, "Anna", 1e9 + 1_000)
    world.final(anna, 0, "hello")
    [final] = world.read(reader)
    assert isinstance(final, RoomFinal)
    assert (final.number, final.source, final.text, final.segment) == (2, came.source, "hello", 0)
    world.leave(anna)
    [left] = world.read(reader)
    assert isinstance(left, SourceLeft)
    assert (left.number, left.source) == (3, came.source)


def test_a_late_reader_gets_what_was_said_and_what_is_being_said() -> None:
    world = RoomWorld()
    anna = world.source("a")
    world.final(anna, 0, "one")
    world.partial(anna, 1, "tw")
    reader = world.reader()
    joined, came, final, partial = world.read(reader)
    assert isinstance(joined, Joined)
    assert (joined.first, joined.last, [source.speaker for source in joined.sources]) == (1, 2, ["Anna"])
    assert isinstance(came, SourceJoined)
    assert texts([final]) == ["one"]
    assert isinstance(partial, RoomPartial)
    assert partial.text == "tw"


@pytest.mark.parametrize(
    ("recent", "expected"), [(None, [1, 2, 3, 4]), (2, [3, 4]), (0, []), (9, [1, 2, 3, 4])]
)
def test_a_newcomer_may_ask_for_fewer_events(recent: int | None, expected: list[int]) -> None:
    world = RoomWorld()
    anna = world.source("a")
    for segment in range(3):
        world.final(anna, segment)
    reader = world.reader(read=Read(recent=recent))
    joined = world.joined(reader)
    assert numbers(world.read(reader)) == expected
    assert (joined.first, joined.last, joined.gap) == (5 - len(expected), 4, False)


def test_a_reader_that_comes_back_goes_on_after_the_event_it_saw() -> None:
    world = RoomWorld()
    anna = world.source("a")
    first = world.reader()
    life = world.joined(first).life
    world.final(anna, 0)
    assert numbers(world.read(first)) == [1, 2]
    world.rooms.part(first)
    world.final(anna, 1)
    again = world.reader(read=Read(life=life, after=2))
    assert world.joined(again) == Joined("hall", life, False, 3, 3, world.joined(world.reader()).sources)
    assert numbers(world.read(again)) == [3]


def test_who_comes_back_too_late_is_told_of_the_gap() -> None:
    world = RoomWorld()
    anna = world.source("a")
    life = world.joined(world.reader()).life
    for segment in range(SMALL.history_events + 1):
        world.final(anna, segment)
    for after, gap in ((0, True), (1, True), (2, False), (3, False)):
        joined = world.joined(reader := world.reader(read=Read(life=life, after=after)))
        assert (joined.gap, joined.first) == (gap, max(3, after + 1))
        world.rooms.part(reader)


def test_event_numbers_of_an_earlier_life_are_not_mistaken() -> None:
    world = RoomWorld()
    reader = world.reader()
    life = world.joined(reader).life
    world.rooms.part(reader)
    anna = world.source("a")
    world.final(anna, 0)
    joined = world.joined(world.reader(read=Read(life=life, after=1)))
    assert joined.life != life
    assert (joined.gap, joined.first) == (True, 1)


def test_an_event_that_never_was_cannot_have_been_seen() -> None:
    world = RoomWorld()
    world.source("a")
    life = world.joined(world.reader()).life
    world.reader(read=Read(life=life, after=1))
    with pytest.raises(ProtocolViolation, match="last event is 1"):
        world.reader(read=Read(life=life, after=2))


# ---------------------------------------------------------------- sources


def test_sources_are_told_apart_even_under_one_name() -> None:
    world = RoomWorld()
    anna, other = world.source("a"), world.source("b")
    world.partial(anna, 0, "from a")
    world.partial(other, 0, "from b")
    joined, _, _, *partials = world.read(world.reader())
    assert isinstance(joined, Joined)
    assert [source.speaker for source in joined.sources] == ["Anna", "Anna"]
    assert len({source.id for source in joined.sources}) == 2
    assert [p.source for p in partials if isinstance(p, RoomPartial)] == list(joined.sources)


def test_a_source_that_comes_back_is_another_one() -> None:
    world = RoomWorld()
    world.leave(world.source("a"))
    world.source("a")
    came = [event.source.id for event in world.read(world.reader()) if isinstance(event, SourceJoined)]
    assert len(set(came)) == 2


def test_readers_do_not_see_a_source_whose_start_is_refused() -> None:
    world = RoomWorld()
    reader = world.reader()
    session = SessionId("a")
    world.rooms.enter(session, "hall", "Anna", world.now_s)
    world.rooms.publish(session, Failed(ProtocolViolation("no")), world.now_s)
    assert len(world.read(reader)) == 1
    assert list(world.rooms) == [RoomFacts("hall", 0, 1)]


@pytest.mark.parametrize("end", [Finished(0, 0), Failed(EngineFailed("gone"))])
def test_a_source_leaves_with_its_stream_and_takes_its_partial_along(end: Finished | Failed) -> None:
    world = RoomWorld()
    anna = world.source("a")
    world.partial(anna, 0)
    world.rooms.publish(anna, end, world.now_s)
    world.leave(anna)
    events = world.read(world.reader())
    assert numbers(events) == [1, 2]
    assert not any(isinstance(event, RoomPartial) for event in events)


def test_what_only_the_source_needs_is_not_passed_on() -> None:
    world = RoomWorld()
    anna = world.source("a")
    reader = world.reader()
    world.read(reader)
    woken = world.wakes["reader"]
    for event in (SpeechStarted(0), Lag(3)):
        world.rooms.publish(anna, event, world.now_s)
    assert world.read(reader) == []
    assert world.wakes["reader"] == woken


def test_a_session_in_no_room_is_no_business_of_rooms() -> None:
    world = RoomWorld()
    world.final(SessionId("x"), 0)
    world.leave(SessionId("x"))
    assert len(world.rooms) == 0


def test_readers_are_told_of_a_model_that_stands_in() -> None:
    world = RoomWorld()
    anna = world.source("anna")
    world.rooms.publish(anna, Partial(0, 1, 0, 512, "so", 0, model="light"), world.now_s)
    world.rooms.publish(anna, Final(0, 0, 512, "so", "en", True, model="light"), world.now_s)
    world.final(anna, 1)
    spoken = [event for event in world.encoded if isinstance(event, RoomPartial | RoomFinal)]
    assert [event.model for event in spoken] == ["light", "light", None]


# ---------------------------------------------------------------- slow readers


def test_a_slow_reader_misses_partials_and_no_final() -> None:
    world = RoomWorld()
    anna = world.source("a")
    reader = world.reader()
    for segment in range(3):
        for text in ("a", "a b", "a b c"):
            world.partial(anna, segment, text)
        world.final(anna, segment, f"final {segment}")
    world.partial(anna, 3, "newest")
    events = world.read(reader)
    assert texts(events) == ["final 0", "final 1", "final 2"]
    assert [event.text for event in events if isinstance(event, RoomPartial)] == ["newest"]


def test_an_event_is_encoded_once_for_all_readers() -> None:
    world = RoomWorld()
    readers = [world.reader() for _ in range(4)]
    world.final(world.source("a"), 0)
    data = [[reader.pop() for _ in range(3)] for reader in readers]
    assert len({id(popped[2]) for popped in data}) == 1


def test_a_reader_that_leaves_an_event_unread_for_too_long_is_given_up() -> None:
    world = RoomWorld()
    anna = world.source("a")
    reader, quick = world.reader(), world.reader(name="quick")
    world.read(quick)
    world.pass_time(SMALL.unread_s)
    assert reader.error is None
    world.pass_time(0.1)
    assert isinstance(reader.error, SlowReader)
    assert reader.pop() is None
    assert quick.error is None
    world.final(anna, 0)
    assert texts(world.read(quick)) == ["said"]


def test_what_was_said_before_a_reader_came_is_late_from_then_on() -> None:
    world = RoomWorld()
    world.source("a")
    world.pass_time(50)
    reader = world.reader()
    world.pass_time(SMALL.unread_s)
    assert reader.error is None
    assert numbers(world.read(reader)) == [1]


def test_a_reader_behind_the_log_is_told_at_once_and_comes_back_with_a_gap() -> None:
    world = RoomWorld()
    anna = world.source("a")
    reader = world.reader()
    life = world.joined(reader).life
    for segment in range(SMALL.history_events + 1):
        world.final(anna, segment)
    assert reader.pop() is None
    assert isinstance(reader.error, SlowReader)
    assert world.joined(world.reader(read=Read(life=life, after=0))).gap


def test_a_reader_that_never_reads_holds_nothing_but_its_place() -> None:
    world = RoomWorld()
    anna = world.source("a")
    idle = world.reader()
    for segment in range(1_000):
        world.partial(anna, segment)
        world.final(anna, segment)
    held = [value for value in vars(idle).values() if isinstance(value, list | dict | set | bytearray)]
    assert held == []


# ---------------------------------------------------------------- limits


def test_sources_readers_and_rooms_have_limits() -> None:
    world = RoomWorld()
    world.source("a")
    world.source("b")
    with pytest.raises(Overloaded, match="2 sources"):
        world.source("c")
    readers = [world.reader() for _ in range(SMALL.readers_per_room)]
    with pytest.raises(Overloaded, match="4 readers"):
        world.reader()
    world.rooms.part(readers[0])
    world.reader()
    world.reader(room="second")
    world.source("d", room="third")
    with pytest.raises(Overloaded, match="3 rooms"):
        world.reader(room="fourth")
    with pytest.raises(Overloaded, match="3 rooms"):
        world.source("e", room="fourth")


def test_history_is_bounded_by_number_bytes_and_age() -> None:
    by_number = RoomWorld()
    anna = by_number.source("a")
    for segment in range(9):
        by_number.final(anna, segment)
    assert by_number.joined(by_number.reader()).first == 10 - SMALL.history_events + 1
    by_bytes = RoomWorld(event_bytes=300)
    anna = by_bytes.source("a")
    for segment in range(4):
        by_bytes.final(anna, segment)
    assert by_bytes.joined(by_bytes.reader()).first == 3
    by_age = RoomWorld()
    anna = by_age.source("a")
    by_age.pass_time(SMALL.history_s)
    assert by_age.joined(by_age.reader()).first == 1
    by_age.pass_time(0.1)
    assert by_age.joined(by_age.reader()).first == 2


def test_the_last_event_is_kept_whatever_its_size() -> None:
    world = RoomWorld(event_bytes=2_000)
    reader = world.reader()
    world.joined(reader)
    world.source("a")
    assert numbers(world.read(reader)) == [1]


# ---------------------------------------------------------------- how long a room lives


def test_a_room_nobody_is_in_vanishes() -> None:
    world = RoomWorld()
    reader = world.reader()
    assert len(world.rooms) == 1
    world.rooms.part(reader)
    assert len(world.rooms) == 0


def test_what_was_said_survives_a_sources_reconnect() -> None:
    world = RoomWorld()
    anna = world.source("a")
    world.final(anna, 0, "before")
    world.leave(anna)
    world.pass_time(SMALL.grace_s - 0.1)
    anna = world.source("a2")
    world.pass_time(SMALL.grace_s)
    world.final(anna, 0, "after")
    assert texts(world.read(world.reader())) == ["before", "after"]


def test_after_the_grace_what_was_said_is_forgotten_and_the_room_vanishes() -> None:
    world = RoomWorld()
    anna = world.source("a")
    world.final(anna, 0)
    world.leave(anna)
    world.pass_time(SMALL.grace_s)
    assert len(world.rooms) == 0


def test_a_reader_that_stays_keeps_the_room_but_not_the_transcript() -> None:
    world = RoomWorld()
    screen = world.reader(name="screen")
    anna = world.source("a")
    world.final(anna, 0, "secret of the first meeting")
    world.leave(anna)
    life = world.joined(screen).life
    assert numbers(world.read(screen)) == [1, 2, 3]
    world.pass_time(SMALL.grace_s)
    late = world.reader()
    assert world.read(late) == [Joined("hall", life, False, 4, 3, ())]
    world.source("b")
    assert numbers(world.read(screen)) == numbers(world.read(late)) == [4]


# ---------------------------------------------------------------- the end of the server


def test_at_the_end_readers_get_the_last_finals_before_they_are_told() -> None:
    world = RoomWorld()
    anna = world.source("a")
    reader, waiting = world.reader(), world.reader(room="empty", name="waiting")
    world.rooms.drain(ShuttingDown("stopping"))
    assert isinstance(waiting.error, ShuttingDown)
    assert reader.error is None
    with pytest.raises(ShuttingDown):
        world.reader()
    world.final(anna, 0, "last words")
    world.rooms.publish(anna, Failed(ShuttingDown("stopping")), world.now_s)
    assert isinstance(reader.error, ShuttingDown)
    assert texts(world.read(reader)) == ["last words"]


def test_a_reader_is_told_the_first_reason_only() -> None:
    world = RoomWorld()
    reader = world.reader()
    first: StreamError = ShuttingDown("first")
    reader.finish(first)
    reader.finish(SlowReader("second"))
    reader.cut(SlowReader("third"))
    assert reader.error is first
    assert reader.pop() is None


# ---------------------------------------------------------------- properties


class _Follower:
    """A reader of the state machine, over all its connections."""

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.life: str | None = None
        self.seen = 0
        self.is_new = True
        self.open: dict[str, int] = {}
        """Source and segment of the last partial or final seen of it."""


class RoomMachine(RuleBasedStateMachine):
    """Any order of publishing, reading, leaving, coming back and waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.world = RoomWorld()
        self.segments: dict[SessionId, int] = {}
        self.ids = count()
        self.followers = [_Follower() for _ in range(3)]
        self.truth: dict[tuple[str, int], RoomEvent] = {}

    @rule()
    def source_comes(self) -> None:
        if len(self.segments) < SMALL.sources_per_room:
            self.segments[self.world.source(f"s{next(self.ids)}")] = 0

    @precondition(lambda self: self.segments)
    @rule(data=st.data(), is_final=st.booleans())
    def source_speaks(self, data: st.DataObject, is_final: bool) -> None:
        session = data.draw(st.sampled_from(sorted(self.segments)))
        if is_final:
            self.world.final(session, self.segments[session])
            self.segments[session] += 1
        else:
            self.world.partial(session, self.segments[session])

    @precondition(lambda self: self.segments)
    @rule(data=st.data())
    def source_goes(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.segments)))
        del self.segments[session]
        self.world.leave(session)

    @rule(which=st.integers(0, 2), n_events=st.integers(1, 9))
    def follower_reads(self, which: int, n_events: int) -> None:
        follower = self.followers[which]
        if follower.reader is None:
            read = Read() if follower.life is None else Read(life=follower.life, after=follower.seen)
            follower.reader = self.world.reader(read=read, name=str(which))
            follower.is_new = True
        for _ in range(n_events):
            event = self.world.pop(follower.reader)
            if event is None:
                break
            self._check(follower, event)
        if follower.reader.error is not None:
            assert isinstance(follower.reader.error, SlowReader)
            self.follower_goes(which)

    def _check(self, follower: _Follower, event: RoomEvent) -> None:
        match event:
            case Joined():
                assert follower.is_new
                if follower.life is not None and not event.gap:
                    assert (event.life, event.first) == (follower.life, follower.seen + 1)
                follower.is_new = False
                follower.life, follower.seen = event.life, event.first - 1
                follower.open = {}
            case RoomPartial():
                assert event.segment >= follower.open.get(event.source.id, 0)
                follower.open[event.source.id] = event.segment
            case SourceJoined() | SourceLeft() | RoomFinal():
                assert event.number == follower.seen + 1
                follower.seen = event.number
                assert follower.life is not None
                assert self.truth.setdefault((follower.life, event.number), event) is event
                if isinstance(event, RoomFinal):
                    follower.open[event.source.id] = event.segment + 1

    @rule(which=st.integers(0, 2))
    def follower_goes(self, which: int) -> None:
        follower = self.followers[which]
        if follower.reader is not None:
            self.world.rooms.part(follower.reader)
            follower.reader = None

    @rule(seconds=st.sampled_from([0.5, 6.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def a_room_is_there_while_somebody_is(self) -> None:
        n_readers = sum(follower.reader is not None for follower in self.followers)
        facts = list(self.world.rooms)
        if self.segments or n_readers:
            assert facts == [RoomFacts("hall", len(self.segments), n_readers)]


TestRoomMachine = RoomMachine.TestCase


@given(st.lists(st.sampled_from(["final", "partial", "read"]), max_size=60))
def test_who_reads_in_time_gets_every_final_once_and_in_order(steps: list[str]) -> None:
    world = RoomWorld(RoomLimits(history_events=64))
    anna = world.source("a")
    reader = world.reader()
    seen: list[RoomEvent] = []
    n_finals = 0
    for step in steps:
        if step == "final":
            world.final(anna, n_finals, f"{n_finals}")
            n_finals += 1
        elif step == "partial":
            world.partial(anna, n_finals)
        else:
            seen += world.read(reader)
    seen += world.read(reader)
    assert texts(seen) == [str(number) for number in range(n_finals)]
