"""Events waiting to be written to one client: bounded, partials dropped first, finals never.

A client that reads slowly sees fewer partials. One that does not read at all is found by the age or
the number of its waiting durable events and told ``slow_reader``; it never slows anyone else.
"""

from collections import deque

from stream_server.core.messages import Ack, Final, Lag, Numbered, Partial

_Replaceable = type[Partial] | type[Lag] | type[Ack]


class Outbox:
    """Bounded queue of one connection's events, oldest first.

    Args:
        durable_max: More waiting durable events than this means the client does not read.
        wait_s_max: A durable event waiting longer than this means the same.
    """

    def __init__(self, durable_max: int, wait_s_max: float) -> None:
        self._durable_max = durable_max
        self._wait_s_max = wait_s_max
        self._waiting: deque[tuple[float, Numbered]] = deque()
        self.n_dropped = 0
        """Events that newer ones made pointless before they were written."""

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, numbered: Numbered, now_s: float) -> None:
        """Queue an event; drops what it makes pointless.

        A partial replaces a waiting partial, a final the partials of its segment, a lag a lag and an ack
        an ack.
        """
        match numbered.event:
            case Partial():
                self._drop(Partial)
            case Lag():
                self._drop(Lag)
            case Ack():
                self._drop(Ack)
            case Final(segment=segment):
                self._drop(Partial, segment)
            case _:
                pass
        self._waiting.append((now_s, numbered))

    def _drop(self, kind: _Replaceable, segment: int | None = None) -> None:
        kept = deque(
            (since_s, waiting) for since_s, waiting in self._waiting if not _matches(waiting, kind, segment)
        )
        self.n_dropped += len(self._waiting) - len(kept)
        self._waiting = kept

    def pop(self) -> Numbered | None:
        """Take the oldest event to write it."""
        return self._waiting.popleft()[1] if self._waiting else None

    def clear(self) -> None:
        """Forget everything: the connection is not the session's any more."""
        self._waiting.clear()

    def is_overdue(self, now_s: float) -> bool:
        """Whether the client must be given up: too many durable events wait, or one for too long."""
        durable = [since_s for since_s, waiting in self._waiting if waiting.number is not None]
        return len(durable) > self._durable_max or (bool(durable) and now_s - durable[0] > self._wait_s_max)


def _matches(waiting: Numbered, kind: _Replaceable, segment: int | None) -> bool:
    event = waiting.event
    of_segment = segment is None or (isinstance(event, Partial) and event.segment == segment)
    return isinstance(event, kind) and of_segment
