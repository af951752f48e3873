"""Contexts: their settings, and the trouble that is named before the server listens."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pki import Bad, Pki, foreign_ca, make_pki

from certs import authority
from certs.identity import DEFAULT_TRUST_DOMAIN
from certs.tls import TlsConfigError, client_context, crl_expiry, refusal_alert, server_context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


def at(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def refused(pki: Pki, *, now: datetime | None = None) -> str:
    with pytest.raises(TlsConfigError) as refusal:
        server_context(*pki.server_files, now=now)
    return str(refusal.value)


def test_the_server_context_is_as_strict_as_it_can_be(pki: Pki) -> None:
    context = server_context(*pki.server_files)
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.num_tickets == 0
    assert [list(ca["subject"]) for ca in context.get_ca_certs()] == [
        [(("commonName", "stream-server CA stream-server.local"),)]
    ]


def test_the_client_context_checks_name_and_authority(pki: Pki) -> None:
    context = client_context(pki.ca)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(context.get_ca_certs()) == 1


def test_an_expired_crl_is_refused_with_its_date_and_the_command(pki: Pki) -> None:
    message = refused(pki, now=at(31))
    assert f"crl.pem expired on {crl_expiry(pki.store.crl):%Y-%m-%d}" in message
    assert "`stream-server certs crl`" in message


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_a_missing_or_broken_crl_is_refused_with_the_command(pki: Pki, content: bytes | None) -> None:
    pki.store.crl.unlink()
    if content is not None:
        pki.store.crl.write_bytes(content)
    message = refused(pki)
    assert str(pki.store.crl) in message
    assert "`stream-server certs crl`" in message


def test_a_crl_of_another_authority_is_refused(pki: Pki) -> None:
    for domain in ("elsewhere.example", DEFAULT_TRUST_DOMAIN):
        pki.store.crl.write_bytes(authority.new_crl(foreign_ca(domain), [], now=at(0)))
        assert "was not signed by the authority" in refused(pki)


def test_a_crl_from_the_future_is_refused(pki: Pki) -> None:
    ca = authority.load_issued(pki.ca.read_bytes(), pki.store.ca_key.read_bytes())
    pki.store.crl.write_bytes(authority.new_crl(ca, [], now=at(2)))
    assert "in the future" in refused(pki)


def test_an_expired_or_future_server_certificate_is_refused(pki: Pki) -> None:
    message = refused(pki, now=at(398))
    assert "server.pem expired on" in message
    assert "certs server NAME --force" in message
    assert "server.pem is valid only from" in refused(pki, now=at(-1))


def test_an_expired_authority_is_refused(pki: Pki) -> None:
    pki.store.ca_cert.write_bytes(
        authority.new_ca("old", serial=1, now=at(-10), days=1).cert_pem,
    )
    assert "ca.pem expired on" in refused(pki)


def test_more_than_one_authority_is_refused(pki: Pki) -> None:
    pki.ca.write_bytes(pki.ca.read_bytes() + foreign_ca().cert_pem)
    assert "holds 2 certificates" in refused(pki)


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_missing_or_broken_file_is_named(pki: Pki, name: str, content: bytes | None) -> None:
    path = pki.store.folder / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    message = refused(pki)
    assert str(path) in message
    assert "`stream-server certs" in message


def test_an_unreadable_file_is_named(pki: Pki) -> None:
    pki.store.server_key.unlink()
    pki.store.server_key.mkdir()
    assert "server.key cannot be read" in refused(pki)


def test_a_key_of_another_certificate_is_named(pki: Pki) -> None:
    pki.store.server_key.write_bytes(pki.store.ca_key.read_bytes())
    assert "is not the private key of" in refused(pki)


def test_an_encrypted_key_is_refused_instead_of_asking_on_the_terminal(pki: Pki) -> None:
    key = load_pem_private_key(pki.store.server_key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    pki.store.server_key.write_bytes(encrypted)
    assert "encrypted with a passphrase" in refused(pki)


def test_a_client_certificate_needs_its_key(pki: Pki) -> None:
    pair = pki.client()
    for cert, key in ((pair.cert, None), (None, pair.key)):
        with pytest.raises(TlsConfigError, match="give both files, or neither"):
            client_context(pki.ca, cert, key)


def test_the_client_is_told_which_file_is_wrong(pki: Pki, tmp_path: Path) -> None:
    pair, other = pki.client(), pki.bad(Bad.NO_USAGE)
    with pytest.raises(TlsConfigError, match="is not the private key of"):
        client_context(pki.ca, pair.cert, other.key)
    with pytest.raises(TlsConfigError, match="ask the operator"):
        client_context(tmp_path / "missing.pem")


def test_other_errors_carry_no_alert() -> None:
    assert refusal_alert(ValueError()) == b""
