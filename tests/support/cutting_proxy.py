"""A TCP proxy that breaks connections at chosen bytes: a network that fails in the middle of anything.

    async with cutting_proxy(port, lives) as proxy:
        ... connect to proxy.port ...

Each connection lives for as many bytes, both ways counted together, as ``lives`` says next; what was
read and not passed on is lost, as in a network. When ``lives`` is used up, connections live on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_READ_BYTES = 1024


@dataclass(slots=True)
class CuttingProxy:
    """What it did."""

    port: int = 0
    n_connections: int = 0
    n_cuts: int = 0


@asynccontextmanager
async def cutting_proxy(server_port: int, lives: Iterator[int]) -> AsyncIterator[CuttingProxy]:
    """Pass connections on to a port of loopback until the block is left."""
    proxy = CuttingProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.n_connections += 1
        upstream, downstream = await asyncio.open_connection("127.0.0.1", server_port)
        life = _Life(next(lives, None))
        ways = [
            asyncio.create_task(life.copy(reader, downstream)),
            asyncio.create_task(life.copy(upstream, writer)),
        ]
        try:
            await asyncio.wait(
                ways, return_when=asyncio.FIRST_COMPLETED if life.ends else asyncio.ALL_COMPLETED
            )
        finally:
            proxy.n_cuts += life.is_over
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for side in (writer, downstream):
                side.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio logs an error for one of its own that is cancelled.
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Life:
    """The bytes that one connection may still pass."""

    def __init__(self, n_bytes: int | None) -> None:
        self._left = n_bytes
        self.ends = n_bytes is not None

    @property
    def is_over(self) -> bool:
        return self._left == 0

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on until one side ends or the life is over."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ_BYTES):
                passed = data if self._left is None else data[: self._left]
                writer.write(passed)
                if self._left is not None:
                    self._left -= len(passed)
                    if not self._left:
                        return
                await writer.drain()
