"""One WebSocket connection of a stream, as messages and events; a stream may have several in its life.

And how one is opened, for a session that begins and for one that goes on.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import get_args

import msgspec
from websockets.asyncio.client import ClientConnection

from stream_server.client.errors import CONNECT_ERRORS, CaptionError, ConnectFailed, explain_connect
from stream_server.client.send_log import Message
from stream_server.client.tokens import TokenSource
from stream_server.client.websocket import CLOSE_S, open_websocket
from stream_server.dialects import schema

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(schema.ServerText)


class _Envelope(msgspec.Struct):
    """What every event has, also those of a later protocol."""

    type: str
    seq: int
    event: int | None = None


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_KNOWN_TYPES = {event.__struct_config__.tag for event in get_args(schema.ServerText)}


class Link:
    """An open connection. One task may send while another receives."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._seq = 0

    async def send(self, message: Message | schema.ClientText) -> None:
        """Send a message; waits while the server does not read.

        Raises:
            ConnectionClosed: From websockets.
        """
        await self.websocket.send(
            message if isinstance(message, bytes) else _encoder.encode(message).decode()
        )

    async def receive(self) -> tuple[int | None, schema.ServerText | None]:
        """The next event and its durable number, if it has one; None for a type this client does not know.

        Raises:
            ConnectionClosed: From websockets.
            CaptionError: Not an event, or an event is missing before it.
        """
        data = await self.websocket.recv()
        if isinstance(data, bytes):
            raise broken("a binary message")
        try:
            envelope = _envelope_decoder.decode(data)
            event = _decoder.decode(data) if envelope.type in _KNOWN_TYPES else None
        except (msgspec.DecodeError, RecursionError) as exc:
            raise broken(f"a message that is no event of captions.v1: {exc}") from exc
        if envelope.seq != self._seq + 1:
            raise broken(f"event {envelope.seq} came after event {self._seq}, so captions may be missing")
        self._seq = envelope.seq
        return envelope.event, event

    async def error(self, event: schema.ErrorEvent) -> CaptionError:
        """What ends the stream, with the close code that follows; one that never comes is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.websocket.wait_closed()
        except TimeoutError:
            self.websocket.transport.abort()
        close_code = self.websocket.close_code
        return CaptionError(event.code, event.message, *([close_code] if close_code else []))

    async def refusal(self, first: schema.ServerText | None, wanted: str) -> CaptionError:
        """Why a connection is of no use whose first event is not the one wanted; ends it."""
        try:
            if isinstance(first, schema.ErrorEvent):
                return await self.error(first)
            return broken(f"something came before {wanted}")
        finally:
            self.websocket.transport.abort()


@dataclass(frozen=True, slots=True)
class Server:
    """Where a stream's connections go, and what lets them in."""

    url: str
    tls: ssl.SSLContext
    token: str | TokenSource | None
    """In place of a certificate, or what gives one before each connection."""
    open_timeout_s: float
    """For connection, handshakes and the first event together."""

    async def start(self, message: schema.StartMessage) -> tuple[Link, schema.StartedEvent]:
        """Open a connection with a session of its own.

        Raises:
            ConnectFailed: No connection, or the server refused it.
            CaptionError: The server did not accept the message, or broke the protocol.
        """
        link, first = await self._open(self.url, message)
        if not isinstance(first, schema.StartedEvent):
            raise await link.refusal(first, "started")
        return link, first

    async def resume(self, message: schema.ResumeMessage) -> tuple[Link, schema.ResumedEvent]:
        """Open a connection that goes on with a session.

        Raises:
            ConnectFailed: As ``start``.
            CaptionError: As ``start``.
        """
        link, first = await self._open(f"{self.url}?{schema.RESUME_QUERY}", message)
        if not isinstance(first, schema.ResumedEvent):
            raise await link.refusal(first, "resumed")
        return link, first

    async def _open(
        self, url: str, message: schema.StartMessage | schema.ResumeMessage
    ) -> tuple[Link, schema.ServerText | None]:
        """Connect, say the first message, and wait for the first event."""
        if not url.startswith("wss://"):
            raise ConnectFailed(
                f"{url} is no address of a stream: it must begin with wss://, so that speech is private"
            )
        token = await self.token() if callable(self.token) else self.token
        websocket: ClientConnection | None = None
        try:
            async with asyncio.timeout(self.open_timeout_s):
                websocket = await open_websocket(url, self.tls, token)
                link = Link(websocket)
                await link.send(message)
                _, event = await link.receive()
                return link, event
        except BaseException as exc:
            if websocket is not None:
                websocket.transport.abort()
            if isinstance(exc, CONNECT_ERRORS):
                raise explain_connect(exc, url) from exc
            raise


def broken(what: str) -> CaptionError:
    """The error of a server that does not keep to the protocol."""
    return CaptionError("protocol", f"the server broke the protocol: {what}")
