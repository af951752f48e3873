"""A real server with throw-away certificates, for a command that measures one."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from certs.tls import client_context
from stream_server.cli.demo import START_S, Place
from stream_server.cli.demo_certs import client_files, ensure_certs
from stream_server.cli.demo_server import HOST, free_port, running, wait_until_healthy
from stream_server.dialects.schema import PATH


@dataclass(frozen=True, slots=True)
class OwnServer:
    """Where it is, and what a client needs to be admitted."""

    url: str
    tls: ssl.SSLContext
    ca: Path
    cert: Path
    key: Path
    pid: int


@asynccontextmanager
async def own_server(model: Path | None, config: str) -> AsyncIterator[OwnServer]:
    """Run a server as a process of its own for the length of the block.

    Args:
        model: Folder of its model; None is the one its configuration names.
        config: Its configuration, TOML.

    Raises:
        ServerFailed: It does not come up; the message has the end of its log.
    """
    with TemporaryDirectory(prefix="stream-server-own-") as folder:
        place = Place(Path(folder), model)
        (place.folder / "demo.toml").write_text(config, encoding="utf-8")
        ensure_certs(place.store)
        cert, key = client_files(place.store)
        tls = client_context(place.store.ca_cert, cert, key)
        port = free_port()
        async with running(place.command(port), place.log) as process:
            await wait_until_healthy(process, port, tls, place.log, START_S)
            yield OwnServer(f"wss://{HOST}:{port}{PATH}", tls, place.store.ca_cert, cert, key, process.pid)
