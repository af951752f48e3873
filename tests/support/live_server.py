"""A whole server on a thread of its own, and a bare WebSocket client to poke it with.

The server is the product's ``App`` on uvloop, with real TLS and a real engine process; the engine is
the deterministic fake unless a test asks for the model. The client knows the wire and nothing else.
"""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvloop
import websockets
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.app import App, Ready
from stream_server.config import Config
from stream_server.config_file import load_config
from stream_server.engine.fake import silence
from stream_server.engine.faults import Faults

GENEROUS = {"sessions_per_identity": 1000, "connects_per_minute": 100_000}
"""Tests open many sessions with one certificate."""
START_S = 90
_n_servers = itertools.count()
STOP_S = 30


class LiveServer:
    """One running server; see ``live_server``."""

    def __init__(
        self, state: Path, flags: Mapping[str, Mapping[str, object]], faults: tuple[Faults, ...] = ()
    ) -> None:
        merged = dict(flags)
        merged["engine"] = {"fake": True, **flags.get("engine", {})}
        merged["server"] = {"port": 0, **flags.get("server", {})}
        # One server writes one audit log, and tests run several servers of one state.
        merged["audit"] = {"folder": str(state / f"audit-{next(_n_servers)}"), **flags.get("audit", {})}
        merged["limits"] = {**GENEROUS, **flags.get("limits", {})}
        self._flags = merged
        self.config = load_config(None, merged)
        self.reread: Callable[[], Config] = lambda: self.config
        """How the server reads its configuration again."""
        self._state = state
        self._faults = faults
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-server")
        self.exit_code: int | None = None
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            self.exit_code = uvloop.run(self._serve())
        except BaseException as exc:
            self.error = exc
        finally:
            self._ready.set()

    async def _serve(self) -> int:
        self.loop = asyncio.get_running_loop()
        self.app = App(self.config, self._state, reread=lambda: self.reread(), faults=self._faults)
        return await self.app.run(self._note_ready)

    def _note_ready(self, ready: Ready) -> None:
        self.ready = ready
        self._ready.set()

    def start(self) -> None:
        """Start and wait until connections are accepted."""
        self._thread.start()
        assert self._ready.wait(START_S), "the server did not start"
        if self.error is not None:
            raise self.error

    def stop(self) -> int | None:
        """Drain, wait, and return the exit code."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.app.stop)
        return self.join()

    def join(self) -> int | None:
        """Wait until the server has ended by itself."""
        self._thread.join(STOP_S)
        assert not self._thread.is_alive(), "the server did not stop"
        if self.error is not None:
            raise self.error
        return self.exit_code

    def reload(self, **engine: object) -> None:
        """Change the section ``engine`` of its configuration, and have it read again as by SIGHUP."""
        changed = {**self._flags, "engine": {**self._flags["engine"], **engine}}
        self.reread = lambda: load_config(None, changed)
        self.loop.call_soon_threadsafe(self.app.reload)

    async def until(self, condition: Callable[[], bool], within_s: float = 20) -> None:
        """Wait for something to become true, looked at on the server's loop."""

        async def watch() -> None:
            while not condition():  # noqa: ASYNC110  the product has no event for what tests look at
                await asyncio.sleep(0.001)

        future = asyncio.run_coroutine_threadsafe(watch(), self.loop)
        await asyncio.wait_for(asyncio.wrap_future(future), within_s)

    @property
    def worker(self) -> BaseProcess:
        """The engine's process."""
        child = self.app._decoding.engine._child
        assert child is not None
        return child._process

    @property
    def url(self) -> str:
        """Of the native protocol."""
        return f"wss://localhost:{self.ready.addresses[0][1]}/v1/stream"


@contextmanager
def live_server(
    pki: Pki, *, faults: tuple[Faults, ...] = (), **flags: Mapping[str, object]
) -> Iterator[LiveServer]:
    """Run a server for a ``with`` block.

    Args:
        pki: Its certificates.
        faults: What goes wrong in the engine's first, second … process.
        flags: Configuration sections.
    """
    server = LiveServer(pki.store.folder.parent, flags, faults)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class WireClient:
    """A connection and what came over it."""

    socket: websockets.ClientConnection
    events: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, *messages: bytes | dict[str, Any] | str) -> None:
        """Send bytes as audio, dicts as JSON, text as it is."""
        for message in messages:
            await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def receive(self, kind: str) -> dict[str, Any]:
        """Read events until one of this type comes."""
        while True:
            event: dict[str, Any] = json.loads(await self.socket.recv())
            self.events.append(event)
            if event["type"] == kind:
                return event

    async def rest(self) -> list[dict[str, Any]]:
        """Read to the end; returns every event of the connection."""
        async for message in self.socket:
            self.events.append(json.loads(message))
        return self.events

    async def rest_or_error(self) -> list[dict[str, Any]]:
        """The same where an abnormal close code is expected."""
        try:
            return await self.rest()
        except websockets.ConnectionClosedError:
            return self.events

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type so far."""
        return [event for event in self.events if event["type"] == kind]


@asynccontextmanager
async def wire(url: str, pki: Pki, pair: ClientPair, **options: Any) -> AsyncIterator[WireClient]:
    """Connect with a certificate."""
    context = client_context(pki.ca, pair.cert, pair.key)
    options = {"subprotocols": ["captions.v1"], "proxy": None, "compression": None, **options}
    async with websockets.connect(url, ssl=context, **options) as socket:
        yield WireClient(socket)


START: dict[str, Any] = {"type": "start"}
FINISH: dict[str, Any] = {"type": "finish"}
PAUSE = silence(20).tobytes()
"""640 ms, longer than the pause that ends an utterance."""


def pieces(data: bytes, size: int) -> list[bytes]:
    """Data in chunks of ``size`` bytes."""
    return [data[i : i + size] for i in range(0, len(data), size)]
