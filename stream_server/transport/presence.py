"""Who is connected by which certificate, so that one that is no longer good can be cut off."""

from collections.abc import Callable
from dataclasses import dataclass

from certs.identity import Identity
from stream_server.errors import StreamError

End = Callable[[StreamError], None]
"""Ends a connection by an error, after what it still has to deliver."""


@dataclass(slots=True, eq=False)
class _Present:
    identity: Identity
    end: End
    is_ending: bool = False


class Presence:
    """The connections that a certificate opened. One thread."""

    def __init__(self) -> None:
        self._present: set[_Present] = set()

    def __len__(self) -> int:
        return len(self._present)

    def enter(self, identity: Identity, end: End) -> Callable[[], None]:
        """Note a connection; returns what to call once when it has ended."""
        present = _Present(identity, end)
        self._present.add(present)
        return lambda: self._present.discard(present)

    def review(
        self, objection: Callable[[Identity], StreamError | None]
    ) -> list[tuple[Identity, StreamError]]:
        """End every connection that there is an objection to; each once."""
        cut = []
        for present in list(self._present):
            error = None if present.is_ending else objection(present.identity)
            if error is not None:
                present.is_ending = True
                present.end(error)
                cut.append((present.identity, error))
        return cut
