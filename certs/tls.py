"""Build the TLS contexts of server and client, and put refusals into words.

Contexts are built new and swapped, never edited: a failing ``load_cert_chain`` on a context in use breaks all
later handshakes. TLS 1.3 only, because below it a client's certificate travels in the clear.

Raises ``TlsConfigError`` for what the operator can mend, before the server listens: OpenSSL would accept an
expired or missing CRL silently and then refuse every client.
"""

import contextlib
import ssl
from datetime import datetime
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from certs.identity import UNREADABLE
from certs.refusal import explain_refusal, refusal_reason
from certs.store import COMMAND, utc_now

_SERVER_ADVICE = f"issue certificate and key with `{COMMAND} server NAME`"
_CLIENT_ADVICE = "ask the operator of the server for the file"
_ALERT = "stream_server_alert"  # the attribute of an SSLError that carries the alert

__all__ = [
    "TlsConfigError",
    "client_context",
    "crl_expiry",
    "explain_refusal",
    "guest_context",
    "refusal_alert",
    "refusal_reason",
    "server_context",
    "try_handshake",
]


class _AlertKeepingObject(ssl.SSLObject):
    """Attaches the alert to the error of a failed handshake; see ``refusal_alert``."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            setattr(error, _ALERT, self.outgoing.read())
            raise


class _AlertKeepingContext(ssl.SSLContext):
    sslobject_class = _AlertKeepingObject

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(wrapped, _AlertKeepingObject)
        wrapped.outgoing = outgoing
        return wrapped


class TlsConfigError(RuntimeError):
    """A certificate, key or CRL cannot be used; the message names the file and the next command."""


def server_context(
    cert: Path, key: Path, client_ca: Path, crl: Path, *, now: datetime | None = None
) -> ssl.SSLContext:
    """Build a context that admits only clients of one authority that are not revoked.

    Args:
        cert: the server's certificate, PEM.
        key: its private key, PEM, not encrypted.
        client_ca: the one authority whose clients are admitted, PEM.
        crl: its revocation list, PEM; must be in force, see ``crl_expiry``.
        now: UTC-aware; the wall clock if None.

    Raises:
        TlsConfigError: a file is missing, broken, expired or does not belong to the others.
    """
    now = now or utc_now()
    authority = _only_certificate(client_ca)
    context = guest_context(cert, key, now=now)
    _check_in_force(authority, client_ca, now, f"make a new one with `{COMMAND} init --force`")
    _check_crl(crl, authority, now)
    context.verify_mode = ssl.CERT_REQUIRED
    for path in (client_ca, crl):
        try:
            # cafile, because cadata takes no CRL (python/cpython#149679).
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise TlsConfigError(f"{path} cannot be used ({error.reason}); put a good copy there") from error
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
    return context


def guest_context(cert: Path, key: Path, *, now: datetime | None = None) -> ssl.SSLContext:
    """Build a context that admits anybody, for a listener whose clients have no certificate.

    Args:
        cert: the server's certificate, PEM.
        key: its private key, PEM, not encrypted.
        now: UTC-aware; the wall clock if None.

    Raises:
        TlsConfigError: a file is missing, broken, expired or does not belong to the other.
    """
    leaf = _certificates(cert, _SERVER_ADVICE)[0]
    _check_in_force(leaf, cert, now or utc_now(), f"issue a new one with `{COMMAND} server NAME --force`")
    # Not create_default_context: it would add the system's authorities, and its settings change with Python.
    context = _AlertKeepingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    _load_pair(context, cert, key, _SERVER_ADVICE)
    # A resumed session skips the check of certificate and CRL, so a revoked client would still get in.
    # OP_NO_TICKET does not prevent it in TLS 1.3; sending no tickets does.
    context.num_tickets = 0
    return context


def try_handshake(context: ssl.SSLContext) -> None:
    """Let a context greet a client in memory, as far as it gets without a client's certificate.

    Raises:
        TlsConfigError: It would fail for every client.
    """
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    probe.check_hostname = False
    probe.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = probe.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        # Greeting; the server's certificate and proof that the key is its own; the client's answer.
        for end in (client, server, client):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError as error:
        raise TlsConfigError(f"certificate and key fail in a handshake ({error.reason})") from error
    if client.version() != "TLSv1.3":
        raise TlsConfigError("certificate and key do not complete a handshake")


def client_context(ca: Path, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Build a context that trusts one authority and checks the server's name.

    Args:
        ca: the server's authority, PEM; the system's authorities are not trusted.
        cert: the client's certificate, PEM.
        key: its private key, PEM, not encrypted; given exactly when ``cert`` is.

    Raises:
        TlsConfigError: a file is missing, broken or does not belong to the others.
    """
    if (cert is None) != (key is None):
        raise TlsConfigError("a client certificate needs its private key too: give both files, or neither")
    _certificates(ca, _CLIENT_ADVICE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if cert is not None and key is not None:
        _certificates(cert, _CLIENT_ADVICE)
        _load_pair(context, cert, key, _CLIENT_ADVICE)
    return context


def refusal_alert(exc: BaseException) -> bytes:
    """The TLS record that tells a refused client why, or nothing if there is none.

    OpenSSL writes it when a handshake with ``server_context`` fails, but asyncio and uvloop close the
    connection without sending it: the client sees a bare end of file and can only guess. So keep a duplicate
    (``socket.dup``) of the accepted socket, and when ``connect_accepted_socket`` raises, send this through it
    (24 bytes, so it does not block; an ``OSError`` means that the client is gone), then close it.
    """
    return getattr(exc, _ALERT, b"")


def crl_expiry(path: Path) -> datetime:
    """When the CRL expires, UTC-aware; from then on every client is refused.

    Raises:
        TlsConfigError: the file is missing, is no CRL, or names no expiry date.
    """
    expiry = _crl(path).next_update_utc
    if expiry is None:
        raise TlsConfigError(f"{path} names no expiry date; write a new one with `{COMMAND} crl`")
    return expiry


def _check_crl(path: Path, authority: x509.Certificate, now: datetime) -> None:
    crl, expiry = _crl(path), crl_expiry(path)
    advice = f"write a new one with `{COMMAND} crl`"
    if expiry <= now:
        raise TlsConfigError(
            f"{path} expired on {expiry:%Y-%m-%d %H:%M} UTC, so every client would be refused; {advice}"
        )
    if crl.last_update_utc > now:
        raise TlsConfigError(
            f"{path} is dated {crl.last_update_utc:%Y-%m-%d %H:%M} UTC, in the future, so every client would"
            " be refused; check the clocks of this machine and of the authority's"
        )
    if crl.issuer != authority.subject or not _has_signed(authority, crl):
        raise TlsConfigError(
            f"{path} was not signed by the authority of these clients, so all would be refused; {advice}"
        )


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        # An authority has a key that can sign; cryptography's type also covers keys that cannot.
        return crl.is_signature_valid(cast(CertificateIssuerPublicKeyTypes, authority.public_key()))
    except UNREADABLE:
        return False


def _check_in_force(certificate: x509.Certificate, path: Path, now: datetime, advice: str) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        raise TlsConfigError(f"{path} expired on {end:%Y-%m-%d %H:%M} UTC; {advice}")
    if begin > now:
        raise TlsConfigError(
            f"{path} is valid only from {begin:%Y-%m-%d %H:%M} UTC; check this machine's clock"
        )


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path, advice: str) -> None:
    _read(key, "private key", advice)
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsConfigError(
                f"{key} is not the private key of {cert}; give the two files that were issued together"
            ) from error
        raise TlsConfigError(f"{cert} and {key} cannot be used ({error.reason}); {advice}") from error


