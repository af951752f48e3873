"""What the authority signs, read back with cryptography and judged by OpenSSL in the handshake tests."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import GOOD_URI

from certs import authority
from certs.authority import AuthorityError, CrlInfo, Issued, Revoked, crl_info, load_issued, new_crl

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
DAY = timedelta(days=1)
CA = authority.new_ca("stream-server.local", serial=1, now=NOW)
CLIENT = authority.new_client(CA, GOOD_URI, serial=2, now=NOW)


def load(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.cert_pem)


def test_the_authority_may_sign_leaves_and_crls_and_nothing_else() -> None:
    ca = load(CA)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (
        True,
        True,
        False,
    )
    ca.verify_directly_issued_by(ca)


@pytest.mark.parametrize(
    ("issued", "purpose"),
    [
        pytest.param(CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH, id="client"),
        pytest.param(
            authority.new_server(CA, ["localhost"], serial=3, now=NOW),
            ExtendedKeyUsageOID.SERVER_AUTH,
            id="server",
        ),
    ],
)
def test_a_leaf_has_one_purpose_and_points_at_its_authority(
    issued: Issued, purpose: x509.ObjectIdentifier
) -> None:
    leaf, ca = load(issued), load(CA)
    leaf.verify_directly_issued_by(ca)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    pointer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert pointer.key_identifier == key_id


def test_certificates_are_valid_from_a_little_before_now() -> None:
    leaf = load(CLIENT)
    assert leaf.not_valid_before_utc == (NOW - timedelta(minutes=5)).replace(microsecond=0)
    assert leaf.not_valid_after_utc == CLIENT.not_after == (NOW + 365 * DAY).replace(microsecond=0)


def test_a_leaf_never_outlives_its_authority() -> None:
    issued = authority.new_client(CA, GOOD_URI, serial=4, now=NOW + 3600 * DAY)
    assert issued.not_after == CA.not_after


def test_an_expired_authority_signs_nothing() -> None:
    with pytest.raises(AuthorityError, match="expired on 2036-02-27"):
        authority.new_client(CA, GOOD_URI, serial=4, now=CA.not_after)


def test_server_names_are_told_apart_into_hosts_and_addresses() -> None:
    names = ["captions.example.org", "localhost", "*.example.org", "host_1", "a.b.", "192.0.2.7", "::1"]
    issued = authority.new_server(CA, names, serial=5, now=NOW)
    alternatives = load(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == [
        "captions.example.org",
        "localhost",
        "*.example.org",
        "host_1",
        "a.b",
    ]
    assert alternatives.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.7"), ip_address("::1")]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "https://a",
        "a:443",
        "a b",
        "-a",
        "a-",
        "a..b",
        "ä.example",
        "192.0.2.700",
        "1.2.3",
        "a" * 64,
        "a." * 130 + "a",
        "*",
    ],
)
def test_a_name_that_no_client_can_connect_to_is_refused(name: str) -> None:
    with pytest.raises(AuthorityError, match="neither a host name nor an IP address"):
        authority.new_server(CA, [name], serial=6, now=NOW)


def test_a_server_certificate_without_names_is_refused() -> None:
    with pytest.raises(AuthorityError, match="at least one"):
        authority.new_server(CA, [], serial=6, now=NOW)


def test_the_common_name_of_a_client_shows_name_and_role_within_64_characters() -> None:
    def shown(uri: str) -> str:
        return load(authority.new_client(CA, uri, serial=7, now=NOW)).subject.rfc4514_string()

    assert shown(GOOD_URI) == "CN=demo (source)"
    assert shown("spiffe://d/demo") == "CN=demo"
    assert shown("spiffe://d/source/" + "a" * 128) == "CN=" + "a" * 64


def test_a_crl_lists_what_was_revoked() -> None:
    crl = x509.load_pem_x509_crl(new_crl(CA, [Revoked(2, NOW)], now=NOW))
    entry = crl.get_revoked_certificate_by_serial_number(2)
    assert entry is not None
    assert entry.revocation_date_utc == NOW.replace(microsecond=0)
    assert crl.get_revoked_certificate_by_serial_number(3) is None
    assert crl.is_signature_valid(load(CA).public_key())  # type: ignore[arg-type]  # ours is always ECDSA


def test_the_first_crl_has_number_one_and_is_dated_back_and_lasts_30_days() -> None:
    info = crl_info(new_crl(CA, [], now=NOW))
    assert info == CrlInfo(
        1, (NOW - timedelta(hours=1)).replace(microsecond=0), (NOW + 30 * DAY).replace(microsecond=0)
    )


@settings(max_examples=20)
@given(st.lists(st.floats(-2, 2000), min_size=1, max_size=8))
def test_number_and_date_rise_strictly_from_crl_to_crl(waits_s: list[float]) -> None:
    now, previous = NOW, crl_info(new_crl(CA, [], now=NOW))
    for wait_s in waits_s:
        now += timedelta(seconds=wait_s)
        following = crl_info(new_crl(CA, [], now=now, previous=previous))
        assert following.number == previous.number + 1
        assert following.last_update > previous.last_update
        assert following.last_update <= now
        previous = following


def test_two_crls_in_the_same_second_differ_by_one_second() -> None:
    first = crl_info(new_crl(CA, [], now=NOW))
    second = crl_info(new_crl(CA, [], now=NOW, previous=first))
    assert second.last_update - first.last_update == timedelta(seconds=1)


def test_a_crl_is_never_dated_into_the_future() -> None:
    ahead = CrlInfo(7, NOW.replace(microsecond=0), NOW + DAY)
    with pytest.raises(AuthorityError, match="set the clock right"):
        new_crl(CA, [], now=NOW, previous=ahead)


def crl_without_number() -> bytes:
    key = load_pem_private_key(CA.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateRevocationListBuilder(load(CA).subject, NOW, NOW + DAY)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("pem", [b"", CA.cert_pem, crl_without_number()])
def test_what_is_not_a_crl_of_ours_is_named_so(pem: bytes) -> None:
    with pytest.raises(AuthorityError, match="not a certificate revocation list of ours"):
        crl_info(pem)


def test_a_pkcs12_file_opens_with_its_passphrase_and_holds_key_leaf_and_authority() -> None:
    bundle = authority.pkcs12_bundle(CLIENT, CA.cert_pem, name="demo", passphrase="correct horse")
    key, leaf, others = pkcs12.load_key_and_certificates(bundle, b"correct horse")
    assert key is not None
    assert leaf == load(CLIENT)
    assert others == [load(CA)]
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_key_and_certificates(bundle, b"wrong horse!")


def test_a_pkcs12_file_uses_the_algorithms_that_apple_imports() -> None:
    bundle = authority.pkcs12_bundle(CLIENT, CA.cert_pem, name="demo", passphrase="correct horse")
    pbe_sha1_3des = bytes.fromhex("060a2a864886f70d010c0103")
    pbes2 = bytes.fromhex("06092a864886f70d01050d")
    assert pbe_sha1_3des in bundle
    assert pbes2 not in bundle


@pytest.mark.parametrize("passphrase", ["", "short", "ümlaut-ümlaut", "control\ncharacter"])
def test_a_weak_or_ambiguous_passphrase_is_refused(passphrase: str) -> None:
    with pytest.raises(AuthorityError, match="12 printable ASCII"):
        authority.pkcs12_bundle(CLIENT, CA.cert_pem, name="demo", passphrase=passphrase)


def test_what_was_issued_is_read_back_equal() -> None:
    assert load_issued(CLIENT.cert_pem, CLIENT.key_pem) == CLIENT


def encrypted_key() -> bytes:
    key = load_pem_private_key(CLIENT.key_pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def rsa_pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    leaf = load(CLIENT)
    builder = x509.CertificateBuilder(leaf.issuer, leaf.subject, key.public_key(), 9, NOW, NOW + DAY)
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), pem


@pytest.mark.parametrize(
    ("cert_pem", "key_pem", "message"),
    [
        pytest.param(b"junk", CLIENT.key_pem, "certificate cannot be read", id="fail/certificate"),
        pytest.param(CLIENT.cert_pem, b"junk", "key cannot be read", id="fail/key"),
        pytest.param(CLIENT.cert_pem, encrypted_key(), "key cannot be read", id="fail/encrypted"),
        pytest.param(CLIENT.cert_pem, CA.key_pem, "does not belong", id="fail/mismatch"),
        pytest.param(*rsa_pair(), "not an ECDSA key", id="fail/RSA"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named(cert_pem: bytes, key_pem: bytes, message: str) -> None:
    with pytest.raises(AuthorityError, match=message):
        load_issued(cert_pem, key_pem)


def test_a_private_key_is_not_in_the_printed_form() -> None:
    assert "PRIVATE" not in repr(CLIENT)
