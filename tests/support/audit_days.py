"""A day of an audit log in which everything happens that a report tells of."""

from datetime import datetime, timedelta
from pathlib import Path

from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.records.writer import AuditSettings, AuditWriter


def actor(role: str, name: str, serial: int) -> Actor:
    return Actor(f"spiffe://stream-server.local/{role}/{name}", f"{serial:x}", f"{serial:064x}")


BOARDS = [actor("source", f"board-{number}", number) for number in range(301, 309)]
HALL = actor("reader", "hall-screen", 41)


def write_busy_day(folder: Path, end: datetime) -> None:
    """Write the log of a server that ran for the 26 hours before ``end``."""
    now = end - timedelta(hours=26)

    def clock() -> datetime:
        return now

    writer = AuditWriter(folder, AuditSettings(), "captions-1", clock, lambda number, note: None)

    def write(*events: AuditEvent) -> None:
        nonlocal now
        writer.write(events)
        now += timedelta(seconds=20)

    write(*_started())
    for hour in range(26):
        now = end - timedelta(hours=26 - hour, minutes=-3)
        for number in range(_busy(hour)):
            write(*_session(BOARDS[number % len(BOARDS)], end, number))
        for number in range(hour % 4):
            write(_turned_away(["no_certificate", "expired", "not_tls"][number % 3], f"10.20.3.{number + 7}"))
        if hour == 9:
            write(*[_turned_away("unknown_ca", "10.9.8.7") for _ in range(12)])
        if hour == 14:
            write(*_started())  # without having stopped
            write(_turned_away("revoked", "10.20.9.4"), _turned_away("revoked", "10.20.9.4"))
        if hour == 20:
            write(*[_denied(HALL, "room:board-301", "not_allowed") for _ in range(3)])
            write(_denied(BOARDS[2], "path:/v1/stream", "too_many"))
            write(_denied(BOARDS[5], "path:/v1/stream", "quota_exceeded"))
            for address in ("10.20.3.1", "10.20.3.2", "192.168.7.40"):
                write(_admitted(BOARDS[3], end, address))
            write(AuditEvent(AuditAction.TLS_LOAD, Outcome.FAILURE, reason="kept_the_old"))
    writer.close()


def _busy(hour: int) -> int:
    """How many sessions in each hour: few at night, most at noon."""
    return max(1, 14 - abs(hour - 13) * 2)


def _started() -> list[AuditEvent]:
    return [
        AuditEvent(AuditAction.TLS_LOAD, Outcome.SUCCESS),
        AuditEvent(AuditAction.SERVER_START, Outcome.SUCCESS),
        AuditEvent(AuditAction.MODEL_LOAD, Outcome.SUCCESS, resource="model:demo-en"),
        AuditEvent(AuditAction.POLICY_LOAD, Outcome.SUCCESS, detail={"rules": 4}),
    ]


def _session(who: Actor, end: datetime, number: int) -> list[AuditEvent]:
    return [
        _admitted(who, end, f"10.20.3.{int(who.serial, 16) % 250}"),
        AuditEvent(AuditAction.SESSION_START, Outcome.SUCCESS, who, session=f"s{number}"),
        AuditEvent(
            AuditAction.SESSION_END,
            Outcome.SUCCESS,
            who,
            session=f"s{number}",
            detail={"audio_ms": 420_000 + number, "code": 1000},
        ),
    ]


def _admitted(who: Actor, end: datetime, address: str) -> AuditEvent:
    days = 3 if who is BOARDS[1] else 19 if who is BOARDS[6] else 300
    detail: dict[str, str | int] = {"not_after": (end + timedelta(days=days)).isoformat(timespec="seconds")}
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.SUCCESS, who, address, "path:/v1/stream", detail=detail)


def _turned_away(reason: str, address: str) -> AuditEvent:
    return AuditEvent(AuditAction.AUTHENTICATE, Outcome.DENIED, source=address, reason=reason)


def _denied(who: Actor, resource: str, reason: str) -> AuditEvent:
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, who, "10.20.3.9", resource, reason)
