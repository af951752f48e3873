"""Whether there is room for one more session: in all, and for this identity.

Asked before the WebSocket upgrade, so that a refusal is an HTTP status that says when to come back.
"""

from collections import Counter, deque
from dataclasses import dataclass

from stream_server.errors import NotAllowed, Overloaded, StreamError

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much is let in."""

    sessions_max: int = 200
    """Sessions of all identities together."""
    sessions_per_identity: int = 4
    connects_per_minute: int = 10
    """Upgrades asked for by one identity, admitted or not."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a connection is not let in."""

    error: StreamError
    status: int
    """HTTP: 429 for the identity's own limits, 503 for the server's."""
    retry_after_s: int


class Admission:
    """Counts the sessions that are in. Every ``admit`` that returned None is undone by ``release``."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._sessions: Counter[str] = Counter()
        self._connects: dict[str, deque[float]] = {}

    @property
    def n_sessions(self) -> int:
        """Sessions that are in."""
        return self._sessions.total()

    def admit(self, identity: str, now_s: float) -> Refused | None:
        """Let a session of this identity in, or say why not."""
        limits = self._limits
        recent = self._recent(identity, now_s)
        if len(recent) >= limits.connects_per_minute:
            retry_s = int(recent[0] + WINDOW_S - now_s) + 1
            return Refused(
                NotAllowed(f"more than {limits.connects_per_minute} connections in a minute"), 429, retry_s
            )
        recent.append(now_s)
        if self._sessions[identity] >= limits.sessions_per_identity:
            return Refused(
                NotAllowed(f"{limits.sessions_per_identity} sessions of this certificate are open"), 429, 10
            )
        if self.n_sessions >= limits.sessions_max:
            return Refused(Overloaded("all places are taken; try again later"), 503, 10)
        self._sessions[identity] += 1
        return None

    def release(self, identity: str) -> None:
        """A session that was admitted is over."""
        assert self._sessions[identity] > 0, "released more often than admitted"
        self._sessions[identity] -= 1
        if not self._sessions[identity]:
            del self._sessions[identity]

    def _recent(self, identity: str, now_s: float) -> deque[float]:
        """This identity's connects of the last minute; identities silent for longer are forgotten."""
        for other in [name for name, times in self._connects.items() if times[-1] <= now_s - WINDOW_S]:
            del self._connects[other]
        recent = self._connects.setdefault(identity, deque())
        while recent and recent[0] <= now_s - WINDOW_S:
            recent.popleft()
        return recent
