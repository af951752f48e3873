"""A reader of a room: captions of others, across lost connections.

The connection may be lost and come back: the reader asks for what came after the last event it gave, so
that whoever iterates gets every final once. What cannot be had any more is told by ``Gap``.
"""

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, get_args

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from stream_server.client.errors import (
    CONNECT_ERRORS,
    CaptionError,
    ClientError,
    ConnectFailed,
    explain_close,
    explain_connect,
)
from stream_server.client.pacing import Sleep
from stream_server.client.websocket import CLOSE_S, close_websocket, open_websocket
from stream_server.dialects import room_schema

OPEN_S = 10.0
"""For connection, handshakes and ``joined`` together."""
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Before the next attempt, each shortened by up to half at random: many readers lose a server at once."""
COME_BACK = frozenset({1001, 1006, 1011, 1012, 1013})
"""Close codes after which the same request may succeed."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(room_schema.RoomText)


@dataclass(frozen=True, slots=True)
class Gap:
    """Captions between what came before and what follows are lost to this reader."""


_WireEvent = (
    room_schema.JoinedEvent
    | room_schema.SourceJoinedEvent
    | room_schema.SourceLeftEvent
    | room_schema.RoomPartialEvent
    | room_schema.RoomFinalEvent
    | room_schema.RoomUtteranceEvent
)
RoomEvent = _WireEvent | Gap
"""What a room gives, in order."""


class _Type(msgspec.Struct):
    type: str


_type_decoder = msgspec.json.Decoder(_Type)
_KNOWN_TYPES = {struct.__struct_config__.tag for struct in get_args(room_schema.RoomText)}


class RoomReader:
    """Reads one room: ``async with RoomReader(…) as reader: async for event in reader: …``.

    Args:
        url: ``wss://HOST:PORT/v1/rooms/NAME``.
        tls: From ``certs.tls.client_context``.
        recent: At most so many earlier events to begin with; None is all that the server keeps.
        token: Of a guest.
        sleep: As ``asyncio.sleep``.
        jitter: Gives a number from 0 to 1.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext,
        recent: int | None = None,
        token: str | None = None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._tls = tls
        self._recent = recent
        self._token = token
        self._sleep = sleep
        self._jitter = jitter
        self._life: str | None = None
        self._event = 0
        self._n_failed = 0
        self._websocket: ClientConnection | None = None
        self._after_gap: room_schema.JoinedEvent | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RoomEvent:
        """The room's next event; waits for it, and for a lost connection to come back.

        Raises:
            ConnectFailed: The first connection did not come about, or a later one was refused for good.
            CaptionError: The server ended the reading for a reason that another attempt does not mend.
        """
        while True:
            if self._after_gap is not None:
                joined, self._after_gap = self._after_gap, None
                return joined
            try:
                event = await self._receive()
            except ClientError as exc:
                await self._close()
                if not self._may_come_back(exc):
                    raise
                retry_after_s = exc.retry_after_s if isinstance(exc, ConnectFailed) else None
                await self._sleep(max(self._back_off_s(), retry_after_s or 0.0))
                continue
            self._n_failed = 0
            if isinstance(event, room_schema.JoinedEvent) and event.gap:
                self._after_gap = event
                return Gap()
            return event

    def _may_come_back(self, exc: ClientError) -> bool:
        """Whether another connection may do better; the first one must succeed."""
        if self._life is None:
            return False
        if isinstance(exc, ConnectFailed):
            return exc.status is None or exc.retry_after_s is not None
        return isinstance(exc, CaptionError) and exc.close_code in COME_BACK

    def _back_off_s(self) -> float:
        longest_s = BACK_OFF_S[min(self._n_failed, len(BACK_OFF_S) - 1)]
        self._n_failed += 1
        return longest_s * (1 - self._jitter() / 2)

    async def _receive(self) -> _WireEvent:
        """The next event that this client knows, over a connection that is made if there is none."""
        if self._websocket is None:
            self._websocket = await self._open()
        websocket = self._websocket
        try:
            while (event := _decode(await websocket.recv())) is None:
                continue
        except ConnectionClosed as exc:
            raise explain_close(exc) from exc
        if isinstance(event, room_schema.RoomErrorEvent):
            raise await _turned_away(websocket, event)
        self._note(event)
        return event

    async def _close(self) -> None:
        if self._websocket is not None:
            websocket, self._websocket = self._websocket, None
            await close_websocket(websocket)

    def _note(self, event: _WireEvent) -> None:
        """Remember from where to go on."""
        match event:
            case room_schema.JoinedEvent():
                self._life, self._event = event.life, event.first - 1
            case room_schema.RoomDurableStruct():
                if event.event != self._event + 1:
                    raise CaptionError("protocol", f"event {event.event} came after event {self._event}")
                self._event = event.event

    async def _open(self) -> ClientConnection:
        if not self._url.startswith("wss://"):
            raise ConnectFailed(
                f"{self._url} is no address of a room: it looks like wss://HOST:8443/v1/rooms/NAME"
            )
        read = room_schema.ReadMessage(
            life=self._life,
            after=None if self._life is None else self._event,
            recent=self._recent,
            token=self._token,
        )
        try:
            async with asyncio.timeout(OPEN_S):
                websocket = await open_websocket(self._url, self._tls)
                await websocket.send(_encoder.encode(read).decode())
        except CONNECT_ERRORS as exc:
            raise explain_connect(exc, self._url) from exc
        return websocket


def _decode(data: str | bytes) -> room_schema.RoomText | None:
    """Read one message; None for a type that this client does not know.

    Raises:
        CaptionError: Not an event.
    """
    try:
        kind = _type_decoder.decode(data).type
        return _decoder.decode(data) if kind in _KNOWN_TYPES else None
    except (msgspec.DecodeError, RecursionError) as exc:
        raise CaptionError("protocol", f"the server sent what is no event of captions.v1: {exc}") from exc


async def _turned_away(websocket: ClientConnection, event: room_schema.RoomErrorEvent) -> CaptionError:
    """The error, with the close code that follows it."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await websocket.wait_closed()
    except TimeoutError:
        websocket.transport.abort()
    return CaptionError(event.code, event.message, *([websocket.close_code] if websocket.close_code else []))
