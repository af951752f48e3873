"""Whether there is room for one more session: in all, and for this identity.

Asked before the WebSocket upgrade, so that a refusal is an HTTP status that says when to come back.
"""

from collections import Counter, deque
from dataclasses import dataclass

from stream_server.core.policy import Quota
from stream_server.errors import NotAllowed, Overloaded, StreamError, UnknownSession

WINDOW_S = 60.0
NO_QUOTA = Quota()
"""Only the limits that are the same for all."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much is let in. An identity's quota wins over the two that bear on a single one."""

    sessions_max: int = 200
    """Sessions of all identities together."""
    sessions_per_identity: int = 4
    connects_per_minute: int = 10
    """Upgrades asked for by one identity, admitted or not; those that resume are counted apart."""
    resumes_per_minute: int = 60
    """Upgrades asked for by one identity to go on with a session."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a connection is not let in."""

    error: StreamError
    status: int
    """HTTP: 429 for the identity's own limits, 503 for the server's, 404 where there is nothing to resume."""
    retry_after_s: int | None
    """None where another try would be refused as well."""


class Admission:
    """Counts the sessions that are in: those with a connection, and those that wait for another one.

    Every ``admit`` and ``admit_resuming`` that returned None, and every ``hold``, is undone by ``release``.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._sessions: Counter[str] = Counter()
        self._connects: dict[str, deque[float]] = {}
        self._resumes: dict[str, deque[float]] = {}

    @property
    def n_sessions(self) -> int:
        """Sessions that are in."""
        return self._sessions.total()

    def admit(self, identity: str, now_s: float, quota: Quota = NO_QUOTA) -> Refused | None:
        """Let a session of this identity in, or say why not."""
        limits = self._limits
        connects_max = quota.connects_per_minute or limits.connects_per_minute
        refused = _count(self._connects, identity, connects_max, now_s)
        if refused is not None:
            return refused
        sessions_max = quota.sessions or limits.sessions_per_identity
        if self._sessions[identity] >= sessions_max:
            return Refused(NotAllowed(f"{sessions_max} sessions of this certificate are open"), 429, 10)
        if self.n_sessions >= limits.sessions_max:
            return Refused(Overloaded("all places are taken; try again later"), 503, 10)
        self._sessions[identity] += 1
        return None

    def admit_resuming(self, identity: str, now_s: float) -> Refused | None:
        """Let a connection in that will go on with a session, or say why not.

        The session has its place. For the moment until it is given to this connection there may be one
        more than the limits allow.
        """
        refused = _count(self._resumes, identity, self._limits.resumes_per_minute, now_s)
        if refused is not None:
            return refused
        if not self._sessions[identity]:
            return Refused(
                UnknownSession("this certificate has no session here; start another one"), 404, None
            )
        self._sessions[identity] += 1
        return None

    def hold(self, identity: str) -> None:
        """Keep a place for a session whose connection is about to be released."""
        self._sessions[identity] += 1

    def release(self, identity: str) -> None:
        """A session that was admitted is over."""
        assert self._sessions[identity] > 0, "released more often than admitted"
        self._sessions[identity] -= 1
        if not self._sessions[identity]:
            del self._sessions[identity]


def _count(times: dict[str, deque[float]], identity: str, n_max: int, now_s: float) -> Refused | None:
    """Note one more connection of an identity, unless it had its share of the last minute."""
    recent = _recent(times, identity, now_s)
    if len(recent) >= n_max:
        retry_s = int(recent[0] + WINDOW_S - now_s) + 1
        return Refused(NotAllowed(f"more than {n_max} connections in a minute"), 429, retry_s)
    recent.append(now_s)
    return None


def _recent(times: dict[str, deque[float]], identity: str, now_s: float) -> deque[float]:
    """This identity's times of the last minute; identities silent for longer are forgotten."""
    for other in [name for name, seen in times.items() if seen[-1] <= now_s - WINDOW_S]:
        del times[other]
    recent = times.setdefault(identity, deque())
    while recent and recent[0] <= now_s - WINDOW_S:
        recent.popleft()
    return recent
