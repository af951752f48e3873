"""What becomes of sessions, for the operator: log lines, metrics, and the places they take."""

import logging
import time

from stream_server.core.admission import Admission
from stream_server.core.audit import AuditAction, AuditEvent, Auditor, Outcome
from stream_server.core.seats import Seat
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics

_log = logging.getLogger(__name__)


class SessionLedger:
    """The hub's ``Watcher``.

    A connection has a place from the gate until it ends. A session without a connection holds one of
    its own.

    Args:
        admission: Where places are counted.
        metrics: What it counts in.
        auditor: Where the end of each session is written, with its totals.
    """

    def __init__(self, admission: Admission, metrics: Metrics, auditor: Auditor) -> None:
        self._admission = admission
        self._metrics = metrics
        self._auditor = auditor

    def session_opened(self, seat: Seat) -> None:
        """A connection has a seat."""
        self._metrics.sessions.inc()
        if not seat.only_resumes:
            _log.info("session_opened", extra=_names(seat))
            self._auditor.record(_session_event(AuditAction.SESSION_START, seat))

    def session_detached(self, seat: Seat) -> None:
        """Its connection broke."""
        self._admission.hold(seat.owner.identity)
        self._metrics.connections_lost.inc()
        self._metrics.sessions_detached.inc()
        self._metrics.events_dropped.inc(seat.outbox.n_dropped)
        _log.info("session_detached", extra=_names(seat))

    def session_resumed(self, seat: Seat, *, was_detached: bool) -> None:
        """It goes on over another connection, which brought a session of its own that is no more."""
        if was_detached:
            self._admission.release(seat.owner.identity)
            self._metrics.sessions_detached.dec()
        self._metrics.sessions.dec()
        self._metrics.sessions_resumed.inc()
        _log.info("session_resumed", extra=_names(seat))

    def session_gone(self, seat: Seat) -> None:
        """It is over."""
        if seat.detached_s is not None:
            self._admission.release(seat.owner.identity)
            self._metrics.sessions_detached.dec()
        else:
            self._metrics.events_dropped.inc(seat.outbox.n_dropped)
        self._metrics.sessions_expired.inc(seat.has_expired)
        code = seat.close_code or 1006
        audio_s = seat.session.n_samples / 16_000
        self._metrics.sessions.dec()
        self._metrics.sessions_ended.labels(code=str(code)).inc()
        self._metrics.audio_s.inc(audio_s)
        if not seat.only_resumes:
            self._auditor.record(_session_event(AuditAction.SESSION_END, seat, code=code))
        _log.info(
            "session_closed",
            extra=fields(
                session=seat.session.id,
                fp=seat.owner.fingerprint,
                code=code,
                open_s=round(time.monotonic() - seat.opened_s, 3),
                audio_s=round(audio_s, 3),
                events=seat.replay.last,
            ),
        )


def _session_event(action: AuditAction, seat: Seat, *, code: int | None = None) -> AuditEvent:
    detail: dict[str, str | int] = {}
    if seat.owner.token is not None:
        detail["token"] = seat.owner.token
    if code is not None:
        detail |= {
            "code": code,
            "open_ms": round(1000 * (time.monotonic() - seat.opened_s)),
            "audio_ms": seat.session.n_samples // 16,
            "events": seat.replay.last,
        }
    return AuditEvent(action, Outcome.SUCCESS, seat.owner.actor, session=seat.session.id, detail=detail)


def _names(seat: Seat) -> dict[str, object]:
    return fields(session=seat.session.id, fp=seat.owner.fingerprint)
