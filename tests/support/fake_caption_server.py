"""A caption server that says what a test tells it to: real TLS, real WebSocket, no audio, no model.

    async with fake_server(pki, script) as fake:
        async with connect(fake.url, tls=fake.tls) as stream: ...

A script is a coroutine function that is given one `FakeSession` for each connection, after `start`
was answered by `started`. What it reads and says is the schema's; when it returns, the connection is
closed with 1000.
"""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from pki import ClientPair, Pki
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from certs.tls import client_context, server_context

LIMITS = {"message_bytes": 65_536, "idle_seconds": 30.0, "ahead_seconds": 10.0, "resume_seconds": 0.0}


@dataclass(slots=True)
class FakeSession:
    """One connection, seen from the server."""

    websocket: ServerConnection
    start: dict[str, Any] = field(default_factory=dict)
    audio: bytearray = field(default_factory=bytearray)
    n_messages: int = 0
    """Binary ones."""
    longest: int = 0
    """Bytes of the longest binary message."""
    seq: int = 0
    event: int = 0

    async def say(self, kind: str, /, *, durable: bool = True, **fields: object) -> None:
        """Send an event, numbered as the protocol wants it."""
        self.seq += 1
        message: dict[str, object] = {"type": kind, "seq": self.seq, **fields}
        if durable:
            self.event += 1
            message["event"] = self.event
        await self.websocket.send(json.dumps(message))

    async def started(self) -> None:
        """Read `start` and answer it."""
        self.start = json.loads(await self.websocket.recv())
        await self.say("started", session="5e55", model="fake-en", limits=LIMITS, features=[])

    async def text(self) -> str:
        """The type of the next text message; audio before it is kept in `audio`."""
        while isinstance(message := await self.websocket.recv(), bytes):
            self.audio += message
            self.n_messages += 1
            self.longest = max(self.longest, len(message))
        kind: str = json.loads(message)["type"]
        return kind

    async def partial(self, segment: int, start: float, end: float, text: str, stable: int = 0) -> None:
        """Send a partial."""
        fields: Mapping[str, object] = {"segment": segment, "start": start, "end": end, "text": text}
        await self.say("partial", durable=False, revision=1, stable=stable, **fields)

    async def final(self, segment: int, start: float, end: float, text: str) -> None:
        """Send a final."""
        fields: Mapping[str, object] = {"segment": segment, "start": start, "end": end, "text": text}
        await self.say("final", language="en", words=None, utterance_end=True, **fields)

    async def finished(self, segments: int = 0) -> None:
        """Send the last event of a good stream."""
        await self.say("finished", audio_seconds=len(self.audio) / 32_000, segments=segments)

    async def fail(self, code: str, message: str, close_code: int) -> None:
        """Send an error and close."""
        await self.say("error", code=code, message=message)
        await self.websocket.close(close_code)


Script = Callable[[FakeSession], Awaitable[None]]
Gate = Callable[[ServerConnection, Request], Response | None]


@dataclass(frozen=True, slots=True)
class FakeServer:
    """Where it is, how to reach it, and what it saw."""

    url: str
    port: int
    pki: Pki
    client: ClientPair
    sessions: list[FakeSession]

    @property
    def tls(self) -> ssl.SSLContext:
        """Context of a client that is admitted."""
        return client_context(self.pki.ca, self.client.cert, self.client.key)


@asynccontextmanager
async def fake_server(
    pki: Pki, client: ClientPair, script: Script, *, gate: Gate | None = None, greet: bool = True
) -> AsyncIterator[FakeServer]:
    """Serve until the block is left.

    Args:
        pki: The server's certificates.
        client: An admitted client, for `FakeServer.tls`.
        script: What to do with each connection.
        gate: Answers requests before the upgrade; None lets all through.
        greet: Answer `start` before the script; False leaves it to the script.
    """
    sessions: list[FakeSession] = []

    async def handle(websocket: ServerConnection) -> None:
        session = FakeSession(websocket)
        sessions.append(session)
        if greet:
            await session.started()
        await script(session)

    options: dict[str, Any] = {"compression": None, "process_request": gate, "close_timeout": 0.1}
    context = server_context(*pki.server_files)
    async with serve(handle, "127.0.0.1", 0, ssl=context, subprotocols=["captions.v1"], **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield FakeServer(f"wss://127.0.0.1:{port}/v1/stream", port, pki, client, sessions)


@contextmanager
def alerting_server(pki: Pki) -> Iterator[str]:
    """One TLS handshake that tells a refused client why; yields the address.

    asyncio closes the connection of a failed handshake without sending the alert, so this one is done
    on a blocking socket in a thread.
    """
    context = server_context(*pki.server_files)

    def shake_hands(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as connection:
            try:
                connection.do_handshake()
            except ssl.SSLError:
                # A close with unread data would be a reset, which can overtake the alert.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands, args=[listener])
        thread.start()
        try:
            yield f"wss://127.0.0.1:{listener.getsockname()[1]}/v1/stream"
        finally:
            thread.join()


@asynccontextmanager
async def eager_closer() -> AsyncIterator[str]:
    """Takes connections and closes them at once; yields the address."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        yield f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"


def refusing(status: int, body: str, **headers: str) -> Gate:
    """A gate that refuses everybody."""

    def respond(connection: ServerConnection, request: Request) -> Response:
        fields = {"Content-Length": str(len(body)), "Connection": "close"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(status, "No", Headers(fields), body.encode())

    return respond


async def until_finish(session: FakeSession) -> None:
    """Take audio and flushes until `finish`."""
    while (kind := await session.text()) != "finish":
        if kind == "flush":
            await session.say("flushed")


async def one_sentence(session: FakeSession) -> None:
    """One caption, whatever the audio: a partial, then its final."""
    await until_finish(session)
    await session.say("speech_started", at=1.0)
    await session.partial(0, 1.0, 2.0, "Hello wor", stable=5)
    await session.final(0, 1.0, 2.5, "Hello world.")
    await session.finished(1)


async def silence(session: FakeSession) -> None:
    """No captions."""
    await until_finish(session)
    await session.finished()
