"""One stream: a WebSocket over mutual TLS that takes audio and gives captions.

What goes over the wire is the schema's business, and how the connection is made ``websocket``'s; this
module keeps the stream's rules: message size, order of events, ends, and errors.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import get_args

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from stream_server.client.errors import (
    CONNECT_ERRORS,
    CaptionError,
    ConnectFailed,
    explain_close,
    explain_connect,
)
from stream_server.client.pacing import iterate, keep_alive
from stream_server.client.websocket import CLOSE_S, close_websocket, open_websocket
from stream_server.dialects import schema

Event = (
    schema.SpeechStartedEvent
    | schema.PartialEvent
    | schema.FinalEvent
    | schema.FlushedEvent
    | schema.LagEvent
    | schema.FinishedEvent
    | schema.AckEvent
    | schema.WarningEvent
)
"""What a stream gives, in order."""

OPEN_S = 10.0
"""For connection, handshakes and ``started`` together."""
KEEPALIVE_S = 10.0
"""A third of the server's default idle limit."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(schema.ServerText)


class _Envelope(msgspec.Struct):
    """What every event has, also those of a later protocol."""

    type: str
    seq: int


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_KNOWN_TYPES = {event.__struct_config__.tag for event in get_args(schema.ServerText)}


@asynccontextmanager
async def connect(
    url: str,
    *,
    tls: ssl.SSLContext,
    encoding: str = "pcm_s16le",
    sample_rate: int = 16_000,
    channels: int = 1,
    language: str | None = None,
    task: str = "transcribe",
    partials: bool = True,
    room: str | None = None,
    speaker: str | None = None,
    trace: bool = False,
    open_timeout_s: float = OPEN_S,
    keepalive_s: float = KEEPALIVE_S,
) -> AsyncIterator["CaptionStream"]:
    """Open a stream; leaving the block closes it.

    Args:
        url: ``wss://HOST:PORT/v1/stream``.
        tls: From ``certs.tls.client_context``.
        encoding: ``pcm_s16le``, ``pcm_f32le``, ``mulaw`` or ``alaw``.
        sample_rate: Hz, 8,000 to 48,000.
        channels: 1, or 2 interleaved, which the server mixes down.
        language: Such as ``"de"``; None lets the model decide.
        task: ``transcribe``, or ``translate`` into English.
        partials: Whether ``PartialEvent`` is wanted.
        room: Publish the captions in this room as well.
        speaker: Under this name; None takes the certificate's.
        trace: Whether partials and finals tell where the time went.
        open_timeout_s: Seconds until the stream must have started.
        keepalive_s: After so many seconds without audio the client shows that it is alive.

    Raises:
        ConnectFailed: No connection, or the server refused it.
        CaptionError: The server did not accept the audio format or the options.
    """
    start = schema.StartMessage(
        encoding=encoding,
        sample_rate=sample_rate,
        channels=channels,
        language=language,
        task=task,
        partials=partials,
        room=room,
        speaker=speaker,
        trace=trace,
    )
    websocket, stream = await _open(url, tls, start, open_timeout_s)
    alive = asyncio.create_task(_stay_alive(stream, keepalive_s))
    try:
        yield stream
    finally:
        alive.cancel()
        await asyncio.wait([alive])
        await close_websocket(websocket)


async def _open(
    url: str, tls: ssl.SSLContext, start: schema.StartMessage, timeout_s: float
) -> tuple[ClientConnection, "CaptionStream"]:
    if not url.startswith("wss://"):
        raise ConnectFailed(
            f"{url} is no address of a stream: it must begin with wss://, so that speech is private"
        )
    websocket: ClientConnection | None = None
    try:
        async with asyncio.timeout(timeout_s):
            websocket = await open_websocket(url, tls)
            return websocket, await CaptionStream._start(websocket, start)
    except BaseException as exc:
        if websocket is not None:
            websocket.transport.abort()
        if isinstance(exc, CONNECT_ERRORS):
            raise explain_connect(exc, url) from exc
        raise


async def _stay_alive(stream: "CaptionStream", interval_s: float) -> None:
    try:
        await keep_alive(stream.keepalive, lambda: stream._sent_s, interval_s)
    except CaptionError:
        return  # The connection is gone; whoever reads or sends next learns why.


