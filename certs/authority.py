"""Make a certificate authority, sign server and client certificates, write revocation lists.

Pure: values in, PEM bytes out. The time and the serial numbers are arguments; only the keys are drawn here,
from the operating system's generator. Every extension is set by hand with its criticality (RFC 5280 section
4.2), so that OpenSSL accepts the result under ``VERIFY_X509_STRICT``.

Keys are ECDSA P-256: every browser, Python and OpenSSL takes them, and a handshake costs a fraction of RSA.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.identity import parse_uri

CA_DAYS = 3650
SERVER_DAYS = 397
"""The longest that browsers accept from public authorities is 398 days; macOS holds private ones to 825."""
CLIENT_DAYS = 365
CRL_DAYS = 30
PASSPHRASE_LENGTH_MIN = 12
"""Characters; see ``pkcs12_bundle`` for why a short one is refused."""

CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are dated back by this, so that a machine whose clock is a little slow accepts a fresh one."""
CRL_BACKDATE = timedelta(hours=1)
"""CRLs are dated back by more: each must be dated later than the one before, in whole seconds, and a script
that revokes hundreds in a burst would otherwise date them into the future, where OpenSSL refuses all."""

_COMMON_NAME_LENGTH_MAX = 64  # RFC 5280 appendix A, ub-common-name


class AuthorityError(ValueError):
    """What was asked for cannot be signed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    """PKCS#8, not encrypted."""
    serial: int
    not_after: datetime
    """UTC-aware."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """One line of a CRL."""

    serial: int
    revoked_at: datetime
    """UTC-aware."""


@dataclass(frozen=True, slots=True)
class CrlInfo:
    """What the next CRL must know of the one before it."""

    number: int
    last_update: datetime
    """UTC-aware, whole seconds."""
    next_update: datetime
    """UTC-aware; from then on OpenSSL refuses every client."""


def new_ca(trust_domain: str, *, serial: int, now: datetime, days: int = CA_DAYS) -> Issued:
    """Make a self-signed authority that may sign leaf certificates only (path length 0).

    Args:
        trust_domain: shown in its name, so that a browser's list tells two authorities apart.
        serial: positive, at most 20 bytes; ``x509.random_serial_number()`` at the edge.
        now: UTC-aware.
        days: lifetime.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"stream-server CA {trust_domain}")
    not_after = now + timedelta(days=days)
    builder = _builder(name, key, serial=serial, now=now, not_after=not_after).issuer_name(name)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(_key_id(key.public_key()), critical=False)
    )
    return _sign(builder, key, key)


def new_server(
    ca: Issued, names: Sequence[str], *, serial: int, now: datetime, days: int = SERVER_DAYS
) -> Issued:
    """Sign a server certificate.

    Args:
        ca: the authority.
        names: host names and IP addresses, told apart here; the first is also the common name.
        serial: as for ``new_ca``.
        now: UTC-aware.
        days: lifetime, cut to the authority's own.

    Raises:
        AuthorityError: no name, a name that is neither host name nor address, or an expired authority.
    """
    if not names:
        raise AuthorityError("a server certificate needs at least one host name or IP address; give one")
    alternatives = x509.SubjectAlternativeName([_server_name(name) for name in names])
    return _new_leaf(ca, names[0], alternatives, ExtendedKeyUsageOID.SERVER_AUTH, serial, now, days)


def new_client(ca: Issued, uri: str, *, serial: int, now: datetime, days: int = CLIENT_DAYS) -> Issued:
    """Sign a client certificate for one URI; see ``certs.identity`` for the rule.

    Args:
        ca: the authority.
        uri: from ``identity.spiffe_uri``.
        serial: as for ``new_ca``.
        now: UTC-aware.
        days: lifetime, cut to the authority's own.

    Raises:
        IdentityError: the URI breaks the rule.
        AuthorityError: the authority has expired.
    """
    _, path = parse_uri(uri)
    # Browsers show the common name when they ask which certificate to use; nothing reads it afterwards.
    role, _, name = path[1:].rpartition("/")
    shown = f"{name} ({role})" if role else name
    alternatives = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return _new_leaf(ca, shown, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, serial, now, days)


def new_crl(
    ca: Issued,
    revoked: Iterable[Revoked],
    *,
    now: datetime,
    previous: CrlInfo | None = None,
    days: int = CRL_DAYS,
) -> bytes:
    """Sign the next revocation list; PEM.

    Its number and its date are both greater than those of ``previous``: of two CRLs with the same date
    OpenSSL believes the one loaded first, which could be the one without the newest revocation.

    Args:
        ca: the authority.
        revoked: every certificate revoked so far.
        now: UTC-aware.
        previous: ``crl_info`` of the CRL in use, None for the first.
        days: how long servers may use it, counted from ``now``; after that they refuse everybody.

    Raises:
        AuthorityError: the date would lie in the future, because the clock went backwards since ``previous``.
    """
    last_update = (now - CRL_BACKDATE).replace(microsecond=0)
    if previous is not None:
        last_update = max(last_update, previous.last_update + timedelta(seconds=1))
    if last_update > now:
        raise AuthorityError(
            f"the next CRL would be dated {last_update:%Y-%m-%d %H:%M:%S} UTC, in the future by this clock,"
            " and servers would refuse everybody; set the clock right and try again"
        )
    ca_cert, ca_key = _load(ca)
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=ca_cert.subject, last_update=last_update, next_update=now + timedelta(days=days)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(_crl_entry(entry))
    number = x509.CRLNumber(previous.number + 1 if previous else 1)
    builder = builder.add_extension(number, critical=False)
    builder = builder.add_extension(_authority_key_id(ca_cert), critical=False)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def crl_info(crl_pem: bytes) -> CrlInfo:
    """Read number and dates of a CRL.

    Raises:
        AuthorityError: the bytes are not a CRL, or it has no number or no next update.
    """
    try:
        crl = x509.load_pem_x509_crl(crl_pem)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound) as error:
        raise AuthorityError("this is not a certificate revocation list of ours") from error
    if crl.next_update_utc is None:
        raise AuthorityError("this certificate revocation list never expires, so it is not one of ours")
    return CrlInfo(number, crl.last_update_utc, crl.next_update_utc)


