"""The list of what an authority has issued and revoked, as a value and as JSON.

Pure. The list is what a CRL is made from, so a certificate is entered here before its files are written:
whatever exists on disk can be revoked by name.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from certs.authority import CrlInfo, Revoked
from certs.identity import check_trust_domain

_VERSION = 1


class CorruptIndex(ValueError):
    """The text is not an index written by this module."""


class Kind(StrEnum):
    """What a certificate is for."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Entry:
    """One issued certificate."""

    kind: Kind
    file: str
    """Path without suffix inside the certificate folder, e.g. ``clients/source-demo``; replaced certificates
    share it with their successors."""
    subject: str
    """A client's URI, or a server's names separated by spaces."""
    serial: int
    not_after: datetime
    """UTC-aware."""
    revoked_at: datetime | None = None
    """UTC-aware."""

    @property
    def serial_hex(self) -> str:
        """The serial number as ``openssl x509 -serial`` and this package print it, in small letters."""
        return f"{self.serial:x}"

    @property
    def short_name(self) -> str:
        """What people call it: ``server`` or ``source-demo``."""
        return self.file.rpartition("/")[2]

    def is_called(self, wanted: str) -> bool:
        """Whether ``wanted`` is its URI, its short name, its name without role or its serial number."""
        serial = wanted.lower().removeprefix("0x").replace(":", "").lstrip("0")
        return serial == self.serial_hex or wanted in (
            self.subject,
            self.short_name,
            self.subject.rpartition("/")[2],
        )


@dataclass(frozen=True, slots=True)
class Index:
    """Everything one authority has issued, oldest first."""

    trust_domain: str
    crl: CrlInfo
    """The newest CRL."""
    entries: tuple[Entry, ...] = ()

    def with_entry(self, entry: Entry) -> "Index":
        """The index after issuing one more certificate."""
        return replace(self, entries=(*self.entries, entry))

    def with_crl(self, crl: CrlInfo) -> "Index":
        """The index after writing a new CRL."""
        return replace(self, crl=crl)

    def with_revoked(self, serials: Iterable[int], revoked_at: datetime) -> "Index":
        """The index after revoking these serial numbers; dates of earlier revocations stay."""
        wanted = set(serials)
        return replace(
            self,
            entries=tuple(
                replace(entry, revoked_at=revoked_at)
                if entry.serial in wanted and entry.revoked_at is None
                else entry
                for entry in self.entries
            ),
        )

    def clients_called(self, wanted: str) -> tuple[Entry, ...]:
        """All client certificates that ``wanted`` can mean, revoked ones too."""
        return tuple(e for e in self.entries if e.kind is Kind.CLIENT and e.is_called(wanted))

    def revoked(self) -> tuple[Revoked, ...]:
        """The lines of the next CRL."""
        return tuple(Revoked(e.serial, e.revoked_at) for e in self.entries if e.revoked_at is not None)


def encode(index: Index) -> str:
    """The index as JSON text."""
    document = {
        "version": _VERSION,
        "trust_domain": index.trust_domain,
        "crl": {
            "number": index.crl.number,
            "last_update": index.crl.last_update.isoformat(),
            "next_update": index.crl.next_update.isoformat(),
        },
        "certificates": [_entry_to_json(entry) for entry in index.entries],
    }
    return json.dumps(document, indent=2) + "\n"


def decode(text: str) -> Index:
    """Read what ``encode`` wrote.

    Raises:
        CorruptIndex: the text is anything else.
    """
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise CorruptIndex(f"version {document['version']} instead of {_VERSION}")
        return Index(
            trust_domain=check_trust_domain(document["trust_domain"]),
            crl=_crl_from_json(document["crl"]),
            entries=tuple(_entry_from_json(entry) for entry in document["certificates"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptIndex("not an index of issued certificates") from error


# Decoded JSON has no static type; each of these functions turns it into a checked value or raises.


def _crl_from_json(crl: dict[str, Any]) -> CrlInfo:
    return CrlInfo(int(crl["number"]), _utc(crl["last_update"]), _utc(crl["next_update"]))


def _entry_from_json(entry: dict[str, Any]) -> Entry:
    revoked_at = entry["revoked_at"]
    return Entry(
        kind=Kind(entry["kind"]),
        file=_text(entry["file"]),
        subject=_text(entry["subject"]),
        serial=int(entry["serial"], 16),
        not_after=_utc(entry["not_after"]),
        revoked_at=None if revoked_at is None else _utc(revoked_at),
    )


def _entry_to_json(entry: Entry) -> dict[str, str | None]:
    return {
        "kind": entry.kind.value,
        "file": entry.file,
        "subject": entry.subject,
        "serial": entry.serial_hex,
        "not_after": entry.not_after.isoformat(),
        "revoked_at": entry.revoked_at.isoformat() if entry.revoked_at else None,
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _utc(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without time zone")
    return moment
