"""What somebody may do to a server to keep others from it; each attack goes on until it is cancelled.

Some need nothing but the address, some a certificate of another authority, some a good one: a client that
somebody else has taken over. ``benchmarks/floods.py`` measures what others feel of them.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from certs.tls import client_context

PATIENCE_S = 20.0
"""How long an attacker waits to be thrown out before it tries again."""
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: captions.v1\r\n\r\n"
)
TEXT, BINARY, PING = 1, 2, 9
CONTINUATION = 0
_ERRORS = (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError)


@dataclass(frozen=True)
class Victim:
    """Whom to attack, with what, and from where."""

    port: int
    ca: Path
    good: tuple[Path, Path]
    """Certificate and key that the server takes."""
    bad: tuple[Path, Path]
    """The same from another authority."""
    spread: bool
    """Each connection from another address of loopback, instead of all from one."""


def addresses(spread: bool) -> Iterator[str]:
    """Where connections come from."""
    if not spread:
        return itertools.repeat("127.0.0.66")
    return (f"127.{66 + i // 62_500 % 100}.{i // 250 % 250}.{1 + i % 250}" for i in itertools.count())


class Attacker:
    """Many hands that do the same thing to one server.

    Args:
        victim: The server.
    """

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._addresses = addresses(victim.spread)
        self._good = client_context(victim.ca, *victim.good)
        self._bad = client_context(victim.ca, *victim.bad)
        self._none = client_context(victim.ca)
        self.n_tries = 0

    async def run(self, name: str, n_hands: int) -> None:
        """Attack until cancelled."""
        act: Callable[[], Awaitable[None]] = getattr(self, name)
        async with asyncio.TaskGroup() as hands:
            for _ in range(n_hands):
                hands.create_task(self._again_and_again(act))

    async def _again_and_again(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.n_tries += 1
            # Being thrown out is what is expected; without free ports or files there is nothing but to wait.
            with contextlib.suppress(*_ERRORS):
                await act()
            await asyncio.sleep(0.001)

    # ------------------------------------------------------------ without TLS

    async def silent_connects(self) -> None:
        """Connect, and say nothing."""
        async with self._socket() as sock:
            await self._wait_for_the_end(sock)

    async def half_handshakes(self) -> None:
        """Begin TLS, and say no more."""
        async with self._socket() as sock:
            await asyncio.get_running_loop().sock_sendall(sock, client_hello())
            await self._wait_for_the_end(sock)

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[socket.socket]:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.bind((next(self._addresses), 0))
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._victim.port))
            yield sock

    @staticmethod
    async def _wait_for_the_end(sock: socket.socket) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.get_running_loop().sock_recv(sock, 4_096):
                continue

    # ------------------------------------------------------------ TLS that is refused

    async def no_certificate(self) -> None:
        """A whole handshake without a certificate."""
        async with self._tls(self._none) as (reader, _):
            await reader.read()

    async def bad_certificate(self) -> None:
        """A whole handshake with a certificate of another authority."""
        async with self._tls(self._bad) as (reader, _):
            await reader.read()

    @asynccontextmanager
    async def _tls(
        self, context: ssl.SSLContext
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                self._victim.port,
                ssl=context,
                server_hostname="localhost",
                local_addr=(next(self._addresses), 0),
            )
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield reader, writer
        finally:
            writer.transport.abort()

    # ------------------------------------------------------------ HTTP

    async def slow_headers(self) -> None:
        """A request of which a byte comes now and then."""
        async with self._tls(self._good) as (reader, writer):
            for byte in UPGRADE % b"/v1/stream":
                writer.write(bytes([byte]))
                await writer.drain()
                if reader.at_eof():
                    return
                await asyncio.sleep(0.3)

    async def huge_headers(self) -> None:
        """A request whose headers do not end."""
        async with self._tls(self._good) as (_, writer):
            writer.write(b"GET /v1/stream HTTP/1.1\r\n")
            while True:
                writer.write(b"X-%d: %s\r\n" % (self.n_tries, b"x" * 60_000))
                await writer.drain()

    async def requests(self) -> None:
        """Requests for streams, one after the other, long after they are too many."""
        async with self._tls(self._good) as (reader, writer):
            writer.write(UPGRADE % b"/v1/stream")
            await reader.read(1)

    # ------------------------------------------------------------ WebSocket

    async def pings(self) -> None:
        """Pings at the speed of the line."""
        await self._flood(b"/v1/stream", [], frame(PING, b"") * 5_000)

    async def one_byte_frames(self) -> None:
        """Audio in frames of one byte."""
        await self._flood(b"/v1/stream", [START], frame(BINARY, b"\0") * 5_000)

    async def endless_fragments(self) -> None:
        """A message in empty pieces that never ends."""
        first = frame(TEXT, b"", is_last=False)
        await self._flood(b"/v1/stream", [first], frame(CONTINUATION, b"", is_last=False) * 5_000)

    async def oversized_frames(self) -> None:
        """A frame of a gigabyte."""
        header = struct.pack(">BBQ", 0x80 | BINARY, 0x80 | 127, 1 << 30) + bytes(4)
        await self._flood(b"/v1/stream", [START, header], bytes(65_536))

    async def never_reading(self) -> None:
        """Requests for answers that are never read."""
        await self._flood(b"/v1/stream", [START], frame(TEXT, b'{"type":"flush"}') * 1_000, reads=False)

    async def deaf_readers(self) -> None:
        """Readers of a room who take nothing."""
        async with self._websocket(b"/v1/rooms/hall") as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of TCP can
            writer.write(frame(TEXT, b'{"type":"read"}'))
            await writer.drain()
            await asyncio.sleep(PATIENCE_S)

    async def _flood(self, path: bytes, first: list[bytes], then: bytes, *, reads: bool = True) -> None:
        async with self._websocket(path) as (reader, writer):
            reading = asyncio.create_task(reader.read() if reads else asyncio.sleep(PATIENCE_S))
            try:
                writer.writelines(first)
                while not reading.done():
                    writer.write(then)
                    await writer.drain()
                    await asyncio.sleep(0)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    @asynccontextmanager
    async def _websocket(
        self, path: bytes
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with self._tls(self._good) as (reader, writer):
            writer.write(UPGRADE % path)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                return_code = answer[9:12].decode()
                raise ConnectionRefusedError(f"HTTP {return_code}")
            yield reader, writer


def frame(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """A frame of up to 125 bytes as a client sends it, masked by zeros."""
    return bytes([0x80 * is_last | opcode, 0x80 | len(payload)]) + bytes(4) + payload


START = frame(TEXT, b'{"type":"start"}')


@cache
def client_hello() -> bytes:
    """The first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    beginning = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        beginning.do_handshake()
    return outgoing.read()


HANDS = {
    "silent_connects": 300,
    "half_handshakes": 300,
    "no_certificate": 40,
    "bad_certificate": 40,
    "slow_headers": 100,
    "huge_headers": 10,
    "requests": 20,
    "pings": 4,
    "one_byte_frames": 4,
    "endless_fragments": 4,
    "oversized_frames": 4,
    "never_reading": 4,
    "deaf_readers": 16,
}
"""Every attack, and how many hands it has."""