def _no_passphrase() -> str:
    # Without a callback OpenSSL would ask on the terminal and block the service for ever.
    raise TlsConfigError("the private key is encrypted with a passphrase; give an unencrypted one, mode 0600")


def _only_certificate(path: Path) -> x509.Certificate:
    certificates = _certificates(path, f"make the authority with `{COMMAND} init`")
    # Clients of a second one would be admitted too, or refused for want of its CRL: neither is meant.
    if len(certificates) != 1:
        raise TlsConfigError(f"{path} holds {len(certificates)} certificates; give exactly one authority")
    return certificates[0]


def _certificates(path: Path, advice: str) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(_read(path, "certificate", advice))
        for certificate in certificates:
            _ = certificate.subject, certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return certificates
    except UNREADABLE as error:
        raise TlsConfigError(f"{path} is not a certificate in PEM form; {advice}") from error


def _crl(path: Path) -> x509.CertificateRevocationList:
    advice = f"write it with `{COMMAND} crl`; without it every client would be refused"
    try:
        crl = x509.load_pem_x509_crl(_read(path, "revocation list", advice))
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc
        return crl
    except UNREADABLE as error:
        raise TlsConfigError(f"{path} is not a revocation list (CRL) in PEM form; {advice}") from error


def _read(path: Path, what: str, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TlsConfigError(f"the {what} {path} is missing; {advice}") from error
    except OSError as error:
        raise TlsConfigError(f"the {what} {path} cannot be read ({error.strerror}); {advice}") from error
