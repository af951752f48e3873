"""The demo's certificates: a throw-away authority, one server, one client; made anew when expired."""

from datetime import datetime, timedelta
from pathlib import Path

from certs.identity import Role
from certs.index import Entry
from certs.store import Store, utc_now

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
CLIENT = (Role.SOURCE, "demo")
MARGIN = timedelta(days=1)
"""What expires sooner is made anew, so that a server started by the demo outlives the day."""


def ensure_certs(store: Store, now: datetime | None = None) -> bool:
    """Make what is missing or about to expire.

    Args:
        store: The demo's own folder.
        now: UTC-aware; the wall clock if None.

    Returns:
        Whether anything was made.

    Raises:
        StoreError: The folder cannot be read or written.
    """
    soon = (now or utc_now()) + MARGIN
    made = [_ensure_authority(store, soon), _ensure_crl(store, soon)]
    entries = store.read_index().entries
    if _needs_new(entries, "server", store.server_key, soon):
        store.issue_server(SERVER_NAMES, force=True)
        made.append(True)
    if _needs_new(entries, _client_stem(), client_files(store)[1], soon):
        store.issue_client(*CLIENT, force=True)
        made.append(True)
    return any(made)


def client_files(store: Store) -> tuple[Path, Path]:
    """Certificate and key of the demo's client."""
    stem = store.folder / _client_stem()
    return stem.with_suffix(".pem"), stem.with_suffix(".key")


def _client_stem() -> str:
    role, name = CLIENT
    return f"clients/{role}-{name}"


def _ensure_authority(store: Store, soon: datetime) -> bool:
    if store.ca_cert.exists() and store.ca_key.exists() and store.ca_not_after() > soon:
        return False
    store.init(force=True)
    return True


def _ensure_crl(store: Store, soon: datetime) -> bool:
    if store.crl.exists() and store.read_index().crl.next_update > soon:
        return False
    store.issue_crl()
    return True


def _needs_new(entries: tuple[Entry, ...], file: str, key: Path, soon: datetime) -> bool:
    issued = [entry for entry in entries if entry.file == file]
    if not issued or not key.exists():
        return True
    newest = issued[-1]
    return newest.revoked_at is not None or newest.not_after <= soon
