"""Rooms: sources publish captions, readers follow them, and nobody waits for anybody.

1. A room keeps one log of durable events (sources come and go, finals, utterances), numbered from 1
   without gaps for as long as the room lives. A reader is a place in that log and nothing more: what it
   has not read yet is not copied for it, so that one that never reads costs nobody anything.
2. Of partials only the newest of each source is kept. A reader that comes back from writing finds the
   newest and never sees those between. A final takes its segment's partial away.
3. Events are encoded once, when they are published; all readers share the bytes.
4. The log is bounded by number, bytes and age. A reader whose next event waits longer than
   ``unread_s``, or has left the log, is told ``slow_reader`` and can come back where it was.
5. ``grace_s`` after its last source has left, a room forgets what was said, so that a source may
   reconnect without the transcript being lost, and one meeting's words do not meet the next one's
   readers. A room with neither sources, readers nor transcript vanishes; one of the same name that comes
   later has another ``life``, so that event numbers of the two are never mistaken.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stream_server.core.messages import (
    Failed,
    Final,
    Finished,
    Partial,
    ServerEvent,
    SessionId,
    Started,
    Utterance,
)
from stream_server.core.room_log import RoomLimits, RoomLog
from stream_server.core.room_messages import (
    Joined,
    Read,
    RoomEvent,
    RoomFinal,
    RoomPartial,
    RoomUtterance,
    Source,
    SourceJoined,
    SourceLeft,
)
from stream_server.errors import Overloaded, ProtocolViolation, SlowReader, StreamError


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What is told about a room to those who may read it."""

    name: str
    n_sources: int
    n_readers: int


@dataclass(frozen=True, slots=True)
class _OpenPartial:
    """The newest partial of one source."""

    version: int
    """Rises with each partial of the room."""
    segment: int
    data: bytes


class Reader:
    """A reader's place in a room, from ``Rooms.join`` until ``Rooms.part``."""

    def __init__(
        self, room: "_Room", greeting: bytes, first: int, wake: Callable[[], None], now_s: float
    ) -> None:
        self._room = room
        self._greeting: bytes | None = greeting
        self._next = first
        self._version = 0
        self._joined_s = now_s
        self._is_cut = False
        self.wake = wake
        """Called when there may be something to ``pop``, or ``error`` is set."""
        self.error: StreamError | None = None
        """Why the connection is to be closed once ``pop`` gives nothing more."""

    def pop(self) -> bytes | None:
        """Take the next event to write it: the greeting, then durable events, then newest partials."""
        if self._is_cut:
            return None
        if self._greeting is not None:
            data, self._greeting = self._greeting, None
            return data
        if self._next < self._room.log.first:
            self.cut(_slow_reader())
            return None
        entry = self._room.log.entry(self._next)
        if entry is not None:
            self._next += 1
            return entry.data
        return self._pop_partial()

    def _pop_partial(self) -> bytes | None:
        for partial in self._room.partials.values():  # by rising version
            if partial.version > self._version:
                self._version = partial.version
                return partial.data
        return None

    def finish(self, error: StreamError) -> None:
        """End this reader after everything that waits for it."""
        if self.error is None:
            self.error = error
            self.wake()

    def cut(self, error: StreamError) -> None:
        """End this reader before anything that waits for it."""
        self._is_cut = True
        if self.error is None:
            self.error = error
        self.wake()

    def is_overdue(self, unread_s: float, now_s: float) -> bool:
        """Whether this reader is too far behind to be waited for."""
        if self._is_cut:
            return False
        if self._next < self._room.log.first:
            return True
        entry = self._room.log.entry(self._next)
        return entry is not None and now_s - max(entry.published_s, self._joined_s) > unread_s


def _slow_reader() -> SlowReader:
    return SlowReader("captions were left unread for too long; connect again and go on after the last event")


