"""Health and metrics without TLS, on loopback only, for probes that hold no certificate."""

import socket
from collections.abc import Callable
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from stream_server.ops.metrics import Metrics
from stream_server.transport.responses import Health, health_response

HOST = "127.0.0.1"


async def serve_ops(
    sock: socket.socket, health: Health, metrics: Metrics, refresh: Callable[[], None]
) -> Server:
    """Start the listener.

    Args:
        sock: Bound on loopback; owned by the listener.
        health: Asked by ``/readyz``.
        metrics: Shown by ``/metrics``.
        refresh: Called before each exposition, to set what is only read then.
    """

    def respond(connection: ServerConnection, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return health_response(connection, ready=True)
        if path == "/readyz":
            return health_response(connection, ready=health.is_ready())
        if path == "/metrics":
            refresh()
            response = connection.respond(HTTPStatus.OK, metrics.exposition().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
            return response
        return connection.respond(HTTPStatus.NOT_FOUND, "paths: /healthz /readyz /metrics\n")

    async def refuse_upgrade(connection: ServerConnection) -> None:
        raise AssertionError("every request is answered before an upgrade")

    return await serve(
        refuse_upgrade, sock=sock, process_request=respond, server_header=None, compression=None
    )
