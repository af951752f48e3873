"""The files of a running server: when a change is noticed, and what is kept when it is bad."""

import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from handshake import attempt
from pki import Pki, make_pki

from certs.identity import identity_from_der
from certs.live import LiveCredentials, TlsFiles
from certs.tls import TlsConfigError, client_context, try_handshake


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


@pytest.fixture
def files(pki: Pki) -> TlsFiles:
    return TlsFiles(*pki.server_files)


def now() -> datetime:
    return datetime.now(UTC)


def test_files_that_stay_have_not_changed(files: TlsFiles) -> None:
    live = LiveCredentials(files, now())
    assert not live.has_changed()
    assert not live.has_changed()


def test_a_change_counts_once_it_has_settled(pki: Pki, files: TlsFiles) -> None:
    live = LiveCredentials(files, now())
    pki.revoke(pki.client("demo", "source"))
    assert not live.has_changed(), "more files may follow"
    assert live.has_changed()
    live.reload(now())
    assert not live.has_changed()


def test_a_revoked_client_is_named_by_the_next_list_and_refused_by_the_next_context(
    pki: Pki, files: TlsFiles
) -> None:
    live = LiveCredentials(files, now())
    old = live.current
    demo, other = pki.client("demo", "source"), pki.client("other", "source")
    pki.revoke(demo)
    credentials = live.reload(now())
    assert credentials is live.current
    assert credentials.revoked.names(identity_from_der(demo.der, "stream-server.local"))
    assert not credentials.revoked.names(identity_from_der(other.der, "stream-server.local"))
    assert len(credentials.revoked) == 1
    client = client_context(pki.ca, demo.cert, demo.key)
    assert attempt(old.context, client).admitted
    assert attempt(credentials.context, client).reason == "revoked"


def test_the_serial_of_another_authority_is_not_revoked(pki: Pki, files: TlsFiles, tmp_path: Path) -> None:
    demo = pki.client("demo", "source")
    pki.revoke(demo)
    identity = identity_from_der(demo.der, "stream-server.local")
    stranger = type(identity)(
        **{name: getattr(identity, name) for name in identity.__slots__} | {"issuer": b"another"}
    )
    assert not LiveCredentials(files, now()).current.revoked.names(stranger)


@pytest.mark.parametrize("which", ["cert", "key", "client_ca", "crl"])
def test_a_bad_file_keeps_the_old_ones_and_is_tried_once(files: TlsFiles, which: str) -> None:
    live = LiveCredentials(files, now())
    old = live.current
    getattr(files, which).write_text("not PEM")
    live.has_changed()
    assert live.has_changed()
    with pytest.raises(TlsConfigError):
        live.reload(now())
    assert live.current is old
    assert not live.has_changed()


def test_a_key_of_another_certificate_keeps_the_old_ones(pki: Pki, files: TlsFiles, tmp_path: Path) -> None:
    live = LiveCredentials(files, now())
    old = live.current
    other = make_pki(tmp_path / "other")
    shutil.copy(TlsFiles(*other.server_files).key, files.key)
    with pytest.raises(TlsConfigError, match="is not the private key of"):
        live.reload(now())
    assert live.current is old


def test_an_older_list_is_refused(pki: Pki, files: TlsFiles, tmp_path: Path) -> None:
    old_list = tmp_path / "old.pem"
    shutil.copy(files.crl, old_list)
    demo = pki.client("demo", "source")
    pki.revoke(demo)
    live = LiveCredentials(files, now())
    shutil.copy(old_list, files.crl)
    with pytest.raises(TlsConfigError, match="an old list would admit who was revoked since"):
        live.reload(now())
    assert live.current.revoked.names(identity_from_der(demo.der, "stream-server.local"))


def test_an_expired_list_is_refused_at_start(files: TlsFiles) -> None:
    with pytest.raises(TlsConfigError, match="expired on"):
        LiveCredentials(files, now() + timedelta(days=400))


def test_a_missing_file_is_a_change(files: TlsFiles) -> None:
    live = LiveCredentials(files, now())
    files.crl.unlink()
    live.has_changed()
    assert live.has_changed()


def test_a_context_without_a_certificate_fails_its_trial() -> None:
    with pytest.raises(TlsConfigError, match="fail in a handshake"):
        try_handshake(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
