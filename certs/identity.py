"""What a client certificate must contain, written once for the issuer and for the verifier.

A client is named by exactly one URI in the subject alternative name, after the SPIFFE X.509-SVID rules
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md): ``spiffe://TRUST-DOMAIN/ROLE/NAME``.
The common name is never read: OpenSSL admits common names with newlines, escape sequences and NUL bytes,
and certificates with two URIs, even under ``VERIFY_X509_STRICT``. So what TLS lets through is checked again.

Pure: bytes in, values out. It does not check signature, dates or revocation: TLS has done that before.
Error messages quote neither names nor raw bytes of the certificate, so they may be logged.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

DEFAULT_TRUST_DOMAIN = "stream-server.local"

URI_LENGTH_MAX = 2048
"""Bytes; the limit of the SPIFFE standard."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Percent-encoding is not in the pattern on purpose: one name must have one spelling.
_URI = re.compile(rf"spiffe://(?P<domain>{_TRUST_DOMAIN.pattern})(?P<path>(?:/{_SEGMENT.pattern})+)")

UNREADABLE = (
    ValueError,
    TypeError,  # a subject's part in a type that is not for it
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What cryptography raises of a damaged certificate or CRL; of some parts only when they are asked for."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


IDENTITY_PROBLEMS = frozenset(
    {
        "unreadable_certificate",
        "unprintable_subject",
        "authority_certificate",
        "not_for_clients",
        "not_one_uri",
        "bad_uri",
        "foreign_trust_domain",
        "bad_name",
    }
)
"""Every code of an ``IdentityError``."""


class IdentityError(ValueError):
    """This certificate or name cannot stand for a client; the message says why and what to do."""

    def __init__(self, message: str, code: str = "bad_name") -> None:
        super().__init__(message)
        self.code = code
        """One of ``IDENTITY_PROBLEMS``, for logs."""


class Role(StrEnum):
    """The first path segment of the URIs that our own authority issues."""

    SOURCE = "source"
    READER = "reader"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified client is. Compare ``path`` for rights, ``(issuer, serial)`` for revocation."""

    uri: str
    trust_domain: str
    path: str
    """The URI after the trust domain, e.g. ``/source/demo``."""
    serial: int
    fingerprint: bytes
    """SHA-256 of the certificate's DER, 32 bytes."""
    issuer: bytes
    """DER of the issuer's name, equal to ``crl.issuer.public_bytes()`` of the CRL in charge."""
    not_after: datetime
    """UTC-aware; the session must end here."""

    @property
    def name(self) -> str:
        """The last path segment: for the audit log and the screen, not for ordinary logs."""
        return self.path.rpartition("/")[2]

    @property
    def role(self) -> str:
        """The first path segment; the whole path's only segment when there is one."""
        return self.path.split("/")[1]

    @property
    def short(self) -> str:
        """First 8 hex digits of the fingerprint: what ordinary logs say in place of a name."""
        return self.fingerprint[:4].hex()


def check_trust_domain(trust_domain: str) -> str:
    """Return the trust domain unchanged.

    Raises:
        IdentityError: it does not fit ``[a-z0-9._-]{1,255}``.
    """
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise IdentityError(
            "the trust domain must be 1 to 255 characters from a-z 0-9 . _ - (like a host name, in small"
            " letters); choose another one"
        )
    return trust_domain


def check_segment(segment: str, what: str) -> str:
    """Return a role or name unchanged; ``what`` names it in the error.

    Raises:
        IdentityError: it does not fit ``[A-Za-z0-9._-]{1,128}``, or is ``.`` or ``..``.
    """
    if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
        raise IdentityError(
            f"the {what} must be 1 to 128 characters from A-Z a-z 0-9 . _ - and not '.' or '..'"
            " (no spaces, no accents); choose another one"
        )
    return segment


def spiffe_uri(trust_domain: str, role: str, name: str) -> str:
    """Build the URI of a client, e.g. ``spiffe://stream-server.local/source/demo``.

    Raises:
        IdentityError: a part is not allowed; the message names the part.
    """
    check_trust_domain(trust_domain)
    return f"spiffe://{trust_domain}/{check_segment(role, 'role')}/{check_segment(name, 'name')}"


def parse_uri(uri: str) -> tuple[str, str]:
    """Split a client URI into (trust domain, path); the path begins with ``/``.

    Raises:
        IdentityError: the URI breaks the pattern or is longer than ``URI_LENGTH_MAX``.
    """
    match = _URI.fullmatch(uri) if len(uri) <= URI_LENGTH_MAX else None
    if match is None:
        raise IdentityError(
            "the certificate's URI is not of the form spiffe://TRUST-DOMAIN/ROLE/NAME with the characters"
            " A-Z a-z 0-9 . _ - (no percent signs, 2048 characters at most); issue a new client certificate",
            "bad_uri",
        )
    if any(segment in (".", "..") for segment in match["path"].split("/")):
        raise IdentityError(
            "the certificate's URI has '.' or '..' in its path; issue a new client certificate", "bad_uri"
        )
    return match["domain"], match["path"]


def identity_from_der(der: bytes, trust_domain: str | None = DEFAULT_TRUST_DOMAIN) -> Identity:
    """Read the identity out of a client certificate that TLS has already verified.

    Args:
        der: the certificate, as ``ssl_object.getpeercert(binary_form=True)`` gives it.
        trust_domain: the only one accepted; None accepts any (our CA is then the only check).

    Raises:
        IdentityError: the certificate is not a client certificate by our rule.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        subject = [attribute.value for attribute in certificate.subject]
        issuer = certificate.issuer.public_bytes()
    except UNREADABLE as error:
        message = "the client certificate cannot be read; issue a new one"
        raise IdentityError(message, "unreadable_certificate") from error
    _check_printable(subject)
    _check_not_authority(extensions)
    _check_client_purpose(extensions)
    uri = _only_uri(extensions)
    domain, path = parse_uri(uri)
    if trust_domain is not None and domain != trust_domain:
        raise IdentityError(
            f"the certificate belongs to the trust domain '{domain}', but only '{trust_domain}' is accepted;"
            " issue a client certificate from this server's authority, or configure the other trust domain",
            "foreign_trust_domain",
        )
    return Identity(
        uri=uri,
        trust_domain=domain,
        path=path,
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()),
        issuer=issuer,
        not_after=certificate.not_valid_after_utc,
    )


def _check_printable(subject: list[str | bytes]) -> None:
    # A subject is shown by browsers, proxies and terminals that we do not control; an escape sequence or a
    # newline in it can forge their output, so such a certificate is refused although nothing here reads it.
    if not all(isinstance(value, str) and value.isprintable() for value in subject):
        raise IdentityError(
            "the certificate's subject has control characters or bytes; issue a new client certificate",
            "unprintable_subject",
        )


def _check_not_authority(extensions: x509.Extensions) -> None:
    # X509-SVID 5.2: a leaf must not be able to sign certificates or CRLs.
    constraints = _find(extensions, x509.BasicConstraints)
    usage = _find(extensions, x509.KeyUsage)
    if (constraints and constraints.ca) or (usage and (usage.key_cert_sign or usage.crl_sign)):
        raise IdentityError(
            "this is an authority's certificate, which can sign others, not a client's;"
            " connect with a client certificate",
            "authority_certificate",
        )


def _check_client_purpose(extensions: x509.Extensions) -> None:
    # OpenSSL takes a certificate without extended key usage for one of every purpose, so it must be present.
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise IdentityError(
            "the certificate does not say that it is for clients (extended key usage clientAuth);"
            " issue a new client certificate",
            "not_for_clients",
        )


def _only_uri(extensions: x509.Extensions) -> str:
    names = _find(extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:
        raise IdentityError(
            f"the certificate has {len(uris)} URIs in its subject alternative name, but exactly one must name"
            " the client; issue a new client certificate",
            "not_one_uri",
        )
    return uris[0]


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
