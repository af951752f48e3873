"""The client's WebSocket: how it is opened and closed, and what it is not allowed to do."""

import asyncio
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import HeadersLike
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from stream_server.dialects.schema import SUBPROTOCOL

CLOSE_S = 2.0
"""A server that has stopped reading, because decoding is behind, cannot answer a close frame."""
MESSAGE_BYTES_MAX = 1024 * 1024
"""Of what the server sends; its events are far smaller."""


class _Connection(ClientConnection):
    """Keeps the TLS alert that ended a handshake.

    In TLS 1.3 a client whose certificate is refused learns of it at its first read, which is the one
    that waits for the HTTP response. websockets then reports a missing response, and leaves the alert
    in ``connection_exc``, where only the connection sees it.
    """

    async def handshake(
        self, additional_headers: HeadersLike | None = None, user_agent_header: str | None = None
    ) -> None:
        """Do the opening handshake; a failure's cause is what ended the connection."""
        try:
            await super().handshake(additional_headers, user_agent_header)
        except InvalidHandshake as exc:
            if self.connection_exc is None:
                raise
            raise exc from self.connection_exc


async def open_websocket(url: str, tls: ssl.SSLContext, token: str | None = None) -> ClientConnection:
    """Connect and upgrade; the caller limits the time and knows the errors, ``CONNECT_ERRORS``."""
    return await connect(
        url,
        ssl=tls,
        # In a header, never in the address, which logs keep.
        additional_headers=None if token is None else {"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        create_connection=_Connection,
        # A proxy from the environment would see where speech goes.
        proxy=None,
        # Audio does not compress, and compressed secrets can leak by their length.
        compression=None,
        max_size=MESSAGE_BYTES_MAX,
        # A server that has stopped reading, because decoding is behind, answers no ping: a limit on
        # the answer would cut exactly the streams that only have to wait. Our own keepalive messages
        # keep the connection open.
        ping_interval=None,
        ping_timeout=None,
        close_timeout=CLOSE_S,
        open_timeout=None,
    )


async def close_websocket(websocket: ClientConnection) -> None:
    """Say goodbye, or go without when the server does not answer."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await websocket.close()
    except TimeoutError:
        # The close frame waits behind audio that the server does not read.
        websocket.transport.abort()
