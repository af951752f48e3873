"""The accept loop: TCP, then TLS with the exact reason of each refusal, then HTTP and WebSocket.

websockets' own server does not say why a handshake failed, and an operator must know. So sockets are
accepted here, and websockets' ``ServerConnection`` runs each one that TLS lets through.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from certs.tls import refusal_alert, refusal_reason
from stream_server.core.audit import Auditor
from stream_server.core.bucket import Bucket
from stream_server.core.networks import Network, contains, limited_by
from stream_server.dialects import schema
from stream_server.errors import AuditUnavailable, ConfigError
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import handshake_refused
from stream_server.transport.connection import PING_S, TOO_MANY_FRAMES, StreamConnection
from stream_server.transport.proxy_header import ProxyHeaderError, read_source
from stream_server.transport.responses import Admitted, Doorkeeper, Recorded, Refusal, address_of, refuse
from stream_server.transport.tls import SwappableContext

_log = logging.getLogger(__name__)

BACKLOG = 1024
OPEN_S = 5.0
"""For the HTTP request to arrive after TLS."""
LINGER_S = 1.0
"""For a refused client to read why. It counts among the handshakes under way for so long."""
LINGER_BYTES_MAX = 131_072
"""Of what such a client still sends: more than a request has."""
CLOSE_S = 5.0
"""For the closing handshake."""
QUEUE_MAX = 8
"""Messages read and not yet taken by the session."""
WRITE_LIMIT_BYTES = 32_768
RECEIVE_BYTES_MAX = 2 * schema.MESSAGE_BYTES_MAX
"""Above the protocol's limit, so that a message somewhat too large gets a proper error; beyond this
websockets closes with 1009 while the message is still arriving."""


def bind(host: str, port: int, section: str = "server", port_key: str = "port") -> list[socket.socket]:
    """Bind every address of ``host``, not yet listening; errors name the keys of ``section``.

    Raises:
        ConfigError: The address is not ours, or the port is in use; names both.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as exc:
        raise ConfigError(f"{section}.host {host!r} is not an address: {exc.strerror}") from exc
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(infos):
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        try:
            sock.bind(address)
        except OSError as exc:
            for opened in [sock, *sockets]:
                opened.close()
            option = f" or --{port_key.replace('_', '-')}" if section == "server" else ""
            hint = f"; set another {section}.{port_key}{option}" if exc.errno == 98 else ""
            raise ConfigError(f"cannot bind {host} port {port}: {exc.strerror}{hint}") from exc
        sockets.append(sock)
    return sockets


@dataclass(slots=True)
class _Opening:
    """A connection whose request has not come."""

    sock: socket.socket | None
    """Until TLS has begun."""
    address: str
    counted_as: str
    connection: StreamConnection | None = None
    """Once TLS has let it through."""


async def _say_why(sock: socket.socket, alert: bytes) -> None:
    """Send a TLS alert, and let the client read it before the socket is closed.

    In TLS 1.3 a client sends its request before it can know that it is refused. A socket that is closed with
    that unread, or before it comes, answers by a reset; what the client sends next then fails, and browsers
    tell of that in place of the alert. So what comes is read, up to a limit, until the client has closed. Our
    end stays open until then, since Chromium tells of a socket that has ended in place of the alert, too.
    """
    loop = asyncio.get_running_loop()
    n_bytes = 0
    with contextlib.suppress(OSError):  # the client may be gone, or not go; TimeoutError is one
        sock.setblocking(False)
        sock.send(alert)
        async with asyncio.timeout(LINGER_S):
            while n_bytes < LINGER_BYTES_MAX and (data := await loop.sock_recv(sock, 16_384)):
                n_bytes += len(data)


