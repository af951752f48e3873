"""Say why a TLS handshake was refused: to people on the client's side, to logs and metrics on the server's.

In TLS 1.3 the client's own handshake succeeds before the server has looked at its certificate; the refusal
arrives as an alert at the first read, as an ``ssl.SSLError`` whose ``reason`` names the alert. The alert is
coarser than what the server knows: "not yet valid" arrives as BAD_CERTIFICATE, an expired CRL as
CERTIFICATE_EXPIRED. Both tables were measured with Python 3.11 and OpenSSL 3.0, under asyncio and uvloop.
"""

import ssl
from collections.abc import Iterator

_NEW_CERTIFICATE = "ask the operator for a new client certificate"

_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "The server admits only clients with a certificate and none was sent: give your certificate and key,"
        " or ask the operator for them."
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        f"The server says that your client certificate has expired: {_NEW_CERTIFICATE}"
        " (or, if yours is still valid, to renew the server's revocation list)."
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": (
        "The server says that your client certificate was revoked:"
        f" {_NEW_CERTIFICATE} if you should have access."
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "The server does not know the authority that issued your client certificate: use the certificate made"
        f" for this server, or {_NEW_CERTIFICATE}."
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": (
        "The server could not accept your client certificate; it may not be valid yet:"
        f" check the clocks of both machines, then {_NEW_CERTIFICATE}."
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        "Your certificate is not a client certificate (it may be the server's or the authority's):"
        " give the one that was issued to you as a client."
    ),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": (
        "The server could not accept your client certificate for a reason that it does not tell:"
        f" {_NEW_CERTIFICATE}."
    ),
    "TLSV1_ALERT_ACCESS_DENIED": (
        "The server does not admit the holder of this client certificate: ask the operator for access."
    ),
    "TLSV1_ALERT_DECRYPT_ERROR": (
        "The server could not check the signature made with your private key: give the key that was issued"
        " together with the certificate."
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": (
        "The server speaks only TLS 1.3 and this client offered an older version: update the client program."
    ),
    "WRONG_VERSION_NUMBER": (
        "What answers at this address does not speak TLS: check host and port, and any proxy between."
    ),
}

# X509_V_ERR_* numbers of OpenSSL's x509_vfy.h; Python has no names for them.
_CANNOT_TRUST = frozenset({2, 18, 19, 20, 21})
"""Issuer not found, self-signed leaf, self-signed root, issuer not local, leaf signature not verifiable."""

_SERVER_PROBLEMS = {
    9: "The server's certificate is not valid yet: check this machine's clock, then the server's.",
    10: "The server's certificate has expired: ask the operator to issue a new one.",
    26: "The other side's certificate is not one for servers: check host and port.",
    62: (
        "The server's certificate is for another host name: use a name that it was issued for,"
        " or ask the operator to issue one with the name you use."
    ),
    64: (
        "The server's certificate does not list this IP address: use the server's host name,"
        " or ask the operator to issue one with this address."
    ),
    **dict.fromkeys(
        _CANNOT_TRUST,
        "The server's certificate was not issued by the authority you trust: give the ca.pem that belongs to"
        " this server, and check that you reached the right one.",
    ),
}

_VERIFY_TOKENS = {
    **dict.fromkeys(_CANNOT_TRUST, "unknown_ca"),
    3: "crl_missing",  # also when the CRL is signed by another key than the authority's
    7: "bad_signature",
    8: "crl_invalid",
    9: "not_yet_valid",
    10: "expired",
    11: "crl_invalid",  # dated in the future
    12: "crl_expired",
    23: "revoked",
    25: "bad_chain",  # an authority below ours, which ours does not allow
    26: "wrong_purpose",
    34: "unknown_extension",  # and critical
    79: "bad_chain",  # signed by a certificate that is no authority's
    82: "wrong_purpose",  # may sign others, but is no authority's
}

_REASON_TOKENS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "BAD_SIGNATURE": "bad_signature",
    "UNSUPPORTED_PROTOCOL": "old_tls",
    "VERSION_TOO_LOW": "old_tls",
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "UNEXPECTED_EOF_WHILE_READING": "reset",
    # Alerts sent by the client: it did not accept our certificate.
    "TLSV1_ALERT_UNKNOWN_CA": "server_not_trusted",
    "SSLV3_ALERT_BAD_CERTIFICATE": "server_not_trusted",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "server_not_trusted",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "server_not_trusted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "server_not_trusted",
}

REFUSAL_REASONS = frozenset(
    {*_VERIFY_TOKENS.values(), *_REASON_TOKENS.values(), "reset", "timeout", "other"},
)
"""Every token that ``refusal_reason`` returns: a closed set, so it may label a metric."""


def explain_refusal(exc: BaseException) -> str | None:
    """Why the connection of a client was refused, and what to do, in one sentence.

    Looks through causes and contexts, because WebSocket and HTTP libraries wrap the TLS error.

    Returns:
        None if nothing in the chain is a refusal. A bare end of file is none: it may be a crash as well.
    """
    for error in _chain(exc):
        if isinstance(error, ssl.SSLCertVerificationError):
            return _SERVER_PROBLEMS.get(
                error.verify_code,
                f"The server's certificate cannot be accepted (verification error {error.verify_code}):"
                " ask the operator to check it.",
            )
        if isinstance(error, ssl.SSLError) and error.reason in _ALERTS:
            return _ALERTS[error.reason]
    return None


def refusal_reason(exc: BaseException) -> str:
    """Why the server's handshake failed, as a token of ``REFUSAL_REASONS`` for logs and metrics."""
    tokens = (_token(error) for error in _chain(exc))
    return next((token for token in tokens if token is not None), "other")


def _token(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_TOKENS.get(error.verify_code)
    if isinstance(error, ssl.SSLError):
        return _REASON_TOKENS.get(error.reason)
    # Both loops end a handshake that takes too long with a ConnectionAbortedError that has no errno; the one
    # of the operating system has.
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectionAbortedError) and error.errno is None):
        return "timeout"
    return "reset" if isinstance(error, ConnectionError | EOFError) else None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception, then what caused it, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [exc]
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [error.__context__, error.__cause__]
