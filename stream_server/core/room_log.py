"""What a room remembers: its durable events, bounded by number, bytes and age."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """How much rooms may hold."""

    rooms: int = 100
    sources_per_room: int = 16
    readers_per_room: int = 500
    history_events: int = 1_000
    """Durable events kept for readers who come late or come back."""
    history_bytes: int = 1_048_576
    history_s: float = 3_600.0
    grace_s: float = 300.0
    """How long what was said outlives the room's last source."""
    unread_s: float = 10.0
    """A durable event waiting longer than this means that the reader does not read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A durable event in the log."""

    number: int
    published_s: float
    data: bytes


class RoomLog:
    """Durable events, oldest first, without gaps in their numbers."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._entries: deque[Entry] = deque()
        self._n_bytes = 0
        self.last = 0
        """Number of the last event ever appended."""

    @property
    def first(self) -> int:
        """Number of the oldest event kept; ``last + 1`` when none is."""
        return self.last + 1 - len(self._entries)

    def append(self, data: bytes, now_s: float) -> None:
        """Number an event and keep it, at the cost of the oldest ones."""
        self.last += 1
        self._entries.append(Entry(self.last, now_s, data))
        self._n_bytes += len(data)
        self.trim(now_s)

    def entry(self, number: int) -> Entry | None:
        """The event of this number, which must not have left the log; None while it is yet to come."""
        assert number >= self.first, "left the log"
        return self._entries[number - self.first] if number <= self.last else None

    def trim(self, now_s: float) -> None:
        """Forget what is too old."""
        while self._entries and self._is_too_much(now_s):
            self._n_bytes -= len(self._entries.popleft().data)

    def _is_too_much(self, now_s: float) -> bool:
        limits = self._limits
        too_large = len(self._entries) > limits.history_events or self._n_bytes > limits.history_bytes
        too_old = self._entries[0].published_s < now_s - limits.history_s
        # The last event stays whatever its size: no reader has had a chance to take it.
        return (too_large and len(self._entries) > 1) or too_old

    def clear(self) -> None:
        """Forget all events; their numbers are not used again."""
        self._entries.clear()
        self._n_bytes = 0
