"""Tokens for senders that cannot hold a certificate: how one is asked for, and shown.

Whoever has a certificate with the right to mint asks; see "Writer tokens" in docs/protocol.md.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlencode, urlsplit

import msgspec

from stream_server.client.errors import ConnectFailed, explain_connect, refusal

ASK_S = 10.0
ANSWER_BYTES_MAX = 65_536
TOKENS_PATH = "/v1/tokens"

TokenSource = Callable[[], Awaitable[str]]
"""Gives a token that is good now, or raises ``ConnectFailed``; asked before each connection of a stream."""


class MintedToken(msgspec.Struct, frozen=True):
    """A token, and what it is good for."""

    token: str
    """To be kept like a password for as long as it lasts."""
    id: str
    """Names it in the server's audit log."""
    expires_in_seconds: int
    room: str | None
    network: str
    name: str | None


async def mint_token(
    url: str,
    *,
    tls: ssl.SSLContext,
    room: str | None = None,
    network: str | None = None,
    name: str | None = None,
    seconds: int | None = None,
    timeout_s: float = ASK_S,
) -> MintedToken:
    """Have a token made.

    Args:
        url: The server, ``https://HOST:8443``; what follows the host is not used.
        tls: From ``certs.tls.client_context``, with a certificate that may mint.
        room: The one room in which its streams publish; None: they publish nowhere.
        network: From where it may be used, in CIDR notation; None is this machine's own address.
        name: Of whoever will use it, for the room's readers and the audit log.
        seconds: How long connections can be opened with it, 10 to 900; None is 900.
        timeout_s: For connection and answer.

    Raises:
        ConnectFailed: No connection, or the server refused; ``status`` and ``code`` say which.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "wss") or parts.hostname is None:
        raise ConnectFailed(f"{url} is no address of a server: it looks like https://HOST:8443")
    wanted = {"room": room, "network": network, "name": name, "seconds": seconds}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    try:
        connection = HTTPSConnection(parts.hostname, parts.port or 443, context=tls, timeout=timeout_s)
        status, retry_after, body = await asyncio.to_thread(_post, connection, f"{TOKENS_PATH}?{query}")
    except (OSError, HTTPException) as exc:
        reason = exc if isinstance(exc, OSError) else EOFError()
        raise explain_connect(reason, url) from exc
    if status != 200:
        raise refusal("made no token", status, retry_after, body)
    try:
        return msgspec.json.decode(body, type=MintedToken)
    except msgspec.DecodeError as exc:
        raise ConnectFailed(f"{parts.netloc} answered with something else than a token") from exc


def _post(connection: HTTPSConnection, path: str) -> tuple[int, str | None, bytes]:
    try:
        connection.request("POST", path, headers={"Content-Length": "0"})
        response = connection.getresponse()
        return response.status, response.headers["Retry-After"], response.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
