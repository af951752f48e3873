"""The last durable events of one session, for a client that lost its connection and comes back."""

from collections import deque

from stream_server.core.messages import Numbered
from stream_server.errors import EventOutOfRange


class ReplayLog:
    """Durable events in order, without gaps, the last ``n_max`` of them.

    Whether an event that was written has arrived, only the client knows. So events stay until newer
    ones push them out, and not until they are written.
    """

    def __init__(self, n_max: int) -> None:
        self._kept: deque[Numbered] = deque(maxlen=n_max)
        self.last = 0
        """Number of the newest event; 0 before the first."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, numbered: Numbered) -> None:
        """Add the session's next durable event."""
        assert numbered.number == self.last + 1, "durable events are numbered without gaps"
        self._kept.append(numbered)
        self.last = numbered.number

    def after(self, event: int) -> list[Numbered]:
        """The events that follow the one with this number.

        Raises:
            EventOutOfRange: There was no such event yet, or some that followed it are not kept any more.
        """
        first = self.last - len(self._kept)
        if not first <= event <= self.last:
            raise EventOutOfRange(
                f"this session can go on after the events {first} to {self.last}, not after {event};"
                " start another one"
            )
        return list(self._kept)[event - first :]
