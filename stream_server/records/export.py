"""Entries in the forms that other systems read: OCSF (https://schema.ocsf.io, 1.5) and CSV. Pure."""

import csv
import io
import json
from collections.abc import Iterable, Iterator

from stream_server import __version__
from stream_server.core.audit import AuditAction, Outcome
from stream_server.records.line import Entry

_AUTHENTICATION = 3002
_LOGON = 1
_API_ACTIVITY = 6003
_ACTIVITY = {
    **dict.fromkeys(("start", "make", "mint", "issue", "install"), 1),
    **dict.fromkeys(("load", "read"), 2),
    **dict.fromkeys(("end", "stop", "rekey", "rotate"), 3),
    **dict.fromkeys(("expire", "remove", "revoke"), 4),
}
"""Verbs of our actions as create, read, update, delete; everything else is "other"."""
_OTHER = 99
_SEVERITY = {Outcome.SUCCESS.value: 1, Outcome.DENIED.value: 3, Outcome.FAILURE.value: 3}
"""Informational, medium."""

CSV_COLUMNS = (
    "seq", "ts", "host", "action", "outcome", "reason", "identity", "serial", "address", "object", "session",
    "detail",
)  # fmt: skip


def to_ocsf(entry: Entry) -> dict[str, object]:
    """One entry as an OCSF event: Authentication for TLS handshakes, API Activity for the rest."""
    is_logon = entry.action == AuditAction.AUTHENTICATE
    class_uid = _AUTHENTICATION if is_logon else _API_ACTIVITY
    activity = _LOGON if is_logon else _ACTIVITY.get(entry.action.rpartition(".")[2], _OTHER)
    is_success = entry.outcome == Outcome.SUCCESS
    event: dict[str, object] = {
        "class_uid": class_uid,
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": round(entry.time.timestamp() * 1000),
        "severity_id": _SEVERITY.get(entry.outcome, 0),
        "status_id": 1 if is_success else 2,
        "status": "Success" if is_success else "Failure",
        "status_detail": entry.reason,
        "metadata": {
            "version": "1.5.0",
            "uid": str(entry.seq),
            "product": {"name": "stream-server", "version": __version__},
        },
        "device": {"hostname": entry.host, "type_id": 1},
        "src_endpoint": {"ip": entry.src} if entry.src else None,
        "unmapped": {"detail": entry.detail} if entry.detail else None,
    }
    user = {"name": entry.actor.id, "uid": entry.actor.serial, "type_id": _OTHER} if entry.actor else None
    if is_logon:
        event |= {"user": user or {"type_id": 0}, "auth_protocol": "mTLS", "is_mfa": False}
    else:
        event |= {
            "actor": {"user": user} if user else {"app_name": "stream-server"},
            "api": {"operation": entry.action},
            "resources": [{"name": entry.object}] if entry.object else None,
            "session": {"uid": entry.session} if entry.session else None,
        }
    return {key: value for key, value in event.items() if value is not None}


def ocsf_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """JSON lines."""
    for entry in entries:
        yield json.dumps(to_ocsf(entry), sort_keys=True) + "\n"


def csv_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """A header and one row each; cells that a spreadsheet would take for a formula begin with a quote."""
    yield _row(CSV_COLUMNS)
    for entry in entries:
        actor = entry.actor
        yield _row(
            (
                entry.seq, entry.ts, entry.host, entry.action, entry.outcome, entry.reason,
                actor.id if actor else None, actor.serial if actor else None, entry.src, entry.object,
                entry.session, json.dumps(entry.detail, sort_keys=True) if entry.detail else None,
            )
        )  # fmt: skip


def _row(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
