"""The folder of certificates: permissions, atomic writes, the lock, and errors that name the next command."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import AuthorityError, crl_info
from certs.identity import IdentityError, Role
from certs.index import CorruptIndex, Entry, Index, Kind, decode, encode
from certs.store import Store, StoreError, default_folder

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "certs", clock=lambda: NOW)
    made.init()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def revoked_serials(store: Store) -> set[int]:
    return {entry.serial_number for entry in x509.load_pem_x509_crl(store.crl.read_bytes())}


def test_keys_are_readable_by_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "certs")
        store.init()
        store.issue_server(["localhost"])
        files = store.issue_client(Role.SOURCE, "demo", passphrase="correct horse")
    finally:
        os.umask(before)
    assert files.p12
    for secret in (store.ca_key, store.server_key, files.key, files.p12, store.index_file):
        assert mode(secret) == 0o600
    assert mode(store.folder) == mode(files.key.parent) == 0o700
    assert mode(store.ca_cert) == 0o644


def test_a_key_is_created_with_its_final_mode(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        seen[target.name] = mode(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    store.issue_client(Role.SOURCE, "demo")
    assert seen["source-demo.key"] == 0o600


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="chmod 700"):
        Store(folder).init()


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.crl.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("certs.store.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.issue_crl()
    assert store.crl.read_bytes() == before
    assert not list(store.folder.glob("*.tmp"))
    assert not list(store.folder.glob(".*.tmp"))


def test_a_key_is_never_overwritten_without_force(store: Store) -> None:
    store.issue_server(["localhost"])
    files = store.issue_client(Role.SOURCE, "demo")
    before = store.ca_key.read_bytes(), store.server_key.read_bytes(), files.key.read_bytes()
    with pytest.raises(StoreError, match=r"ca\.pem exists already.*--force"):
        store.init()
    with pytest.raises(StoreError, match=r"server\.key exists already.*--force"):
        store.issue_server(["localhost"])
    with pytest.raises(StoreError, match=r"source-demo\.key exists already.*--force"):
        store.issue_client(Role.SOURCE, "demo")
    assert before == (store.ca_key.read_bytes(), store.server_key.read_bytes(), files.key.read_bytes())
    assert len(store.read_index().entries) == 2


def test_force_replaces_a_client_and_names_the_certificate_that_is_still_valid(store: Store) -> None:
    first = store.issue_client(Role.SOURCE, "demo", passphrase="correct horse")
    second = store.issue_client(Role.SOURCE, "demo", force=True)
    assert second.replaced == (first.entry,)
    assert second.entry.serial != first.entry.serial
    assert first.p12
    assert not first.p12.exists()


def test_force_sets_an_old_authority_aside_with_everything_it_issued(store: Store) -> None:
    files = store.issue_client(Role.SOURCE, "demo")
    old_key = store.ca_key.read_bytes()
    aside = store.init("new.example", force=True)
    assert aside
    assert (aside / "ca.key").read_bytes() == old_key
    assert (aside / "clients" / files.key.name).exists()
    assert store.read_index() == Index("new.example", crl_info(store.crl.read_bytes()))
    assert store.issue_client(Role.SOURCE, "demo").entry.subject == "spiffe://new.example/source/demo"


def test_clients_of_the_same_name_and_another_role_have_their_own_files(store: Store) -> None:
    source = store.issue_client(Role.SOURCE, "demo")
    reader = store.issue_client(Role.READER, "demo")
    assert source.cert.name == "source-demo.pem"
    assert reader.cert.name == "reader-demo.pem"
    with pytest.raises(StoreError, match="can mean reader-demo, source-demo"):
        store.revoke("demo")


@pytest.mark.parametrize("wanted", ["demo", "source-demo", "spiffe://stream-server.local/source/demo"])
def test_revoking_by_name_revokes_every_certificate_of_that_client(store: Store, wanted: str) -> None:
    serials = {store.issue_client(Role.SOURCE, "demo", force=force).entry.serial for force in (False, True)}
    store.issue_client(Role.SOURCE, "other")
    assert {entry.serial for entry in store.revoke(wanted)} == serials
    assert revoked_serials(store) == serials


def test_revoking_by_serial_revokes_that_certificate_only(store: Store) -> None:
    first = store.issue_client(Role.SOURCE, "demo").entry
    store.issue_client(Role.SOURCE, "demo", force=True)
    colons = ":".join(first.serial_hex.upper()[i : i + 2] for i in range(0, len(first.serial_hex), 2))
    store.revoke(colons)
    assert revoked_serials(store) == {first.serial}


def test_revoking_twice_keeps_the_first_date(store: Store) -> None:
    store.issue_client(Role.SOURCE, "demo")
    store.revoke("demo")
    later = Store(store.folder, clock=lambda: NOW + timedelta(hours=1))
    assert later.revoke("demo") == ()
    assert later.read_index().entries[0].revoked_at == NOW


def test_a_server_certificate_or_an_unknown_name_cannot_be_revoked(store: Store) -> None:
    store.issue_server(["localhost"])
    for wanted in ("server", "nobody", "ffff"):
        with pytest.raises(StoreError, match="stream-server certs show"):
            store.revoke(wanted)


def test_number_and_date_of_the_crl_rise_even_if_its_file_was_lost(store: Store) -> None:
    first = crl_info(store.crl.read_bytes())
    store.crl.unlink()
    second = store.issue_crl(days=7)
    assert second == crl_info(store.crl.read_bytes())
    assert second.number == first.number + 1
    assert second.last_update > first.last_update


def test_commands_at_the_same_time_lose_no_entry(store: Store) -> None:
    names = [f"client{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: Store(store.folder).issue_client(Role.SOURCE, name), names))
    assert {entry.short_name for entry in store.read_index().entries} == {f"source-{n}" for n in names}


def test_a_command_gives_up_with_a_message_while_another_holds_the_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certs.store.LOCK_WAIT_S", 0.0)
    with (store.folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another command is changing"):
            store.issue_crl()
    store.issue_crl()


def test_a_command_waits_for_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with (store.folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr("certs.store.time.sleep", lambda _: fcntl.flock(held, fcntl.LOCK_UN))
        assert store.issue_crl().number == 2


def test_an_empty_folder_says_how_to_make_an_authority(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreError, match="stream-server certs init"):
            Store(folder).issue_client(Role.SOURCE, "demo")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("index.json", None),
        ("index.json", b"{"),
        ("index.json", b"\xff"),
        ("ca.pem", None),
        ("ca.pem", b"junk"),
        ("ca.key", None),
        ("ca.key", b"junk"),
    ],
)
def test_a_missing_or_broken_file_is_named_with_the_next_command(
    store: Store, file: str, content: bytes | None
) -> None:
    path = store.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=r"stream-server certs init --force") as refusal:
        store.issue_client(Role.SOURCE, "demo")
    assert str(path) in str(refusal.value)


def test_a_file_that_is_a_folder_is_named(store: Store) -> None:
    store.index_file.unlink()
    store.index_file.mkdir()
    with pytest.raises(StoreError, match=r"index\.json cannot be read"):
        store.read_index()


def test_what_is_refused_leaves_no_trace(store: Store) -> None:
    before = store.index_file.read_bytes()
    with pytest.raises(IdentityError):
        store.issue_client(Role.SOURCE, "../../ca")
    with pytest.raises(AuthorityError):
        store.issue_client(Role.SOURCE, "demo", passphrase="short")
    with pytest.raises(AuthorityError):
        store.issue_server(["a b"])
    assert store.index_file.read_bytes() == before
    assert not (store.folder / "clients").exists()


def test_the_default_folder_follows_the_state_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_SERVER_STATE", "/srv/state")
    assert default_folder() == Path("/srv/state/certs")
    monkeypatch.delenv("STREAM_SERVER_STATE")
    assert default_folder() == Path.home() / ".local/share/stream-server/certs"


def test_an_index_is_read_back_equal(store: Store) -> None:
    store.issue_server(["localhost", "::1"])
    store.issue_client(Role.SOURCE, "demo")
    store.revoke("demo")
    index = store.read_index()
    assert decode(encode(index)) == index
    assert index.entries[0] == Entry(
        Kind.SERVER, "server", "localhost ::1", index.entries[0].serial, index.entries[0].not_after
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version": 1', '"version": 2'),
        ("stream-server.local", "No Domain"),
        ('"number": 1', '"number": "x"'),
        ('"kind": "client"', '"kind": "cat"'),
        ('"file": "clients/source-demo"', '"file": 3'),
        ('"serial": "', '"serial": "xyz'),
        ("+00:00", ""),
        ('"revoked_at": null', '"revoked_at": 5'),
        ('"certificates"', '"other"'),
    ],
)
def test_an_index_with_anything_unexpected_is_corrupt(store: Store, old: str, new: str) -> None:
    store.issue_client(Role.SOURCE, "demo")
    text = store.index_file.read_text()
    assert old in text
    with pytest.raises(CorruptIndex):
        decode(text.replace(old, new))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes what it must then give away")


@needs_root
def test_what_root_writes_belongs_to_the_servers_user_but_for_the_authoritys_key(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_346)
    store = Store(tmp_path / "certs")
    store.init()
    store.issue_server(["localhost"])
    store.issue_client(Role.SOURCE, "demo", passphrase="correct horse")
    store.revoke("demo")
    store.init(force=True)
    written = {path: path.stat() for path in (store.folder, *store.folder.rglob("*"))}
    assert len(written) > 10
    for path, status in written.items():
        owner = (0, 0) if path.name == "ca.key" else (12_345, 12_346)
        assert (status.st_uid, status.st_gid) == owner, path


@needs_root
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_root_gives_nothing_away_that_the_servers_user_has_linked_to(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    folder, roots_own = tmp_path / "certs", tmp_path / "shadow"
    Store(folder).init()
    os.chown(folder, 12_345, 12_346)
    roots_own.write_text("root's")
    (folder / ".lock").unlink()
    link(roots_own, folder / ".lock")
    with contextlib.suppress(StoreError):
        Store(folder).issue_server(["localhost"])
    assert roots_own.stat().st_uid == 0
    assert roots_own.read_text() == "root's"


def test_an_authority_of_another_user_is_told_with_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def as_another_user(path: Path) -> bytes:
        if path == store.ca_key:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", as_another_user)
    with pytest.raises(StoreError, match=r"ca\.key is another user's; .* as its owner, or as root"):
        store.issue_server(["localhost"])
