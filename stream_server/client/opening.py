"""How a stream is opened: where it goes, and all that may be asked of it."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from stream_server.client.link import Server
from stream_server.client.reconnect import ConnectionState, Reconnect
from stream_server.client.stream import CaptionStream
from stream_server.client.tokens import TokenSource
from stream_server.dialects import schema

OPEN_S = 10.0
"""For connection, handshakes and the first event together."""
KEEPALIVE_S = 10.0
"""A third of the server's default idle limit."""
_RECONNECT = Reconnect()


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
    tentative: bool = False,
    trace: bool = False,
    room: str | None = None,
    speaker: str | None = None,
    endpointing: schema.EndpointingObject | None = None,
    words: bool = False,
    context: bool | None = None,
    token: str | TokenSource | None = None,
    beam: schema.BeamObject | None = None,
    tier: str = "live",
    revise: bool = False,
    transcript: bool = False,
    open_timeout_s: float = OPEN_S,
    keepalive_s: float = KEEPALIVE_S,
    reconnect: Reconnect | None = _RECONNECT,
    on_connection: Callable[[ConnectionState], None] | None = None,
) -> AsyncIterator[CaptionStream]:
    """Open a stream; leaving the block closes it.

    A lost connection is opened again and the session resumed, where the server offers that: no caption is
    lost or doubled, and audio sent meanwhile is kept. The first connection is not retried.

    Args:
        url: ``wss://HOST:PORT/v1/stream``.
        tls: From ``certs.tls.client_context``; without a certificate where a token stands for one.
        encoding: ``pcm_s16le``, ``pcm_f32le``, ``mulaw`` or ``alaw``.
        sample_rate: Hz, 8,000 to 48,000.
        channels: 1, or 2 interleaved, which the server mixes down.
        language: Such as ``"de"``; None lets the model decide.
        task: ``transcribe``, or ``translate`` into English.
        partials: Whether ``PartialEvent`` is wanted.
        tentative: Whether it shows words, too, that a later one may change.
        trace: Whether partials and finals tell where the time went.
        room: Publish the captions in this room as well.
        speaker: Under this name; None takes the certificate's.
        endpointing: Where utterances end; None leaves it to the server.
        words: Whether finals tell when each word was said; not every model can.
        context: Whether each final is read on from those before; None leaves it to the server.
        token: By which a client without a certificate may stream, at the server's listener for guests; or
            what gives one before each connection. A fixed one is soon over, and then a lost connection
            cannot be resumed.
        beam: Beam search for finals; None decodes greedily.
        tier: ``live``, or ``files`` for a recording that nobody waits for.
        revise: Whether utterances of several segments are read once more as a whole: ``UtteranceEvent``.
        transcript: Whether ``FinishedEvent`` carries the text of the whole stream.
        open_timeout_s: Seconds until the stream must have started, or been resumed.
        keepalive_s: After so many seconds without audio the client shows that it is alive.
        reconnect: How to come back after a lost connection; None ends the stream instead.
        on_connection: Told on the loop when the connection is lost and when the stream goes on.

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
        tentative=tentative,
        trace=trace,
        room=room,
        speaker=speaker,
        endpointing=endpointing,
        words=words,
        context=context,
        beam=beam,
        tier=tier,
        revise=revise,
        transcript=transcript,
    )
    server = Server(url, tls, token, open_timeout_s)
    link, started = await server.start(start)
    try:
        stream = CaptionStream(server, start, link, started, reconnect, on_connection)
    except BaseException:
        link.websocket.transport.abort()
        raise
    async with stream.running(keepalive_s):
        yield stream
