"""HTTP answers before an upgrade, and the checks that every WebSocket request must pass."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stream_server.core.admission import Refused
from stream_server.core.audit import Actor, AuditEvent
from stream_server.core.room_messages import ROOM_RULE, is_room_name
from stream_server.dialects import room_schema, schema

Page = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers without ``Content-Length``, and body."""


class Health(Protocol):
    """Whether the server can do its work."""

    def is_ready(self) -> bool:
        """The engine answers and the server is not stopping."""


class Pages(Protocol):
    """What browsers may load."""

    def answer(self, path: str, headers: Mapping[str, str]) -> Page | None:
        """Status, headers and body for a GET or HEAD of ``path``, without its query; None: no such page."""

    def answer_admin(self, path: str, headers: Mapping[str, str]) -> Page | None:
        """The same for the pages that only admins may see."""

    def refusal(self) -> Page:
        """What everybody else sees in their place."""


class Reports(Protocol):
    """The security report."""

    def ask(self) -> bytes | None:
        """The report as JSON; None while it is being made.

        Raises:
            AuditUnavailable: It cannot be made.
        """


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no upgrade."""

    status: HTTPStatus
    code: str
    message: str
    retry_after_s: int | None = None
    allow: str = "GET"
    """The method, where that was wrong."""
    actor: Actor | None = None
    """Whom the audit log is to name, where the request does not tell by a certificate."""
    problem: str | None = None
    """A code that says more than ``code``, for the operator only."""

    @property
    def reason(self) -> str:
        """For logs."""
        return self.problem or self.code


@dataclass(frozen=True, slots=True)
class Recorded:
    """A response that may be given only once something stands in the audit log."""

    response: Response
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose upgrade goes ahead."""

    serve: Callable[[ServerConnection], Awaitable[None]]
    """Runs the connection to its end."""
    release: Callable[[], None]
    """Gives its place back; called once, when the connection has ended or was never made."""
    event: AuditEvent
    """What must stand in the audit log before the upgrade."""


Decision = Response | Recorded | Admitted


class Doorkeeper(Protocol):
    """Decides about each request of a listener."""

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Decision:
        """The response that ends the connection, or what serves it after the upgrade."""


def health_response(connection: ServerConnection, *, ready: bool) -> Response:
    """200 or 503, and nothing that tells about the server."""
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return connection.respond(status, "ok\n" if ready else "not ready\n")


def refuse(refusal: Refusal) -> Response:
    """The status, with a body ``{"code", "message"}``."""
    headers: list[tuple[str, str]] = []
    if refusal.retry_after_s is not None:
        headers.append(("Retry-After", str(refusal.retry_after_s)))
    if refusal.status is HTTPStatus.UPGRADE_REQUIRED:
        headers.append(("Upgrade", "websocket"))
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", refusal.allow))
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))
    return json_response(refusal.status, {"code": refusal.code, "message": refusal.message}, headers)


