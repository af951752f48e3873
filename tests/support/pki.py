"""A throw-away authority with good and bad client certificates, made per run: no key is ever in git.

    pki = make_pki(tmp_path)                    # a folder as `stream-server certs` makes it
    server_context(*pki.server_files)
    demo = pki.client("demo", "source")         # issued, listed, can be revoked
    bad = pki.bad(Bad.EXPIRED)                  # signed by hand, listed nowhere
    pki.revoke(demo)

``REFUSED_BY_TLS``, ``REFUSED_BY_IDENTITY`` and ``REFUSED_BY_POLICY`` say which layer must stop each `Bad`.
"""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from certs import authority
from certs.authority import Issued
from certs.identity import DEFAULT_TRUST_DOMAIN, Role
from certs.store import Store

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
GOOD_URI = f"spiffe://{DEFAULT_TRUST_DOMAIN}/source/demo"
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


class Bad(StrEnum):
    """Everything that can be wrong with a client certificate."""

    FOREIGN_CA = auto()
    SAME_NAME_CA = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    SERVER_ONLY = auto()
    REVOKED = auto()
    CA_AS_LEAF = auto()
    SELF_SIGNED = auto()
    BROKEN_SIGNATURE = auto()
    SIGNED_BY_CLIENT = auto()
    SUB_AUTHORITY = auto()
    UNKNOWN_CRITICAL_EXTENSION = auto()
    EMAIL_ONLY = auto()
    MAY_SIGN = auto()
    NO_USAGE = auto()
    TWO_URIS = auto()
    NO_URI = auto()
    BAD_PATTERN = auto()
    PERCENT_ENCODED = auto()
    CONTROL_CHARACTER_IN_URI = auto()
    CONTROL_CHARACTER_IN_SUBJECT = auto()
    FOREIGN_TRUST_DOMAIN = auto()
    ESCAPE_IN_SUBJECT = auto()
    NUL_IN_SUBJECT = auto()
    DOT_SEGMENT = auto()
    EMPTY_PATH = auto()
    TRAILING_SLASH = auto()
    QUERY_IN_URI = auto()
    PORT_IN_URI = auto()
    CAPITALS_IN_TRUST_DOMAIN = auto()
    URI_TOO_LONG = auto()
    UNKNOWN_ROLE = auto()


REFUSED_BY_TLS = tuple(Bad)[: tuple(Bad).index(Bad.NO_USAGE)]
REFUSED_BY_IDENTITY = tuple(Bad)[tuple(Bad).index(Bad.NO_USAGE) : -1]
REFUSED_BY_POLICY = (Bad.UNKNOWN_ROLE,)


@dataclass(frozen=True, slots=True)
class ClientPair:
    """Files of one client: pass them to `client_context(ca, pair.cert, pair.key)`."""

    cert: Path
    key: Path
    serial: int

    @property
    def der(self) -> bytes:
        """What the server's `getpeercert(binary_form=True)` will return."""
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Pki:
    """An authority in a folder, with a server certificate for localhost."""

    store: Store

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.store.ca_cert

    @property
    def server_files(self) -> tuple[Path, Path, Path, Path]:
        """Certificate, key, authority, CRL: the arguments of `server_context`."""
        return (self.store.server_cert, self.store.server_key, self.store.ca_cert, self.store.crl)

    def client(self, name: str = "demo", role: str = "source") -> ClientPair:
        """Issue a good client certificate."""
        files = self.store.issue_client(Role(role), name)
        return ClientPair(files.cert, files.key, files.entry.serial)

    def revoke(self, pair: ClientPair) -> None:
        """Revoke a client and write the CRL anew."""
        self.store.revoke(f"{pair.serial:x}")

    def bad(self, kind: Bad) -> ClientPair:
        """Make a client certificate that must be refused."""
        if kind is Bad.REVOKED:
            pair = self.client("revoked")
            self.revoke(pair)
            return pair
        ca = authority.load_issued(self.store.ca_cert.read_bytes(), self.store.ca_key.read_bytes())
        folder = self.store.folder / "bad"
        folder.mkdir(exist_ok=True)
        return write_pair(folder / kind.value, _FORGERS[kind](ca))


def make_pki(folder: Path, *, names: Sequence[str] = SERVER_NAMES, made_at: datetime | None = None) -> Pki:
    """Make an authority, an empty CRL and a server certificate in `folder/certs`.

    `made_at` dates them, and what the authority issues later; None is the wall clock.
    """
    store = Store(folder / "certs", clock=lambda: made_at or datetime.now(UTC))
    store.init()
    store.issue_server(names)
    return Pki(store)


def write_pair(stem: Path, issued: Issued) -> ClientPair:
    """Write a certificate and its key beside each other."""
    cert, key = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key")
    cert.write_bytes(issued.cert_pem)
    key.touch(mode=0o600)
    key.write_bytes(issued.key_pem)
    return ClientPair(cert, key, issued.serial)


