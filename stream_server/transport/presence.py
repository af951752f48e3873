"""Who is connected by which certificate, so that one that is no longer welcome can be cut off."""

from collections.abc import Callable
from dataclasses import dataclass

from certs.identity import Identity
from stream_server.core.policy import Right
from stream_server.core.writer_tokens import WriterToken
from stream_server.errors import StreamError

End = Callable[[StreamError], None]


@dataclass(slots=True, eq=False)
class Present:
    """One connection, and what it was let in for."""

    identity: Identity
    address: str
    right: Right
    end: End
    """Ends it by an error, after what it still has to deliver."""
    read: str | None = None
    """The room that it reads."""
    publish: str | None = None
    """The room into which it publishes; set when it says so."""
    token: WriterToken | None = None
    """By which it came, in place of the identity that had it made."""
    is_ending: bool = False


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a connection must end."""

    reason: str
    """A code, for the audit log."""
    error: StreamError


class Presence:
    """The connections that a certificate opened. One thread."""

    def __init__(self) -> None:
        self._present: set[Present] = set()

    def __len__(self) -> int:
        return len(self._present)

    def enter(self, present: Present) -> None:
        """Note a connection, until ``leave``."""
        self._present.add(present)

    def leave(self, present: Present) -> None:
        """It has ended."""
        self._present.discard(present)

    def review(self, objection: Callable[[Present], Objection | None]) -> list[tuple[Present, Objection]]:
        """End every connection that there is an objection to; each once."""
        cut = []
        for present in list(self._present):
            found = None if present.is_ending else objection(present)
            if found is not None:
                present.is_ending = True
                present.end(found.error)
                cut.append((present, found))
        return cut
