"""A proxy in front of the server that tells for whom each connection is, or something else.

async with fake_proxy(port, tcp_header("192.0.2.7")) as proxy_port:
    ... connect to proxy_port ...
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
_PORTS = b"\xc0\x00\x20\xfb"


def tcp_header(source: str, *, extensions: bytes = b"") -> bytes:
    """What a proxy sends first for a client at ``source``."""
    address = ip_address(source)
    kind = 0x11 if isinstance(address, IPv4Address) else 0x21
    block = address.packed + bytes(len(address.packed)) + _PORTS + extensions
    return SIGNATURE + bytes([0x21, kind]) + len(block).to_bytes(2, "big") + block


@asynccontextmanager
async def fake_proxy(server_port: int, header: bytes) -> AsyncIterator[int]:
    """Pass connections on to a port of loopback, each after ``header``, until the block is left."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", server_port)
        try:
            downstream.write(header)
            ways = [asyncio.create_task(way) for way in (_copy(reader, downstream), _copy(upstream, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for side in (writer, downstream):
                side.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio logs an error for one of its own that is cancelled.
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
