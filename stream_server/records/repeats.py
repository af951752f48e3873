"""Counts repetitions of one refusal, so that a flood becomes a line a minute. Pure."""

from collections.abc import Hashable
from dataclasses import dataclass, replace

from stream_server.core.audit import AuditAction, AuditEvent, Outcome

ALLOWED = 5
"""Refusals of one kind from one address that are written as they come, per window."""
WINDOW_S = 60.0
KINDS_MAX = 4_096
"""Kinds counted apart; the oldest are reported early when there are more."""


@dataclass(slots=True)
class _Kind:
    event: AuditEvent
    """The first of its window."""
    since_s: float
    n: int


class Repeats:
    """What has been refused lately. A kind is address, identity, action, resource and reason."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}

    def is_repetition(self, event: AuditEvent, now_s: float) -> bool:
        """Whether an event is to be counted rather than written."""
        if event.outcome is Outcome.SUCCESS:
            return False
        key = (event.source, event.actor, event.action, event.resource, event.reason)
        kind = self._kinds.get(key)
        if kind is None:
            self._kinds[key] = _Kind(event, now_s, 1)
            return False
        kind.n += 1
        return kind.n > ALLOWED

    def due(self, now_s: float, *, everything: bool = False) -> list[AuditEvent]:
        """Entries that tell how often the kinds whose window is over were repeated; they are forgotten."""
        summaries = []
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            is_over = now_s - kind.since_s >= WINDOW_S or len(self._kinds) > KINDS_MAX
            if not is_over and not everything:
                break
            del self._kinds[key]
            if kind.n > ALLOWED:
                detail: dict[str, str | int] = {"suppressed": kind.n - ALLOWED, "of": kind.event.action.value}
                summaries.append(
                    replace(kind.event, action=AuditAction.LOG_SUPPRESS, session=None, detail=detail)
                )
        return summaries
