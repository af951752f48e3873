"""One real handshake over localhost, seen from both ends.

    outcome = attempt(server_context, client_context)         # asyncio
    outcome = attempt(server_context, None, raw=b"GET / ...") # a client that does not speak TLS

A TLS 1.3 client believes that it is connected before the server has looked at its certificate, so every
attempt ends with a read; only the server's greeting counts as admitted.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

from certs.tls import refusal_alert, refusal_reason

GREETING = b"hello"
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What both ends saw."""

    reason: str
    """The server's `refusal_reason`, or "admitted"."""
    read: bytes | Exception
    """What the client's connect or first read gave."""
    peer: bytes | None = None
    """DER of the client's certificate as the server has it."""

    @property
    def admitted(self) -> bool:
        """Both ends agree that the connection stands."""
        return self.reason == "admitted" and self.read == GREETING


def attempt(
    server: ssl.SSLContext,
    client: ssl.SSLContext | None,
    *,
    loop_factory: LoopFactory | None = None,
    hostname: str = "localhost",
    raw: bytes | None = None,
    reset: bool = False,
    timeout_s: float = 5.0,
    sends_alert: bool = True,
) -> Outcome:
    """Connect once. Without `client`: send `raw` bytes and wait, or, with `reset`, cut the connection."""

    async def both() -> Outcome:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            serving = asyncio.create_task(_serve_one(listener, server, timeout_s, sends_alert))
            if client is not None:
                read = await _connect(listener.getsockname(), client, hostname)
            else:
                read = await _connect_raw(listener.getsockname(), raw, reset)
            reason, peer = await serving
            return Outcome(reason, read, peer)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(both())


async def _serve_one(
    listener: socket.socket, context: ssl.SSLContext, timeout_s: float, sends_alert: bool
) -> tuple[str, bytes | None]:
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(listener)
    with accepted.dup() as spare:
        try:
            transport, _ = await loop.connect_accepted_socket(
                asyncio.Protocol, accepted, ssl=context, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            if sends_alert:
                with contextlib.suppress(OSError):
                    spare.send(refusal_alert(error))
            return refusal_reason(error), None
    peer = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    transport.write(GREETING)
    transport.close()
    return "admitted", peer


async def _connect(address: tuple[str, int], context: ssl.SSLContext, hostname: str) -> bytes | Exception:
    try:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=hostname)
    except OSError as error:
        return error
    try:
        return await reader.read(100)
    except OSError as error:
        return error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect_raw(address: tuple[str, int], raw: bytes | None, reset: bool) -> bytes | Exception:
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, address)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        if raw is not None:
            await loop.sock_sendall(client, raw)
        try:
            return await loop.sock_recv(client, 100)
        except OSError as error:
            return error