class _Room:
    """One life of a room."""

    def __init__(self, name: str, life: str, limits: RoomLimits, now_s: float) -> None:
        self.name = name
        self.life = life
        self.log = RoomLog(limits)
        self.partials: dict[SessionId, _OpenPartial] = {}
        self.sources: dict[SessionId, Source] = {}
        """Those that have started."""
        self.starting: dict[SessionId, Source] = {}
        """Those whose ``Started`` is yet to come; readers do not see them."""
        self.readers: set[Reader] = set()
        self.n_sources_ever = 0
        self.n_versions = 0
        self.silent_s = now_s
        """When the last source left."""

    @property
    def has_sources(self) -> bool:
        return bool(self.sources or self.starting)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to keep the room for."""
        return not (self.has_sources or self.readers) and self.log.first > self.log.last

    def wake_readers(self) -> None:
        for reader in self.readers:
            reader.wake()


class Rooms:
    """All rooms of a server, on one thread.

    Args:
        limits: For all of them.
        encode: Writes an event as readers will get it.
        new_life: Gives an unguessable name that no other life of a room has.
        unix_s: Gives the wall clock's time; everything else goes by ``now_s``, monotonic seconds.
    """

    def __init__(
        self,
        limits: RoomLimits,
        encode: Callable[[RoomEvent], bytes],
        *,
        new_life: Callable[[], str],
        unix_s: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._encode = encode
        self._new_life = new_life
        self._unix_s = unix_s
        self._rooms: dict[str, _Room] = {}
        self._room_of: dict[SessionId, _Room] = {}
        self._closing: StreamError | None = None

    def __iter__(self) -> Iterator[RoomFacts]:
        """The rooms by name."""
        for name, room in sorted(self._rooms.items()):
            yield RoomFacts(name, len(room.sources), len(room.readers))

    def __len__(self) -> int:
        return len(self._rooms)

    # ------------------------------------------------------------ sources

    def enter(self, session: SessionId, name: str, speaker: str, now_s: float) -> None:
        """Keep a place for a source that is about to start. ``leave`` gives it back.

        Raises:
            Overloaded: No room for it.
        """
        assert session not in self._room_of, "a session publishes in one room"
        room = self._open(name, now_s)
        if len(room.sources) + len(room.starting) >= self._limits.sources_per_room:
            raise Overloaded(
                f"{self._limits.sources_per_room} sources are in this room; try another, or later"
            )
        room.n_sources_ever += 1
        room.starting[session] = Source(str(room.n_sources_ever), speaker)
        self._room_of[session] = room

    def publish(self, session: SessionId, event: ServerEvent, now_s: float) -> None:
        """Pass on what a session says, if it is one of a room's sources and readers care for it."""
        room = self._room_of.get(session)
        if room is None:
            return
        match event:
            case Started():
                source = room.sources[session] = room.starting.pop(session)
                self._append(room, SourceJoined(room.log.last + 1, source, self._unix_s()), now_s)
            case Partial():
                self._set_partial(room, session, event)
            case Final():
                self._publish_final(room, session, event, now_s)
            case Utterance():
                self._publish_utterance(room, session, event, now_s)
            case Finished() | Failed():
                self.leave(session, now_s)
            case _:
                pass

    def leave(self, session: SessionId, now_s: float) -> None:
        """A session has ended; nothing happens if it is in no room."""
        room = self._room_of.pop(session, None)
        if room is None:
            return
        room.partials.pop(session, None)
        room.starting.pop(session, None)
        source = room.sources.pop(session, None)
        if source is not None:
            self._append(room, SourceLeft(room.log.last + 1, source, self._unix_s()), now_s)
        if not room.has_sources:
            room.silent_s = now_s
            self._close_if_draining(room)
        self._vanish_if_over(room)

    def _set_partial(self, room: _Room, session: SessionId, event: Partial) -> None:
        source = room.sources[session]
        partial = RoomPartial(
            source,
            event.segment,
            event.revision,
            event.start,
            event.end,
            event.text,
            event.stable,
            event.model,
        )
        room.n_versions += 1
        room.partials.pop(session, None)  # to the end: the dict is in the order of versions
        room.partials[session] = _OpenPartial(room.n_versions, event.segment, self._encode(partial))
        room.wake_readers()

    def _publish_final(self, room: _Room, session: SessionId, event: Final, now_s: float) -> None:
        partial = room.partials.get(session)
        if partial is not None and partial.segment <= event.segment:
            del room.partials[session]
        final = RoomFinal(
            number=room.log.last + 1,
            source=room.sources[session],
            segment=event.segment,
            start=event.start,
            end=event.end,
            text=event.text,
            language=event.language,
            utterance_end=event.utterance_end,
            unix_s=self._unix_s(),
            model=event.model,
        )
        self._append(room, final, now_s)

    def _publish_utterance(self, room: _Room, session: SessionId, event: Utterance, now_s: float) -> None:
        utterance = RoomUtterance(
            number=room.log.last + 1,
            source=room.sources[session],
            first_segment=event.first_segment,
            last_segment=event.last_segment,
            start=event.start,
            end=event.end,
            text=event.text,
            language=event.language,
            unix_s=self._unix_s(),
            model=event.model,
        )
        self._append(room, utterance, now_s)

    def _append(
        self, room: _Room, event: SourceJoined | SourceLeft | RoomFinal | RoomUtterance, now_s: float
    ) -> None:
        room.log.append(self._encode(event), now_s)
        room.wake_readers()

    # ------------------------------------------------------------ readers

    def join(self, name: str, read: Read, wake: Callable[[], None], now_s: float) -> Reader:
        """Let a reader into a room, which need not have a source yet. ``part`` lets it out.

        Raises:
            Overloaded: No room for it.
            ProtocolViolation: It says that it has seen what was never said.
            ShuttingDown: The server is going away.
        """
        if self._closing is not None:
            raise self._closing
        room = self._open(name, now_s)
        if len(room.readers) >= self._limits.readers_per_room:
            raise Overloaded(f"{self._limits.readers_per_room} readers are in this room; try again later")
        joined = self._greet(room, read)
        reader = Reader(room, self._encode(joined), joined.first, wake, now_s)
        room.readers.add(reader)
        return reader

    def _greet(self, room: _Room, read: Read) -> Joined:
        last, kept = room.log.last, room.log.first
        if read.life == room.life:
            if read.after > last:
                raise ProtocolViolation(f"read.after is {read.after}, but the room's last event is {last}")
            first, gap = max(read.after + 1, kept), read.after + 1 < kept
        else:
            n_recent = last if read.recent is None else read.recent
            first, gap = max(last + 1 - n_recent, kept), read.life is not None
        return Joined(room.name, room.life, gap, first, last, tuple(room.sources.values()))

    def part(self, reader: Reader) -> None:
        """A reader's connection is gone."""
        room = reader._room
        room.readers.discard(reader)
        self._vanish_if_over(room)

    # ------------------------------------------------------------ time

    def tick(self, now_s: float) -> None:
        """About once a second: forget what is old, and give up readers that do not read."""
        for room in list(self._rooms.values()):
            room.log.trim(now_s)
            if not room.has_sources and now_s - room.silent_s >= self._limits.grace_s:
                room.log.clear()
            for reader in room.readers:
                if reader.is_overdue(self._limits.unread_s, now_s):
                    reader.cut(_slow_reader())
            self._vanish_if_over(room)

    def drain(self, error: StreamError) -> None:
        """End the readers of each room once its last source has left, and let nobody in."""
        self._closing = error
        for room in list(self._rooms.values()):
            self._close_if_draining(room)

    def _close_if_draining(self, room: _Room) -> None:
        if self._closing is not None and not room.has_sources:
            for reader in room.readers:
                reader.finish(self._closing)

    # ------------------------------------------------------------ rooms

    def _open(self, name: str, now_s: float) -> _Room:
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self._limits.rooms:
                raise Overloaded(f"{self._limits.rooms} rooms are open; try again later")
            room = self._rooms[name] = _Room(name, self._new_life(), self._limits, now_s)
        return room

    def _vanish_if_over(self, room: _Room) -> None:
        if room.is_over:
            del self._rooms[room.name]
