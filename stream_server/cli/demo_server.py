"""A server of the demo's own: started as a process, asked for its health, never left behind."""

import asyncio
import os
import signal
import socket
import ssl
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
STOP_S = 10.0
"""What the server needs at most to drain."""
POLL_S = 0.1
ANSWER_S = 5.0
"""For one question about its health."""
LOG_LINES = 12
"""Of a dead server's log: a traceback's end, or the one line that says why."""


class ServerFailed(Exception):
    """Raised when the server does not come up; the message says what its log said last."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
    return port


@asynccontextmanager
async def running(command: Sequence[str], log: Path) -> AsyncIterator[Process]:
    """Run a server for the length of the block, with what it prints going to ``log``.

    It gets a process group of its own: Ctrl-C in the terminal reaches this program only, which then
    stops the server and whatever processes that has started.
    """
    descriptor = _open_log(log)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=descriptor, stderr=STDOUT, start_new_session=True
        )
    finally:
        os.close(descriptor)
    try:
        yield process
    finally:
        await _stop(process)


def _open_log(log: Path) -> int:
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


async def _stop(process: Process) -> None:
    try:
        if process.returncode is None:
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_S)
    finally:
        # Also after a polite end, and when a second Ctrl-C cuts the wait short: children die with it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def wait_until_healthy(
    process: Process, port: int, tls: ssl.SSLContext, log: Path, timeout_s: float
) -> None:
    """Return when ``/healthz`` answers 200.

    Raises:
        ServerFailed: The process ended, or did not become healthy in time.
        ssl.SSLError: The server does not admit this client.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await is_healthy(port, tls):
                if process.returncode is not None:
                    raise ServerFailed(f"the server ended with code {process.returncode}:\n{tail(log)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError as exc:
        raise ServerFailed(f"the server was not ready after {timeout_s:g} s:\n{tail(log)}") from exc


async def is_healthy(port: int, tls: ssl.SSLContext) -> bool:
    """Ask ``/healthz`` once over mutual TLS.

    Raises:
        ssl.SSLError: The server does not admit this client, or is not the one we trust.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
            try:
                writer.write(f"GET /healthz HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.transport.abort()
    except (ConnectionError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"
