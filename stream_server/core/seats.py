"""Who sits in the hub: a connection's seat, whose it is, and who counts the seats."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stream_server.core.audit import Actor
from stream_server.core.messages import Numbered
from stream_server.core.outbox import Outbox
from stream_server.core.replay import ReplayLog
from stream_server.core.session import Session


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose certificate opened a connection."""

    identity: str
    """Its name; a renewed certificate has the same. For comparison, never for a log."""
    path: str
    """What a policy names it by."""
    fingerprint: str
    """What a log says instead: the first 8 hex digits of the certificate's."""
    actor: Actor | None = None
    """What the audit log says."""
    holder: str = ""
    """Which of those who act for the identity by a token; empty for itself. Only the same one may resume."""
    token: str | None = None
    """Names in the audit log the token that opened the connection."""

    @property
    def resumes_as(self) -> tuple[str, str]:
        """Who may go on with a session of this owner."""
        return self.identity, self.holder


class Watcher(Protocol):
    """Who counts sessions and their places; called in the middle of a step, it must not call back."""

    def session_opened(self, seat: "Seat") -> None:
        """A connection has a seat; whether it starts or resumes will be seen."""

    def session_detached(self, seat: "Seat") -> None:
        """A connection is lost, and its session waits for another one."""

    def session_resumed(self, seat: "Seat", *, was_detached: bool) -> None:
        """A session goes on over another connection, whose own session is no more.

        ``was_detached`` is False for a session taken over from a connection that still seemed alive.
        """

    def session_gone(self, seat: "Seat") -> None:
        """A session is over and cannot be resumed, or a connection ended without one."""


class Seat:
    """One connection's place in the hub: its session, its outbox, and how to wake its writer.

    Args:
        session: Whose events it takes.
        replay: The session's durable events; goes from seat to seat with it.
        outbox: What waits for this connection.
        wake: Called when there is something to write, to close, or audio is wanted again.
        owner: Whose certificate opened the session.
        opened_s: When the session began.
        only_resumes: The connection took no place: it may go on with a session and not start one.
    """

    def __init__(
        self,
        session: Session,
        replay: ReplayLog,
        outbox: Outbox,
        wake: Callable[[], None],
        owner: Owner,
        opened_s: float,
        *,
        only_resumes: bool = False,
    ) -> None:
        self.session = session
        self.replay = replay
        self.outbox = outbox
        self.wake = wake
        self.owner = owner
        self.opened_s = opened_s
        self.only_resumes = only_resumes
        self.close_code: int | None = None
        """Set when the connection is to be closed after the outbox is empty."""
        self.is_abandoned = False
        """The client does not read: do not wait for the outbox."""
        self.detached_s: float | None = None
        """When the connection was lost; None while there is one."""
        self.has_expired = False
        """Nobody came back in time: the session ends and cannot be resumed."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be queued."""
        return self.close_code is not None

    def send(self, numbered: Numbered, now_s: float) -> None:
        """Keep what is durable, and queue everything for the connection, if there is one."""
        if numbered.number is not None:
            self.replay.keep(numbered)
        if self.detached_s is None:
            self.outbox.push(numbered, now_s)
