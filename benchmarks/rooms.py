"""Fan-out of a room: one source, many readers over real TLS, and one that never reads.

Starts a server of its own (deterministic engine, so that what must arrive is known), connects the readers and
speaks at real time. Fan-out is from the moment at which the server publishes a final, which it tells, to the
moment at which this program has read it, for each reader; the program reads for all of them on one core, so
part of it is its own. Run: ``python -m benchmarks.rooms --readers 300`` in the repository.

Measured 2026-11-21, AMD EPYC, 2 cores that eight other programs kept busy (load 11)::

    readers               300, and one that never reads
    finals for each       16
    readers that lost     0
    fan-out of finals     p50 55 ms  p95 111 ms  p99 131 ms
    server's main process 0.03 of a core
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from certs.identity import Role
from certs.store import Store
from certs.tls import client_context
from stream_server.engine.fake import numbered_speech, numbers_in, silence

ROOM = "bench"
FRAME_S = 0.032
SPEECH_FRAMES, PAUSE_FRAMES = 94, 22
"""3.0 s of speech and 0.7 s of pause."""
CHUNK_FRAMES = 3
CONNECTS_AT_ONCE = 8
DEAF_BUFFER_BYTES = 2_048
CONFIG = """
[server]
port = 0
[engine]
fake = true
[rooms]
readers_per_identity = 100000
connects_per_minute = 100000
readers_per_room = 100000
readers = 100000
[log]
level = "warning"
"""


@dataclass
class Heard:
    """What one reader was given."""

    numbers: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    fan_out_s: list[float] = field(default_factory=list)
    n_partials: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of one run."""

    n_readers: int
    n_finals: int
    n_lost: int
    """Finals that some reader did not get, or got twice, or out of order; over all readers."""
    fan_out_s: list[float]
    server_cpu_share: float | None

    def percentile_ms(self, percent: float) -> float:
        """Of the fan-out of finals, in milliseconds."""
        return float(np.percentile(self.fan_out_s, percent)) * 1_000


async def measure(
    url: str,
    tls: ssl.SSLContext,
    *,
    n_readers: int,
    n_utterances: int,
    chunk_s: float,
    server_pid: int | None = None,
) -> Outcome:
    """Speak to a room full of readers.

    Args:
        url: Of the server, ``wss://HOST:PORT``.
        tls: With a certificate that may publish and read.
        n_readers: Readers that read; one more does not.
        n_utterances: Each 3 s long.
        chunk_s: Wait between chunks of 96 ms; 0.096 is real time.
        server_pid: Whose time on the processor is measured while it speaks.
    """
    async with AsyncExitStack() as stack:
        slots = asyncio.Semaphore(CONNECTS_AT_ONCE)
        readers = await asyncio.gather(*(_join(stack, slots, url, tls) for _ in range(n_readers)))
        deaf = await _join_deaf(stack, url, tls)
        heard = [Heard() for _ in readers]
        reading = [
            asyncio.create_task(_read(reader, one)) for reader, one in zip(readers, heard, strict=True)
        ]
        before = _cpu_s(server_pid)
        began_s = time.monotonic()
        await _speak(url, tls, n_utterances, chunk_s)
        await asyncio.wait_for(asyncio.gather(*reading), 30)
        elapsed_s = time.monotonic() - began_s
        share = None if before is None else (_cpu_s(server_pid) or 0.0) - before
        deaf.transport.abort()
    expected = list(range(n_utterances * SPEECH_FRAMES))
    return Outcome(
        n_readers,
        max(len(one.fan_out_s) for one in heard),
        sum(_n_lost(one, expected) for one in heard),
        [seconds for one in heard for seconds in one.fan_out_s],
        None if share is None else share / elapsed_s,
    )


def _n_lost(one: Heard, expected: Sequence[int]) -> int:
    """0 exactly if a reader has every number once and in order, and no gap in the room's events."""
    in_row = one.events == list(range(1, len(one.events) + 1))
    return 0 if in_row and one.numbers == expected else 1


async def _join(
    stack: AsyncExitStack, slots: asyncio.Semaphore, url: str, tls: ssl.SSLContext, **options: Any
) -> ClientConnection:
    async with slots:
        socket = await stack.enter_async_context(_connected(f"{url}/v1/rooms/{ROOM}", tls, **options))
        await socket.send('{"type":"read"}')
        return socket