def forge(
    ca: Issued,
    *,
    uris: Sequence[str] = (GOOD_URI,),
    common_name: str = "demo",
    usages: Sequence[ObjectIdentifier] = (CLIENT_AUTH,),
    not_before_days: float = -1,
    not_after_days: float = 1,
    is_ca: bool = False,
    signs: bool = False,
    extensions: Sequence[x509.UnrecognizedExtension] = (),
) -> Issued:
    """Sign a client certificate by hand, without any of the checks of `certs.authority`."""
    ca_cert = x509.load_pem_x509_certificate(ca.cert_pem)
    ca_key = load_pem_private_key(ca.key_pem, password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([attribute]))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=not_before_days))
        .not_valid_after(now + timedelta(days=not_after_days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(_key_usage(signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_key_id(ca_cert), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    certificate = builder.sign(ca_key, hashes.SHA256())
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.serial_number,
        certificate.not_valid_after_utc,
    )


@cache
def foreign_ca(trust_domain: str = "elsewhere.example") -> Issued:
    """Another authority; with our trust domain it even has our authority's name."""
    return authority.new_ca(trust_domain, serial=x509.random_serial_number(), now=datetime.now(UTC))


def _self_signed() -> Issued:
    """A leaf that names itself as its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo")])
    uri = x509.UniformResourceIdentifier(GOOD_URI)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        private,
        certificate.serial_number,
        certificate.not_valid_after_utc,
    )


def _broken_signature(ca: Issued) -> Issued:
    """The last bit of a good certificate's signature turned over."""
    good = forge(ca)
    der = bytearray(x509.load_pem_x509_certificate(good.cert_pem).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return replace(good, cert_pem=ssl.DER_cert_to_PEM_cert(bytes(der)).encode())


def _below(issuer: Issued) -> Issued:
    """A leaf of ``issuer``, which is sent along."""
    leaf = forge(issuer)
    return replace(leaf, cert_pem=leaf.cert_pem + issuer.cert_pem)


def _unknown_extension() -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")


_FORGERS: dict[Bad, Callable[[Issued], Issued]] = {
    Bad.FOREIGN_CA: lambda ca: forge(foreign_ca()),
    Bad.SAME_NAME_CA: lambda ca: forge(foreign_ca(DEFAULT_TRUST_DOMAIN)),
    Bad.EXPIRED: lambda ca: forge(ca, not_before_days=-2, not_after_days=-1),
    Bad.NOT_YET_VALID: lambda ca: forge(ca, not_before_days=1, not_after_days=2),
    Bad.SERVER_ONLY: lambda ca: forge(ca, usages=[SERVER_AUTH]),
    Bad.CA_AS_LEAF: lambda ca: ca,
    Bad.NO_USAGE: lambda ca: forge(ca, usages=[]),
    Bad.TWO_URIS: lambda ca: forge(ca, uris=[GOOD_URI, GOOD_URI + "2"]),
    Bad.NO_URI: lambda ca: forge(ca, uris=[]),
    Bad.BAD_PATTERN: lambda ca: forge(ca, uris=["https://stream-server.local/source/demo"]),
    Bad.PERCENT_ENCODED: lambda ca: forge(ca, uris=[GOOD_URI + "%2e"]),
    Bad.CONTROL_CHARACTER_IN_URI: lambda ca: forge(ca, uris=[GOOD_URI + "\n"]),
    Bad.CONTROL_CHARACTER_IN_SUBJECT: lambda ca: forge(ca, common_name="demo\n\x1b[2J\x00"),
    Bad.FOREIGN_TRUST_DOMAIN: lambda ca: forge(ca, uris=["spiffe://elsewhere.example/source/demo"]),
    Bad.SELF_SIGNED: lambda ca: _self_signed(),
    Bad.BROKEN_SIGNATURE: _broken_signature,
    Bad.SIGNED_BY_CLIENT: lambda ca: _below(forge(ca)),
    Bad.SUB_AUTHORITY: lambda ca: _below(forge(ca, is_ca=True, signs=True, usages=[])),
    Bad.UNKNOWN_CRITICAL_EXTENSION: lambda ca: forge(ca, extensions=[_unknown_extension()]),
    Bad.EMAIL_ONLY: lambda ca: forge(ca, usages=[ExtendedKeyUsageOID.EMAIL_PROTECTION]),
    Bad.ESCAPE_IN_SUBJECT: lambda ca: forge(ca, common_name="demo\x1b[2J"),
    Bad.NUL_IN_SUBJECT: lambda ca: forge(ca, common_name="demo\x00admin"),
    Bad.DOT_SEGMENT: lambda ca: forge(ca, uris=["spiffe://stream-server.local/source/../admin/demo"]),
    Bad.EMPTY_PATH: lambda ca: forge(ca, uris=["spiffe://stream-server.local"]),
    Bad.TRAILING_SLASH: lambda ca: forge(ca, uris=[GOOD_URI + "/"]),
    Bad.QUERY_IN_URI: lambda ca: forge(ca, uris=[GOOD_URI + "?role=admin"]),
    Bad.PORT_IN_URI: lambda ca: forge(ca, uris=["spiffe://stream-server.local:443/source/demo"]),
    Bad.CAPITALS_IN_TRUST_DOMAIN: lambda ca: forge(ca, uris=["spiffe://Stream-Server.local/source/demo"]),
    Bad.URI_TOO_LONG: lambda ca: forge(ca, uris=[GOOD_URI + "/demo" * 500]),
    Bad.MAY_SIGN: lambda ca: forge(ca, signs=True),
    Bad.UNKNOWN_ROLE: lambda ca: forge(ca, uris=["spiffe://stream-server.local/operator/demo"]),
}


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, signs, signs, False, False)


def _authority_key_id(ca_cert: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    key_id = ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