class Listener:
    """Accepts connections on bound sockets until closed.

    Args:
        sockets: From ``bind``; owned by the listener.
        context: Swappable; whatever is current serves the next handshake.
        gate: Decides about each request, and says what serves it.
        metrics: What is counted in.
        auditor: Where it is written who was turned away by TLS, and who was admitted.
        handshakes_max: Connections at once that have not sent their request, in TLS or after it; for one more
            the oldest is cut off.
        handshakes_per_address: The same for one address, of which one more is refused.
        handshakes_per_s: How many are begun, after a burst of ``handshakes_max``; others wait in the kernel's
            queue, so that those who are in keep the processor.
        handshake_s: How long one may take.
        networks: Who may connect; others are cut off before TLS. Empty is everybody.
        proxies: Whose connections begin with a header that tells the client's address, see
            ``transport/proxy_header.py``. It counts in place of the proxy's from there on.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: SwappableContext,
        gate: Doorkeeper,
        metrics: Metrics,
        auditor: Auditor,
        *,
        handshakes_max: int,
        handshakes_per_address: int,
        handshakes_per_s: float,
        handshake_s: float,
        networks: tuple[Network, ...] = (),
        proxies: tuple[Network, ...] = (),
    ) -> None:
        self._sockets = sockets
        self._context = context
        self._gate = gate
        self._metrics = metrics
        self._auditor = auditor
        self._handshakes_max = handshakes_max
        self._handshakes_per_address = handshakes_per_address
        self._pace = Bucket(handshakes_max, handshakes_per_s)
        self._handshake_s = handshake_s
        self._networks = networks
        self._proxies = proxies
        self._accepting: list[asyncio.Task[None]] = []
        self._introductions: set[asyncio.Task[None]] = set()
        """Connections of proxies whose header has not come."""
        self._openings: dict[asyncio.Task[None], _Opening] = {}
        """Connections whose request has not come, the oldest first."""
        self._addresses: Counter[str] = Counter()
        """The same, counted for each address, or network of one client."""
        self._admitted: dict[ServerConnection, Admitted] = {}
        self.handler_tasks: set[asyncio.Task[None]] = set()
        """Connections being served. websockets' connection adds its task here itself."""

    def start(self) -> None:
        """Begin to accept."""
        for sock in self._sockets:
            sock.listen(BACKLOG)
            self._accepting.append(asyncio.create_task(self._accept(sock)))

    def is_serving(self) -> bool:
        """Asked by websockets before each upgrade."""
        return bool(self._accepting)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def close(self) -> None:
        """Stop accepting; connections go on."""
        stopping = [*self._accepting, *self._introductions, *self._openings]
        self._accepting = []
        for task in stopping:
            task.cancel()
        await asyncio.gather(*stopping, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    async def wait_connections(self, timeout_s: float) -> None:
        """Wait until every connection has ended, or the time is over."""
        if self.handler_tasks:
            await asyncio.wait(self.handler_tasks, timeout=timeout_s)

    async def cut_connections(self) -> None:
        """End every connection that is left, without a word."""
        for task in list(self.handler_tasks):
            task.cancel()
        if self.handler_tasks:
            await asyncio.wait(self.handler_tasks)

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(sock)
            except OSError as exc:
                # Out of file descriptors, or a client that left at once: go on, but do not spin.
                _log.error("accept_failed", extra=fields(error=exc.strerror))
                await asyncio.sleep(0.1)
                continue
            if self._proxies and contains(self._proxies, address[0]):
                self._introduce(accepted, address[0])
            else:
                await self._begin(accepted, address[0])

    def _introduce(self, sock: socket.socket, proxy: str) -> None:
        """Let a proxy tell for whom its connection is, before anything else."""
        if len(self._introductions) >= self._handshakes_max:
            self._refuse(proxy, "too_many_handshakes")
            sock.close()
            return
        task = asyncio.create_task(self._hear_proxy(sock, proxy))
        self._introductions.add(task)
        task.add_done_callback(self._introductions.discard)

    async def _hear_proxy(self, sock: socket.socket, proxy: str) -> None:
        try:
            source = await read_source(sock, self._handshake_s)
        except ProxyHeaderError as exc:
            self._refuse(proxy, exc.reason)
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            await self._begin(sock, source or proxy)

    async def _begin(self, sock: socket.socket, address: str) -> None:
        """Begin TLS with a client when its turn has come, unless its address is refused."""
        if (reason := self._refusal_of(address)) is not None:
            self._refuse(address, reason)
            sock.close()
            return
        try:
            while not self._pace.take(time.monotonic()):  # noqa: ASYNC110  nothing happens but time
                await asyncio.sleep(self._pace.wait_s(time.monotonic()))
        except asyncio.CancelledError:
            sock.close()
            raise
        if len(self._openings) >= self._handshakes_max:
            self._evict_oldest()
        self._open(sock, address)

    def _open(self, sock: socket.socket, address: str) -> None:
        opening = _Opening(sock, address, limited_by(address))
        self._addresses[opening.counted_as] += 1
        task = asyncio.create_task(self._secure(opening))
        self._openings[task] = opening
        task.add_done_callback(partial(self._end_opening, opening))

    def _refusal_of(self, address: str) -> str | None:
        """Why no handshake may begin with an address, or None if one may."""
        if not contains(self._networks, address):
            return "address_not_allowed"
        if self._addresses[limited_by(address)] >= self._handshakes_per_address:
            return "too_many_handshakes_of_address"
        return None

    def _evict_oldest(self) -> None:
        """Make room for one who comes."""
        # A client that means it is through in milliseconds, and so is hardly ever the oldest; whoever holds
        # places without a word is. To refuse the newest would let a few connects a second keep all out.
        task, opening = next(iter(self._openings.items()))
        self._forget(task)
        task.cancel()
        if opening.connection is not None:
            opening.connection.transport.abort()
        self._refuse(opening.address, "too_many_handshakes")

    def _end_opening(self, opening: "_Opening", task: asyncio.Task[None]) -> None:
        if opening.sock is not None:  # the task was cancelled before it began
            opening.sock.close()
        self._forget(task)

    def _forget(self, task: asyncio.Task[None]) -> None:
        opening = self._openings.pop(task, None)
        if opening is None:
            return
        self._addresses[opening.counted_as] -= 1
        if not self._addresses[opening.counted_as]:
            del self._addresses[opening.counted_as]

    async def _secure(self, opening: "_Opening") -> None:
        """TLS for one socket, and the wait for its request; what TLS lets through has a task of its own."""
        sock, opening.sock = opening.sock, None
        assert sock is not None, "it begins once"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # asyncio and uvloop close a failed handshake without sending its TLS alert, so that the client could
        # not tell why. The second descriptor outlives their close and carries the alert.
        connection = self._connection(opening.address)
        with sock.dup() as spare:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=self._handshake_s,
                )
            except (OSError, EOFError) as exc:  # ssl.SSLError is an OSError
                self._refuse(opening.address, refusal_reason(exc))
                if alert := refusal_alert(exc):
                    await _say_why(spare, alert)
                return
        opening.connection = connection
        await connection.is_asked.wait()

    def _refuse(self, address: str, reason: str) -> None:
        self._metrics.handshakes_failed.labels(reason=reason).inc()
        _log.warning("handshake_refused", extra=fields(reason=reason, address=address))
        self._auditor.record(handshake_refused(address, reason))

    def _connection(self, address: str) -> StreamConnection:
        protocol = ServerProtocol(subprotocols=[Subprotocol(schema.SUBPROTOCOL)], max_size=RECEIVE_BYTES_MAX)
        # A connection asks its server for no more than what this class has.
        server = cast(Server, self)
        connection = StreamConnection(
            protocol,
            server,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_S,
            max_queue=QUEUE_MAX,
            write_limit=WRITE_LIMIT_BYTES,
            refused=self._refuse_frames,
        )
        connection.client_address = address
        return connection

    def _refuse_frames(self, connection: ServerConnection) -> None:
        self._metrics.refused.labels(reason=TOO_MANY_FRAMES).inc()
        _log.warning(
            "connection_refused", extra=fields(reason=TOO_MANY_FRAMES, address=address_of(connection))
        )

    async def handler(self, connection: StreamConnection) -> None:
        """Serve one connection from the HTTP request on; started by websockets."""
        try:
            async with asyncio.timeout(OPEN_S):
                await connection.handshake(self._process_request, server_header=None)
            if connection.protocol.state is State.OPEN:
                connection.start_keepalive()
                async with connection:
                    await self._admitted[connection].serve(connection)
        except TimeoutError:
            _log.warning("request_timed_out")
        except Exception:
            _log.exception("connection_failed")
        finally:
            connection.is_asked.set()
            admitted = self._admitted.pop(connection, None)
            if admitted is not None:
                admitted.release()
            connection.transport.abort()
            task = asyncio.current_task()
            assert task is not None
            self.handler_tasks.discard(task)

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, StreamConnection)
        connection.is_asked.set()
        decision = self._gate.respond(connection, request, time.monotonic())
        if isinstance(decision, Response):
            return decision
        if isinstance(decision, Admitted):
            # From here on its place is given back when the connection ends, however it does.
            self._admitted[connection] = decision
        try:
            await self._auditor.secure(decision.event)
        except AuditUnavailable as exc:
            self._metrics.refused.labels(reason=exc.code).inc()
            return refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, exc.code, str(exc), retry_after_s=10))
        return decision.response if isinstance(decision, Recorded) else None
