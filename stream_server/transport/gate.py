"""Every HTTP request before an upgrade: which path, who asks, may he, is there room.

The paths are a closed list. A refusal is a status and a JSON body ``{"code", "message"}``, and one
line in the log with the reason and the address.
"""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from certs.identity import Identity, IdentityError, identity_from_der
from stream_server.core.admission import Admission, Refused
from stream_server.core.policy import Policy, Right
from stream_server.dialects import schema
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics

_log = logging.getLogger(__name__)

RIGHT_OF_PATH = {schema.PATH: Right.STREAM}
"""What a client must be allowed to do to open a socket there."""


class Health(Protocol):
    """Whether the server can do its work."""

    def is_ready(self) -> bool:
        """The engine answers and the server is not stopping."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no upgrade."""

    status: HTTPStatus
    code: str
    message: str
    retry_after_s: int | None = None


class Gate:
    """Decides about requests; admitted identities must be released when their connection ends."""

    def __init__(
        self, admission: Admission, policy: Policy, trust_domain: str, health: Health, metrics: Metrics
    ) -> None:
        self._admission = admission
        self._policy = policy
        self._trust_domain = trust_domain
        self._health = health
        self._metrics = metrics

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Response | Identity:
        """The identity whose upgrade goes ahead, or the response that ends the connection."""
        path = request.path.partition("?")[0]
        if path == "/healthz" and request.method in ("GET", "HEAD"):
            return health_response(connection, ready=self._health.is_ready())
        decision = self._decide(connection, request, path, now_s)
        if isinstance(decision, Identity):
            return decision
        _log.warning(
            "request_refused",
            extra=fields(reason=decision.code, status=decision.status.value, address=address_of(connection)),
        )
        self._metrics.refused.labels(reason=decision.code).inc()
        return _refuse(connection, decision)

    def release(self, identity: Identity) -> None:
        """The connection of an admitted identity has ended."""
        self._admission.release(identity.uri)

    def _admit(self, identity: Identity, now_s: float, *, resumes: bool) -> Refused | None:
        if resumes:
            return self._admission.admit_resuming(identity.uri, now_s)
        return self._admission.admit(identity.uri, now_s)

    def _decide(
        self, connection: ServerConnection, request: Request, path: str, now_s: float
    ) -> Identity | Refusal:
        right = RIGHT_OF_PATH.get(path)
        if right is None:
            return Refusal(HTTPStatus.NOT_FOUND, "not_found", f"nothing is here; streams go to {schema.PATH}")
        if problem := _not_an_upgrade(request):
            return problem
        try:
            identity = identity_from_der(_peer_certificate(connection), self._trust_domain)
        except IdentityError as exc:
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", str(exc))
        if not self._policy.allows(identity.path, right):
            message = f"this certificate's role may not {right.value}; ask for one of role source"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        refused = self._admit(identity, now_s, resumes=will_resume(request))
        if refused is not None:
            status = HTTPStatus(refused.status)
            code = "too_many" if status is HTTPStatus.TOO_MANY_REQUESTS else refused.error.code
            return Refusal(status, code, str(refused.error), refused.retry_after_s)
        return identity


def will_resume(request: Request) -> bool:
    """Whether the client has said that it goes on with a session, which has its place."""
    return request.path.partition("?")[2] == schema.RESUME_QUERY


def _not_an_upgrade(request: Request) -> Refusal | None:
    if request.method != "GET" or "websocket" not in request.headers.get("Upgrade", "").lower():
        message = f"{schema.PATH} takes WebSocket connections only"
        return Refusal(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", message)
    if "Origin" in request.headers:
        # Browsers attach a client certificate to cross-site sockets too; no page of ours streams yet.
        return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", "web pages may not open streams here")
    offered = request.headers.get_all("Sec-WebSocket-Protocol")
    if schema.SUBPROTOCOL not in {name.strip() for line in offered for name in line.split(",")}:
        message = f"offer the WebSocket subprotocol {schema.SUBPROTOCOL}"
        return Refusal(HTTPStatus.BAD_REQUEST, "subprotocol_required", message)
    return None


def health_response(connection: ServerConnection, *, ready: bool) -> Response:
    """200 or 503, and nothing that tells about the server."""
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return connection.respond(status, "ok\n" if ready else "not ready\n")


def _refuse(connection: ServerConnection, refusal: Refusal) -> Response:
    body = msgspec.json.encode({"code": refusal.code, "message": refusal.message}).decode()
    response = connection.respond(refusal.status, body + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status is HTTPStatus.UPGRADE_REQUIRED:
        response.headers["Upgrade"] = "websocket"
    return response


def _peer_certificate(connection: ServerConnection) -> bytes:
    # websockets has no public way to the TLS object; this is the one place that knows.
    tls = connection.transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    assert isinstance(der, bytes), "TLS admits nobody without a certificate"
    return der


def address_of(connection: ServerConnection) -> str:
    """The peer's address, for logs."""
    peer = connection.transport.get_extra_info("peername")
    return str(peer[0]) if peer else "unknown"