def json_response(status: HTTPStatus, value: object, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """A JSON body that nobody may keep."""
    return encoded_json_response(status, msgspec.json.encode(value) + b"\n", headers)


def encoded_json_response(
    status: HTTPStatus, body: bytes, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """The same where the body is JSON already."""
    kept = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return _response(status, [*kept, *headers], body)


def page_response(request: Request, path: str, pages: Pages | None) -> Response | None:
    """A page for a browser, or None when there is none at ``path``."""
    if pages is None or request.method not in ("GET", "HEAD"):
        return None
    page = pages.answer(path, conditions(request))
    return None if page is None else shown(request, page)


def shown(request: Request, page: Page) -> Response:
    """A page as the response to a GET or HEAD."""
    status, headers, body = page
    response = _response(HTTPStatus(status), headers, body)
    if request.method == "HEAD":
        response.body = b""
    return response


def _response(status: HTTPStatus, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
    # As websockets' own ServerConnection.respond, which takes text only.
    named = Headers([("Connection", "close"), ("Content-Length", str(len(body))), *headers])
    return Response(status.value, status.phrase, named, body)


def conditions(request: Request) -> Mapping[str, str]:
    """The headers of a request that decide whether a page is sent again."""
    return {"If-None-Match": as_list(request.headers, "If-None-Match")}


def as_list(headers: Headers, name: str) -> str:
    """What every line of this name says, as the one list that they are (RFC 9110, 5.3)."""
    return ", ".join(headers.get_all(name))


def too_many(refused: Refused) -> Refusal:
    """What admission says, as HTTP says it."""
    status = HTTPStatus(refused.status)
    code = "too_many" if status is HTTPStatus.TOO_MANY_REQUESTS else refused.error.code
    return Refusal(status, code, str(refused.error), refused.retry_after_s)


def not_found() -> Refusal:
    """Nothing is at this path."""
    message = f"nothing is here; streams go to {schema.PATH}, readers to {room_schema.ROOMS_PATH}/NAME"
    return Refusal(HTTPStatus.NOT_FOUND, "not_found", message)


def resource_of(path: str, known: Collection[str]) -> str:
    """What a request was for, as the audit log names it: never what a stranger wrote."""
    room = room_in(path)
    if room is not None:
        return f"room:{room}" if is_room_name(room) else "room:?"
    return f"path:{path}" if path in known else "path:?"


def room_in(path: str) -> str | None:
    """What stands where a room's name belongs, if the path is of that family."""
    head, _, name = path.rpartition("/")
    return name if head == room_schema.ROOMS_PATH else None


def bad_room_name(name: str) -> Refusal | None:
    """Why a room cannot have this name."""
    return None if is_room_name(name) else Refusal(HTTPStatus.BAD_REQUEST, "bad_room_name", ROOM_RULE)


def not_a_get(request: Request, path: str) -> Refusal | None:
    """Why a request does not ask for something to read."""
    if request.method == "GET":
        return None
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"{path} takes GET only")


def not_a_post(request: Request, path: str) -> Refusal | None:
    """Why a request asks for nothing to be done."""
    if request.method == "POST":
        return None
    return Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"{path} takes POST only", allow="POST"
    )


def foreign_origin(request: Request, origins: frozenset[str]) -> Refusal | None:
    """Why a page may not ask: it is neither this server's nor of another origin that is named.

    Args:
        request: What was asked.
        origins: Other origins whose pages may ask.
    """
    if _is_same_origin(request) or _origin_in(request, origins):
        return None
    message = "a page of another origin may not do this here, unless server.origins names it"
    return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)


def bearer_tokens(request: Request) -> list[str]:
    """The tokens that a request shows; more than one is a mistake of the client's.

    Programs show theirs in ``Authorization: Bearer``. A page cannot set that header for a socket; it offers
    ``bearer.TOKEN`` among the subprotocols.
    """
    shown = []
    for line in request.headers.get_all("Authorization"):
        scheme, _, token = line.partition(" ")
        if scheme.lower() == "bearer":
            shown.append(token.strip())
    offered = (
        name.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol") for name in line.split(",")
    )
    prefix = schema.BEARER_PREFIX
    return shown + [name.removeprefix(prefix) for name in offered if name.startswith(prefix)]


def not_a_page_request(request: Request, path: str) -> Refusal | None:
    """Why a request does not ask for a page."""
    return None if request.method == "HEAD" else not_a_get(request, path)


def not_an_upgrade(request: Request, path: str, origins: frozenset[str] = frozenset()) -> Refusal | None:
    """Why a request is no WebSocket request of ours.

    Args:
        request: What was asked.
        path: Without its query.
        origins: Other origins whose pages may ask.
    """
    if request.method != "GET" or "websocket" not in as_list(request.headers, "Upgrade").lower():
        message = f"{path} takes WebSocket connections only"
        return Refusal(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", message)
    if problem := foreign_origin(request, origins):
        return problem
    offered = request.headers.get_all("Sec-WebSocket-Protocol")
    if schema.SUBPROTOCOL not in {name.strip() for line in offered for name in line.split(",")}:
        message = f"offer the WebSocket subprotocol {schema.SUBPROTOCOL}"
        return Refusal(HTTPStatus.BAD_REQUEST, "subprotocol_required", message)
    return None


def _is_same_origin(request: Request) -> bool:
    """Whether no page asks, or one of this server.

    Browsers attach a client certificate to sockets that a foreign page opens, too, and always name the
    page's origin. ``Host`` can be trusted in comparison: a page of another name that leads to this server
    gets no TLS connection, since our certificate is not for that name.
    """
    origins = request.headers.get_all("Origin")
    hosts = request.headers.get_all("Host")
    return not origins or (len(hosts) == 1 and origins == [f"https://{hosts[0]}"])


def _origin_in(request: Request, origins: frozenset[str]) -> bool:
    """Whether a page of one of these origins asks."""
    named = request.headers.get_all("Origin")
    return len(named) == 1 and named[0] in origins


class AddressedConnection(ServerConnection):
    """A connection that knows from where its client came: with a proxy in between, not from its peer."""

    client_address: str
    """Set by the listener."""


def address_of(connection: ServerConnection) -> str:
    """The client's address, for logs and limits."""
    return connection.client_address if isinstance(connection, AddressedConnection) else "unknown"
