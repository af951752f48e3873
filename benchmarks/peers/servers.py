"""The servers that are measured: how each is started, on which core, and how a stream to it is opened."""

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.environments import HERE, REPOSITORY, Unavailable
from benchmarks.peers.streams import whisper_live_stream, whisperlivekit_stream
from stream_server.cli.bench import OWN_CONFIG
from stream_server.cli.demo_server import HOST, free_port, running, tail
from stream_server.cli.own_server import own_server
from stream_server.load.player import Connect, native_stream

START_S = 120.0
POLL_S = 0.2
WARMUP = str(REPOSITORY / "stream_server" / "assets" / "recordings" / "01.flac")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    connect: Connect
    pid: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server finds what it needs."""

    python: Path
    """Of its environment."""
    model: Path
    """In the form that it reads."""
    cores: frozenset[int]


Serve = Callable[[Place], AbstractAsyncContextManager[Served]]


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """What is started in the block stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def stream_server(place: Place) -> AsyncIterator[Served]:
    """Ours, as ``stream-server bench`` starts it; over mutual TLS."""
    server = own_server(place.model, OWN_CONFIG)
    with pinned(place.cores):
        own = await server.__aenter__()
    try:
        yield Served(partial(native_stream, own.url, own.tls, "en"), own.pid)
    finally:
        await server.__aexit__(None, None, None)


@asynccontextmanager
async def whisper_live(place: Place) -> AsyncIterator[Served]:
    """WhisperLive with one model for all its clients."""
    program = str(HERE / "whisper_live_server.py")
    port = free_port()
    async with _process([str(place.python), program, str(port), str(place.model)], port, place) as process:
        yield Served(partial(whisper_live_stream, port), process.pid)


@asynccontextmanager
async def whisperlivekit(options: tuple[str, ...], place: Place) -> AsyncIterator[Served]:
    """WhisperLiveKit; without options with its default policy, AlignAtt, and its faster encoder."""
    port = free_port()
    command = [str(place.python.parent / "whisperlivekit-server"), "--host", HOST, "--port", str(port)]
    command += ["--model-path", str(place.model), "--lan", "en", "--pcm-input", "--warmup-file", WARMUP]
    # Its means against many passes over the same audio; without it each 0.04 s of audio is worth a pass.
    command += ["--asr-coalesce-min-s", "0.5"]
    async with _process([*command, *options], port, place) as process:
        yield Served(partial(whisperlivekit_stream, port), process.pid)


@asynccontextmanager
async def _process(command: list[str], port: int, place: Place) -> AsyncIterator[Process]:
    with TemporaryDirectory(prefix="stream-server-peer-") as folder:
        log = Path(folder, "server.log")
        server = running(command, log)
        with pinned(place.cores):
            process = await server.__aenter__()
        try:
            await _wait_until_listening(process, port, log)
            yield process
        finally:
            await server.__aexit__(None, None, None)


async def _wait_until_listening(process: Process, port: int, log: Path) -> None:
    try:
        async with asyncio.timeout(START_S):
            while not await _listens(port):
                if process.returncode is not None:
                    raise Unavailable(f"its server ended with code {process.returncode}:\n{tail(log)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError as exc:
        raise Unavailable(f"its server was not ready after {START_S:g} s:\n{tail(log)}") from exc


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except ConnectionError:
        return False
    writer.close()
    return True
