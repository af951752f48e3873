"""One line of the audit log: canonical JSON, chained by SHA-256 to the line before.

Canonical means sorted keys, no spaces, ASCII with escapes, every key present: an entry has one spelling,
so a line can be read, checked and written again to the same bytes.
"""

import hashlib
import json
from datetime import UTC, datetime

import msgspec

from stream_server.core.audit import AuditEvent

VERSION = 1
LINE_BYTES_MAX = 16_384
"""Longer lines are not ours."""


class LineError(ValueError):
    """A line is not an entry of this log; the message says what is wrong with it, not what it holds."""


class LineActor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``stream_server.core.audit.Actor``."""

    fp: str
    id: str
    serial: str


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line, as it stands in the file."""

    v: int
    seq: int
    """Counts the entries of a log from 0, across its files."""
    ts: str
    """UTC, ISO 8601 with milliseconds."""
    prev: str
    """SHA-256 of the line before, without its newline, hexadecimal; see ``genesis``."""
    host: str
    actor: LineActor | None
    src: str | None
    action: str
    object: str | None
    outcome: str
    reason: str | None
    session: str | None
    detail: dict[str, str | int]

    @property
    def time(self) -> datetime:
        """When it happened, UTC."""
        return datetime.fromisoformat(self.ts)


_decoder = msgspec.json.Decoder(Entry)


def entry_of(event: AuditEvent, *, seq: int, prev: str, host: str, when: datetime) -> Entry:
    """An event as the log's next entry."""
    actor = event.actor
    return Entry(
        v=VERSION,
        seq=seq,
        ts=when.astimezone(UTC).isoformat(timespec="milliseconds"),
        prev=prev,
        host=host,
        actor=None if actor is None else LineActor(actor.fingerprint, actor.id, actor.serial),
        src=event.source,
        action=event.action.value,
        object=event.resource,
        outcome=event.outcome.value,
        reason=event.reason,
        session=event.session,
        detail=dict(event.detail),
    )


def encode(entry: Entry) -> bytes:
    """The entry's line, without a newline."""
    return json.dumps(msgspec.to_builtins(entry), sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(line: bytes) -> Entry:
    """Read a line without its newline.

    Raises:
        LineError: It is no entry, or spelled in another way than ours.
    """
    if len(line) > LINE_BYTES_MAX:
        raise LineError(f"the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        entry = _decoder.decode(line)
        # A time without its zone is taken for this machine's, and so is spelled in another way.
        is_time = entry.time.astimezone(UTC).isoformat(timespec="milliseconds") == entry.ts
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise LineError("the line is not an entry") from exc
    if entry.v != VERSION:
        raise LineError(f"the line is of version {entry.v}; this program reads version {VERSION}")
    if not is_time or encode(entry) != line:
        raise LineError("the line is not in canonical form")
    return entry


def digest(line: bytes) -> str:
    """What the next line carries as ``prev``."""
    return hashlib.sha256(line).hexdigest()


def genesis(origin: str) -> str:
    """``prev`` of the first entry: it binds the chain to its log."""
    return hashlib.sha256(b"stream-server audit log\n" + origin.encode()).hexdigest()
