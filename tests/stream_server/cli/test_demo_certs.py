from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pki import Pki

from certs.store import Store
from certs.tls import client_context, server_context
from stream_server.cli.demo_certs import client_files, ensure_certs

NOW = datetime.now(UTC)


def store_at(folder: Path, now: datetime = NOW) -> Store:
    return Store(folder / "certs", clock=lambda: now)


def contents(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}


def test_everything_a_handshake_needs_is_made(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    assert ensure_certs(store, NOW)
    assert server_context(store.server_cert, store.server_key, store.ca_cert, store.crl)
    assert client_context(store.ca_cert, *client_files(store))


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    ensure_certs(store, NOW)
    before = contents(store)
    assert not ensure_certs(store, NOW + timedelta(days=1))
    assert contents(store) == before


@pytest.mark.parametrize(
    ("days", "replaced"),
    [
        (29.5, {"crl.pem"}),
        (364.5, {"crl.pem", "source-demo.pem"}),
        (396.5, {"crl.pem", "source-demo.pem", "server.pem"}),
        (3649.5, {"crl.pem", "source-demo.pem", "server.pem", "ca.pem"}),
    ],
)
def test_what_expires_within_a_day_is_made_anew(tmp_path: Path, days: float, replaced: set[str]) -> None:
    ensure_certs(store_at(tmp_path), NOW)
    later = NOW + timedelta(days=days)
    store = store_at(tmp_path, later)
    before = contents(store)
    assert ensure_certs(store, later)
    names = ("crl.pem", "server.pem", "ca.pem")
    paths = [store.folder / name for name in names] + [client_files(store)[0]]
    assert {path.name for path in paths if path.read_bytes() != before[str(path)]} == replaced


def test_a_lost_key_or_a_revoked_client_is_replaced(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    ensure_certs(store, NOW)
    store.server_key.unlink()
    store.revoke("source-demo")
    before = contents(store)
    assert ensure_certs(store, NOW)
    assert store.server_key.exists()
    assert client_files(store)[0].read_bytes() != before[str(client_files(store)[0])]


def test_the_clients_of_a_real_folder_are_left_alone(pki: Pki) -> None:
    other = pki.client("somebody", "reader")
    before = other.cert.read_bytes()
    ensure_certs(pki.store)
    assert other.cert.read_bytes() == before
