"""What a client can meet, as sentences for a person: no connection, or a stream that ended badly."""

import os
import re
import socket
import ssl
from urllib.parse import urlsplit

import msgspec
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from certs.tls import explain_refusal
from stream_server.errors import StreamServerError

ABNORMAL_CLOSURE = 1006
"""RFC 6455 section 7.4.1: what a missing close frame is reported as."""
_RETRY_AFTER = re.compile(r"[0-9]{1,5}")


class ClientError(StreamServerError):
    """Everything the client raises on purpose; the message says what to do."""


class ConnectFailed(ClientError):
    """Raised when there is no stream: nobody answers, TLS refuses, or the server turns us away.

    Attributes:
        status: HTTP status of a server that answered and refused, else None.
        code: The server's short name for why, such as ``not_allowed`` or ``overloaded``, else None.
        retry_after_s: Seconds after which the server invites another try, else None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class CaptionError(ClientError):
    """Raised when a stream ends otherwise than by ``finished``.

    Attributes:
        code: Of the server's ``error`` event; ``connection_lost`` when the connection ended without
            one; ``protocol`` when the server said what the protocol does not allow.
        message: For a person.
        close_code: WebSocket close code, 1006 when none came.
    """

    def __init__(self, code: str, message: str, close_code: int = ABNORMAL_CLOSURE) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.close_code = close_code


class _RefusalBody(msgspec.Struct):
    """Body of an HTTP refusal."""

    code: str
    message: str


CONNECT_ERRORS = (OSError, EOFError, WebSocketException)
"""What opening a connection raises; ``explain_connect`` knows each."""


def explain_connect(exc: Exception, url: str) -> ConnectFailed:
    """Put why there is no connection into a sentence.

    Args:
        exc: One of ``CONNECT_ERRORS``.
        url: Where the connection should have gone.
    """
    if isinstance(exc, InvalidStatus):
        return _http_refusal(exc)
    if isinstance(exc, InvalidURI):
        return ConnectFailed(f"{url} is not an address of a stream; it looks like wss://HOST:8443/v1/stream")
    where = urlsplit(url).netloc
    if (tls := explain_refusal(exc)) is not None:
        return ConnectFailed(f"{where}: {tls}")
    return ConnectFailed(_network_sentence(exc, where))


def _network_sentence(exc: Exception, where: str) -> str:
    match exc:
        case TimeoutError():
            return f"{where} did not answer in time; check the address and that no firewall is in between"
        case socket.gaierror():
            return f"the name in {where} is not known to this machine ({exc.strerror}); check the spelling"
        case ssl.SSLError():
            return f"{where} does not speak our TLS ({exc.reason or exc}); check that it is a stream-server"
        case OSError():
            return f"nothing answers at {where} ({_reason(exc)}); check the address and that the server runs"
        case InvalidMessage(__cause__=EOFError() | OSError()) | ConnectionClosed() | EOFError():
            return (
                f"{where} closed the connection before the stream began: it may not admit your certificate"
                " or be too busy; its log says why"
            )
        case _:
            return f"{where} answered with something else than a caption stream ({exc}); check host and port"


def _reason(exc: OSError) -> str:
    # asyncio's own text for errno 111 repeats the address.
    return os.strerror(exc.errno) if exc.errno else str(exc)


def _http_refusal(exc: InvalidStatus) -> ConnectFailed:
    response = exc.response
    retry_after = response.headers.get_all("Retry-After")
    only = retry_after[0] if len(retry_after) == 1 else None
    return refusal("refused the stream", response.status_code, only, bytes(response.body or b""))


def refusal(what: str, status: int, retry_after: str | None, content: bytes) -> ConnectFailed:
    """Put an HTTP answer of the server's into a sentence.

    Args:
        what: What the server did, after "the server".
        status: HTTP's.
        retry_after: The header, if there is one.
        content: The body.
    """
    retry_after_s = _seconds(retry_after)
    try:
        body = msgspec.json.decode(content, type=_RefusalBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Something between us and the server, or no stream-server at all: the status is all we know.
        body = None
    message = f"the server {what}: {body.message if body else f'HTTP {status}'}"
    if retry_after_s is not None:
        message += f"; try again in {retry_after_s:g} s"
    code = body.code if body else None
    return ConnectFailed(message, status=status, code=code, retry_after_s=retry_after_s)


def _seconds(header: str | None) -> float | None:
    """Read ``Retry-After`` in its form of a number; the form of a date is not used by our server."""
    found = _RETRY_AFTER.fullmatch(header or "")
    return None if found is None else float(found[0])


def explain_close(exc: ConnectionClosed) -> CaptionError:
    """The error of a connection that ended without an ``error`` event."""
    close_code = exc.rcvd.code if exc.rcvd else ABNORMAL_CLOSURE
    said = f", saying: {exc.rcvd.reason}" if exc.rcvd and exc.rcvd.reason else ""
    tls = explain_refusal(exc)
    message = (tls and tls.rstrip(".")) or (
        f"the server closed the connection before the stream was finished{said}"
        if exc.rcvd
        else "the connection was lost before the stream was finished; check the network and the server"
    )
    return CaptionError("connection_lost", message, close_code)
