"""What sessions of a hub say reaches the readers of the room that they named, and nobody else."""

import dataclasses
from itertools import count

import pytest
from driver import RESUMABLE, START, Client, HubWorld

from stream_server.core.messages import Failed, Finish, Start
from stream_server.core.room_log import RoomLimits
from stream_server.core.room_messages import (
    Read,
    RoomEvent,
    RoomFinal,
    RoomPartial,
    RoomUtterance,
    SourceJoined,
    SourceLeft,
)
from stream_server.core.rooms import Reader, RoomFacts, Rooms
from stream_server.engine.fake import numbered_speech, numbers_in, silence
from stream_server.errors import ShuttingDown

IN_HALL = dataclasses.replace(START, room="hall", speaker="Anna")


class RoomHubWorld(HubWorld):
    """A hub with rooms; an event's bytes are its place in a list."""

    def __init__(self, limits: RoomLimits | None = None) -> None:
        self.encoded: list[RoomEvent] = []
        lives = (str(number) for number in count())
        self.rooms = Rooms(
            limits or RoomLimits(), self._encode, new_life=lambda: next(lives), unix_s=lambda: 0.0
        )
        super().__init__(RESUMABLE, rooms=self.rooms)

    def _encode(self, event: RoomEvent) -> bytes:
        self.encoded.append(event)
        return str(len(self.encoded) - 1).encode()

    def publish(self, name: str, start: Start = IN_HALL) -> Client:
        return self.open(name, start=False).say(start)

    def join(self, room: str = "hall") -> Reader:
        return self.rooms.join(room, Read(), lambda: None, self.now_s)

    def read(self, reader: Reader) -> list[RoomEvent]:
        """Everything that waits for a reader."""
        events = []
        while (data := reader.pop()) is not None:
            events.append(self.encoded[int(data)])
        return events


def said(events: list[RoomEvent]) -> list[int]:
    return [number for event in events if isinstance(event, RoomFinal) for number in numbers_in(event.text)]


def test_readers_get_what_the_source_gets_and_it_leaves_with_its_stream() -> None:
    world = RoomHubWorld()
    reader = world.join()
    client = world.publish("a").speak(numbered_speech(range(50)))
    world.settle()
    client.speak(silence(30)).say(Finish())
    world.settle()
    events = world.read(reader)
    assert said(events) == client.numbers == list(range(50))
    assert isinstance(events[1], SourceJoined)
    assert isinstance(events[-1], SourceLeft)
    assert list(world.rooms) == [RoomFacts("hall", 0, 1)]


def test_partials_reach_readers_while_speech_goes_on() -> None:
    world = RoomHubWorld()
    reader = world.join()
    world.publish("a").speak(numbered_speech(range(40)))
    world.settle()
    assert any(isinstance(event, RoomPartial) for event in world.read(reader))


def test_an_utterance_reaches_readers_and_who_comes_late_gets_it_after_its_finals() -> None:
    world = RoomHubWorld()
    early = world.join()
    client = world.publish("a", dataclasses.replace(IN_HALL, revise=True, partials=False))
    client.speak(numbered_speech(range(300))).speak(silence(40))
    world.settle()
    late = world.join()
    for reader in (early, late):
        events = [event for event in world.read(reader) if isinstance(event, RoomFinal | RoomUtterance)]
        *finals, utterance = events
        assert isinstance(utterance, RoomUtterance)
        assert [event.number for event in events] == list(range(2, 2 + len(events)))
        assert (utterance.first_segment, utterance.last_segment) == (0, len(finals) - 1)
        assert numbers_in(utterance.text) == said([*finals]) == list(range(300))


def test_rooms_and_streams_without_a_room_do_not_mix() -> None:
    world = RoomHubWorld()
    hall, board = world.join("hall"), world.join("board")
    for number, start in enumerate((START, IN_HALL, dataclasses.replace(IN_HALL, room="board"))):
        world.publish(str(number), start).speak(numbered_speech([number])).say(Finish())
    world.settle()
    assert (said(world.read(hall)), said(world.read(board))) == ([1], [2])


def test_a_connection_that_is_lost_takes_its_source_along() -> None:
    world = RoomHubWorld()
    reader = world.join()
    client = world.publish("a")
    client.leave()
    assert isinstance(world.read(reader)[-1], SourceLeft)


@pytest.mark.parametrize(
    ("start", "code"),
    [(IN_HALL, "overloaded"), (dataclasses.replace(IN_HALL, room="new", language="xx"), "not_supported")],
)
def test_a_source_that_cannot_be_let_in_is_told_and_readers_see_nothing(start: Start, code: str) -> None:
    world = RoomHubWorld(RoomLimits(sources_per_room=1))
    world.publish("a")
    reader = world.join(start.room or "")
    world.read(reader)
    client = world.publish("b", start)
    [failed] = client.read()
    assert isinstance(failed, Failed)
    assert failed.error.code == code
    assert world.read(reader) == []


def test_a_second_start_ends_the_stream_and_not_the_room() -> None:
    world = RoomHubWorld()
    reader = world.join()
    client = world.publish("a").speak(numbered_speech(range(9))).say(IN_HALL)
    world.settle()
    assert client.numbers == said(world.read(reader)) == list(range(9))
    assert world.bugs == []


def test_a_hub_without_rooms_says_so() -> None:
    world = HubWorld()
    [failed] = world.open("a", start=False).say(IN_HALL).read()
    assert isinstance(failed, Failed)
    assert failed.error.code == "not_supported"


def test_a_hub_that_stops_gives_readers_the_last_finals() -> None:
    world = RoomHubWorld()
    reader = world.join()
    world.publish("a").speak(numbered_speech(range(9)))
    world.rooms.drain(ShuttingDown("stopping"))
    world.hub.drain(world.now_s)
    assert reader.error is None
    world.settle()
    assert said(world.read(reader)) == list(range(9))
    assert isinstance(reader.error, ShuttingDown)


def test_a_source_whose_connection_broke_has_left_only_when_it_cannot_come_back() -> None:
    world = RoomHubWorld()
    reader = world.join()
    client = world.publish("a").speak(numbered_speech(range(9)))
    client.leave(None)
    world.settle()
    before = world.read(reader)
    assert not any(isinstance(event, SourceLeft) for event in before)
    world.pass_time(RESUMABLE.limits.resume_s + 1.0)
    world.settle()
    after = world.read(reader)
    assert said(before) + said(after) == list(range(9))
    assert isinstance(after[-1], SourceLeft)