async def _join_deaf(stack: AsyncExitStack, url: str, tls: ssl.SSLContext) -> ClientConnection:
    """A reader that asks to read and then takes nothing; its kernel holds as little as it may."""
    host, _, port = url.removeprefix("wss://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER_BYTES)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(port)))
    return await _join(stack, asyncio.Semaphore(1), url, tls, sock=sock, server_hostname=host, max_queue=1)


@asynccontextmanager
async def _connected(url: str, tls: ssl.SSLContext, **options: Any) -> AsyncIterator[ClientConnection]:
    options = {"compression": None, "proxy": None, "ping_interval": None, "close_timeout": 1, **options}
    async with connect(url, ssl=tls, subprotocols=[Subprotocol("captions.v1")], **options) as socket:
        yield socket


async def _read(reader: ClientConnection, heard: Heard) -> None:
    """Until the source has left."""
    while True:
        data = await reader.recv()
        now_s = time.time()
        event = json.loads(data)
        if "event" in event:
            heard.events.append(event["event"])
        match event["type"]:
            case "final":
                heard.fan_out_s.append(now_s - event["time"])
                heard.numbers += numbers_in(event["text"])
            case "partial":
                heard.n_partials += 1
            case "source_left":
                return
            case "error":
                raise RuntimeError(f"a reader was turned away: {event['message']}")


async def _speak(url: str, tls: ssl.SSLContext, n_utterances: int, chunk_s: float) -> None:
    audio = b"".join(
        numbered_speech(range(i * SPEECH_FRAMES, (i + 1) * SPEECH_FRAMES)).tobytes()
        + silence(PAUSE_FRAMES).tobytes()
        for i in range(n_utterances)
    )
    size = CHUNK_FRAMES * 1_024
    async with _connected(f"{url}/v1/stream", tls) as source:
        await source.send(json.dumps({"type": "start", "room": ROOM, "speaker": "Anna"}))
        listening = asyncio.create_task(_drain(source))
        due_s = time.monotonic()
        for begin in range(0, len(audio), size):
            await source.send(audio[begin : begin + size])
            due_s += chunk_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await source.send('{"type":"finish"}')
        await listening


async def _drain(source: ClientConnection) -> None:
    async for _ in source:
        continue


def _cpu_s(pid: int | None) -> float | None:
    """Time on the processor of one process, in seconds; its children's is not counted."""
    if pid is None:
        return None
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _own_server(folder: Path) -> Iterator[tuple[str, int]]:
    """A server process; gives its address and process id."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    serve = [sys.executable, "-m", "stream_server", "serve"]
    command = [*serve, "--state-dir", str(folder), "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            if not words:
                raise SystemExit("the server did not start; its complaint stands above")
            port = words[-1].removesuffix("/v1/stream").rpartition(":")[2]
            yield f"wss://localhost:{port}", process.pid
        finally:
            process.terminate()
            process.communicate(timeout=30)


def main() -> int:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--readers", type=int, default=300)
    parser.add_argument("--utterances", type=int, default=16, help="of 3.7 s each, at real time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "certs")
        store.init()
        store.issue_server(("localhost",))
        files = store.issue_client(Role.SOURCE, "bench")
        tls = client_context(store.ca_cert, files.cert, files.key)
        with _own_server(Path(name)) as (url, pid):
            outcome = uvloop.run(
                measure(
                    url,
                    tls,
                    n_readers=options.readers,
                    n_utterances=options.utterances,
                    chunk_s=CHUNK_FRAMES * FRAME_S,
                    server_pid=pid,
                )
            )
    print(f"readers               {outcome.n_readers}, and one that never reads")
    print(f"finals for each       {outcome.n_finals}")
    print(f"readers that lost     {outcome.n_lost}")
    figures = "  ".join(f"p{percent} {outcome.percentile_ms(percent):.0f} ms" for percent in (50, 95, 99))
    print(f"fan-out of finals     {figures}")
    print(f"server's main process {outcome.server_cpu_share:.2f} of a core")
    return 1 if outcome.n_lost or outcome.percentile_ms(95) > 150 else 0


if __name__ == "__main__":
    sys.exit(main())