def pkcs12_bundle(issued: Issued, ca_pem: bytes, *, name: str, passphrase: str) -> bytes:
    """Pack certificate, key and authority into one PKCS#12 file for browsers and key chains.

    Args:
        issued: from ``new_client``.
        ca_pem: the authority's certificate.
        name: what the importing program shows.
        passphrase: printable ASCII, at least ``PASSPHRASE_LENGTH_MIN`` characters.

    Raises:
        AuthorityError: the passphrase is too short or not ASCII.
    """
    if len(passphrase) < PASSPHRASE_LENGTH_MIN or not (passphrase.isascii() and passphrase.isprintable()):
        raise AuthorityError(
            f"the passphrase of a .p12 file must have at least {PASSPHRASE_LENGTH_MIN} printable ASCII"
            " characters (programs disagree on how to encode others); choose another one"
        )
    # 3DES with SHA-1, because Apple's Security framework answers "wrong password" to AES-256 with SHA-256
    # (pyca/cryptography#7293, openssl/openssl#19871, ruby/openssl#654), while this pair is the oldest common
    # one, which OpenSSL 3 still reads without its legacy provider. Neither is broken for this use, but an
    # attacker can try passphrases, against a MAC of 2048 rounds that cryptography does not let us raise.
    # So the strength must come from the passphrase: hence the minimum length, and the generated one.
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - see above
        .build(passphrase.encode("ascii"))
    )
    certificate, key = _load(issued)
    authority = x509.load_pem_x509_certificate(ca_pem)
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [authority], encryption)


def load_issued(cert_pem: bytes, key_pem: bytes) -> Issued:
    """Read back what was issued earlier.

    Raises:
        AuthorityError: a part cannot be read, is not ECDSA, or the two do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate(cert_pem)
    except ValueError as error:
        raise AuthorityError("the certificate cannot be read") from error
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise AuthorityError("the private key cannot be read") from error
    if key.public_key() != certificate.public_key():
        raise AuthorityError("the private key does not belong to the certificate")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError("the private key is not an ECDSA key, so it is not one of ours")
    return Issued(cert_pem, key_pem, certificate.serial_number, certificate.not_valid_after_utc)


def _new_leaf(
    ca: Issued,
    shown: str,
    alternatives: x509.SubjectAlternativeName,
    purpose: x509.ObjectIdentifier,
    serial: int,
    now: datetime,
    days: int,
) -> Issued:
    if now >= ca.not_after:
        raise AuthorityError(
            f"the authority expired on {ca.not_after:%Y-%m-%d};"
            " make a new one and issue all certificates again"
        )
    ca_cert, ca_key = _load(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    not_after = min(now + timedelta(days=days), ca.not_after)
    builder = _builder(_name(shown), key, serial=serial, now=now, not_after=not_after)
    builder = (
        builder.issuer_name(ca_cert.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(_key_id(key.public_key()), critical=False)
        .add_extension(_authority_key_id(ca_cert), critical=False)
    )
    return _sign(builder, key, ca_key)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, serial: int, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after)
    )


def _sign(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Issued:
    certificate = builder.sign(signer, hashes.SHA256())
    return Issued(
        cert_pem=certificate.public_bytes(Encoding.PEM),
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        serial=certificate.serial_number,
        not_after=certificate.not_valid_after_utc,
    )


def _load(issued: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = load_pem_private_key(issued.key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # Issued holds only what was made or checked here
    return x509.load_pem_x509_certificate(issued.cert_pem), key


def _crl_entry(entry: Revoked) -> x509.RevokedCertificate:
    return x509.RevokedCertificateBuilder(entry.serial, entry.revoked_at).build()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME_LENGTH_MAX])])


def _server_name(name: str) -> x509.DNSName | x509.IPAddress:
    address = _address(name)
    if address is not None:
        return x509.IPAddress(address)
    labels = name.removesuffix(".").removeprefix("*.").split(".")
    # A last label of digits only is a mistyped address: no top-level domain is a number.
    if len(name) > 253 or labels[-1].isdigit() or not all(map(_is_label, labels)):
        raise AuthorityError(
            f"'{name}' is neither a host name nor an IP address; give it like captions.example.org,"
            " localhost or 192.0.2.7, without https:// and without a port"
        )
    return x509.DNSName(name.removesuffix("."))


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _is_label(label: str) -> bool:
    # RFC 952 and 1123 letters, digits and hyphens; the underscore is common in private networks.
    inner = label.replace("-", "").replace("_", "")
    return len(label) <= 63 and inner.isascii() and inner.isalnum() and label.strip("-") == label


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id(public_key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public_key)


def _authority_key_id(ca_cert: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    key_id = ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