class CaptionStream:
    """A started stream, from ``connect``. One task may send while another iterates.

    Iterating gives the events and ends after ``FinishedEvent``. Read while sending: a server whose
    events are left unread ends the stream with ``slow_reader``.
    """

    started: schema.StartedEvent
    """The server's answer: session, model, limits."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._seq: int | None = None
        self._unread: deque[Event | CaptionError] = deque()
        self._reads = False
        self._failure: CaptionError | None = None
        self._is_finished = False
        self._sent_s = time.monotonic()

    @classmethod
    async def _start(cls, websocket: ClientConnection, start: schema.StartMessage) -> "CaptionStream":
        stream = cls(websocket)
        await stream._send(_encoder.encode(start).decode())
        first = await stream._receive()
        if not isinstance(first, schema.StartedEvent):
            raise first if isinstance(first, CaptionError) else _broken("something came before started")
        stream.started = first
        return stream

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Send audio of any size, also parts of samples; waits while the server does not read.

        Raises:
            CaptionError: The stream has ended; its code and message are the server's when it gave any.
        """
        view = memoryview(audio).cast("B")
        limit = self.started.limits.message_bytes
        for begin in range(0, len(view), limit):
            await self._send(bytes(view[begin : begin + limit]))

    async def flush(self) -> None:
        """Ask for finals of all audio sent so far; ``FlushedEvent`` follows them.

        Raises:
            CaptionError: As for ``send``.
        """
        await self._send_message(schema.FlushMessage())

    async def finish(self) -> None:
        """Say that no more audio comes; the last finals and ``FinishedEvent`` follow.

        Raises:
            CaptionError: As for ``send``.
        """
        await self._send_message(schema.FinishMessage())

    async def keepalive(self) -> None:
        """Tell the server that this client is still there; ``connect`` sees to it by itself.

        Raises:
            CaptionError: As for ``send``.
        """
        await self._send_message(schema.KeepAliveMessage())

    async def _send_message(self, message: schema.ClientText) -> None:
        await self._send(_encoder.encode(message).decode())

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._websocket.send(message)
        except ConnectionClosed as exc:
            raise await self._reason(exc) from exc
        self._sent_s = time.monotonic()

    async def _reason(self, exc: ConnectionClosed) -> CaptionError:
        """Find why the connection is closed: the ``error`` event may wait behind unread captions."""
        if self._is_finished:
            return CaptionError("finished", "the stream is finished and takes nothing more", 1000)
        while self._failure is None and not self._reads:
            item = await self._receive()
            self._unread.append(item if not isinstance(item, schema.StartedEvent) else _second_start())
        return self._failure or explain_close(exc)

    def __aiter__(self) -> "CaptionStream":
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            CaptionError: The server ended the stream with an error, or the connection was lost.
        """
        if self._unread:
            item: Event | CaptionError | schema.StartedEvent = self._unread.popleft()
        elif self._is_finished:
            raise StopAsyncIteration
        else:
            item = await self._receive()
        if isinstance(item, schema.StartedEvent):
            raise _second_start()
        if isinstance(item, CaptionError):
            raise item
        return item

    async def _receive(self) -> Event | schema.StartedEvent | CaptionError:
        """The next event that this client knows; an error is returned, so that it can wait its turn."""
        if self._failure is not None:
            return self._failure
        self._reads = True
        try:
            while (event := self._decode(await self._websocket.recv())) is None:
                continue
        except ConnectionClosed as exc:
            self._failure = explain_close(exc)
            return self._failure
        except CaptionError as exc:
            self._failure = exc
            return exc
        finally:
            self._reads = False
        match event:
            case schema.ErrorEvent():
                self._failure = await self._with_close_code(event)
                return self._failure
            case schema.FinishedEvent():
                self._is_finished = True
        return event

    def _decode(self, data: str | bytes) -> schema.ServerText | None:
        """Read one message; None for a type this client does not know.

        Raises:
            CaptionError: Not an event, or an event is missing before it.
        """
        if isinstance(data, bytes):
            raise _broken("a binary message")
        try:
            envelope = _envelope_decoder.decode(data)
            event = _decoder.decode(data) if envelope.type in _KNOWN_TYPES else None
        except msgspec.DecodeError as exc:
            raise _broken(f"a message that is no event of captions.v1: {exc}") from exc
        if self._seq is not None and envelope.seq != self._seq + 1:
            raise _broken(f"event {envelope.seq} came after event {self._seq}, so captions may be missing")
        self._seq = envelope.seq
        return event

    async def _with_close_code(self, event: schema.ErrorEvent) -> CaptionError:
        """The close frame follows the event; a server that never sends it is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.wait_closed()
        except TimeoutError:
            self._websocket.transport.abort()
        close_code = self._websocket.close_code
        return CaptionError(event.code, event.message, *([close_code] if close_code else []))

    def abort(self) -> None:
        """Drop the connection at once, without ``finish``; the server gives up what it has not decoded."""
        self._websocket.transport.abort()


def _broken(what: str) -> CaptionError:
    return CaptionError("protocol", f"the server broke the protocol: {what}")


def _second_start() -> CaptionError:
    return _broken("started came twice")


async def transcribe(
    stream: CaptionStream, chunks: Iterable[bytes] | AsyncIterable[bytes]
) -> AsyncIterator[Event]:
    """Send all chunks, then ``finish``, in a task of its own, and yield the events meanwhile.

    Args:
        stream: Open and without audio so far.
        chunks: Audio in pieces of any size; a plain iterator must not block.

    Raises:
        CaptionError: The stream ended badly.
        Exception: Whatever ``chunks`` raises, as it is.
    """
    # No TaskGroup: around a yield it would cancel the task of whoever iterates.
    sender = asyncio.create_task(_send_all(stream, chunks))
    try:
        async for event in stream:
            yield event
    except CaptionError:
        _raise_failure(sender)
        raise
    finally:
        sender.cancel()
        await asyncio.wait([sender])


async def _send_all(stream: CaptionStream, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
    try:
        async for chunk in iterate(chunks):
            await stream.send(chunk)
        await stream.finish()
    except CaptionError:
        return  # The reader meets the same end, with the server's last events before it.
    except Exception:
        stream.abort()  # Wakes the reader, who passes the exception on.
        raise


def _raise_failure(sender: asyncio.Task[None]) -> None:
    """Raise what the source of the audio raised, if that is why the stream ended."""
    if sender.done() and not sender.cancelled() and (failure := sender.exception()) is not None:
        raise failure
