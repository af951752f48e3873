"""Every HTTP request before an upgrade: which path, who asks, may he, is there room.

The paths are a closed list. A refusal is a status and a JSON body ``{"code", "message"}``, and one
line in the log with the reason and the address.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from certs.identity import Identity, IdentityError, identity_from_der
from stream_server.core.admission import Admission
from stream_server.core.audit import Auditor
from stream_server.core.networks import contains
from stream_server.core.policy import Policy, PolicyInForce, Right
from stream_server.core.quotas import AudioQuotas
from stream_server.core.rooms import Rooms
from stream_server.core.writer_tokens import TokenTooLong, WriterTokens
from stream_server.dialects import room_schema, schema
from stream_server.errors import AuditUnavailable, QuotaExceeded
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import (
    actor_of,
    report_read,
    request_admitted,
    request_refused,
    token_minted,
)
from stream_server.transport.responses import (
    Admitted,
    Decision,
    Health,
    Pages,
    Recorded,
    Refusal,
    Reports,
    address_of,
    as_list,
    bad_room_name,
    conditions,
    encoded_json_response,
    foreign_origin,
    health_response,
    json_response,
    not_a_get,
    not_a_page_request,
    not_a_post,
    not_an_upgrade,
    not_found,
    page_response,
    refuse,
    resource_of,
    room_in,
    shown,
    too_many,
)
from stream_server.transport.token_request import TokenRequestError, read_token_request

_log = logging.getLogger(__name__)

WHOAMI_PATH = "/v1/whoami"
TOKENS_PATH = "/v1/tokens"
ADMIN_PATH = "/admin/"
REPORT_PATH = "/v1/admin/report"
PATHS = (schema.PATH, room_schema.ROOMS_PATH, WHOAMI_PATH, TOKENS_PATH, ADMIN_PATH, REPORT_PATH)
"""Beside rooms."""
_REPORT_WAIT_S = 1


@dataclass(frozen=True, slots=True)
class StreamDoor:
    """What is behind ``/v1/stream``."""

    admission: Admission
    quotas: AudioQuotas
    serve: Callable[[ServerConnection, Identity], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RoomDoor:
    """What is behind ``/v1/rooms/NAME``."""

    admission: Admission
    rooms: Rooms
    serve: Callable[[ServerConnection, str, Identity], Awaitable[None]]
    """Takes the connection, the room's name, and who the reader is."""


@dataclass(frozen=True, slots=True)
class TokenDoor:
    """What is behind ``/v1/tokens``."""

    admission: Admission
    """Counts the tokens that one identity asks for."""
    tokens: WriterTokens


class Gate:
    """Decides about requests of clients that have a certificate.

    Args:
        streams: Where sources go.
        readers: Where readers go.
        policy: Who may do what.
        trust_domain: Of the names in certificates.
        health: Asked by ``/healthz``.
        metrics: What refusals are counted in.
        auditor: Where refusals are written; who is admitted is written by the listener.
        tokens: Where tokens for writers are made; None where there is no listener that takes them.
        pages: What browsers may load; None for nothing.
        reports: The security report, for admins; None for none.
        origins: Other origins whose pages may open sockets.
    """

    def __init__(
        self,
        streams: StreamDoor,
        readers: RoomDoor,
        policy: PolicyInForce,
        trust_domain: str,
        health: Health,
        metrics: Metrics,
        auditor: Auditor,
        tokens: TokenDoor | None = None,
        pages: Pages | None = None,
        reports: Reports | None = None,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self._streams = streams
        self._readers = readers
        self._policy = policy
        self._trust_domain = trust_domain
        self._health = health
        self._metrics = metrics
        self._auditor = auditor
        self._tokens = tokens
        self._pages = pages
        self._reports = reports
        self._origins = origins

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Decision:
        """What serves the connection after its upgrade, or the response that ends it."""
        path = request.path.partition("?")[0]
        if path == ADMIN_PATH.rstrip("/"):
            path = ADMIN_PATH  # as people type it
        if path == "/healthz" and request.method in ("GET", "HEAD"):
            return health_response(connection, ready=self._health.is_ready())
        if (page := page_response(request, path, self._pages)) is not None:
            return page
        identity = self._identity(connection)
        address = address_of(connection)
        decision = self._decide(identity, request, path, address, now_s)
        if not isinstance(decision, Refusal):
            return decision
        _log.warning(
            "request_refused",
            extra=fields(reason=decision.reason, status=decision.status.value, address=address),
        )
        who = actor_of(identity) if isinstance(identity, Identity) else None
        self._auditor.record(request_refused(who, address, resource_of(path, PATHS), decision.reason))
        self._metrics.refused.labels(reason=decision.code).inc()
        if path == ADMIN_PATH and self._pages is not None and decision.status is HTTPStatus.FORBIDDEN:
            return shown(request, self._pages.refusal())
        return refuse(decision)

    def _identity(self, connection: ServerConnection) -> Identity | IdentityError:
        try:
            return identity_from_der(_peer_certificate(connection), self._trust_domain)
        except IdentityError as exc:
            return exc

    def _decide(
        self, identity: Identity | IdentityError, request: Request, path: str, address: str, now_s: float
    ) -> Decision | Refusal:
        room = room_in(path)
        if problem := self._problem(request, path, room):
            return problem
        if isinstance(identity, IdentityError):
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", str(identity), problem=identity.code)
        rule = self._policy.current.rule_for(identity.path)
        if not contains(rule.networks, address):
            message = "this certificate may not be used from this address; the policy names its networks"
            return Refusal(HTTPStatus.FORBIDDEN, "address_not_allowed", message)
        acts = path in (schema.PATH, TOKENS_PATH) or room is not None
        if acts and not rule.programs and not request.headers.get_all("Origin"):
            message = (
                "this certificate may be used in browsers only, which name the page's origin; see the policy"
            )
            return Refusal(HTTPStatus.FORBIDDEN, "origin_required", message)
        if path == WHOAMI_PATH:
            return self._tell_identity(identity)
        if path == room_schema.ROOMS_PATH:
            return self._list_rooms(identity)
        if path == TOKENS_PATH:
            return self._mint(identity, request, address, now_s)
        if path in (ADMIN_PATH, REPORT_PATH):
            return self._administer(identity, request, path, address)
        if room is not None:
            return self._admit_reader(identity, room, address, now_s)
        return self._admit_stream(identity, address, now_s, resumes=will_resume(request))

    def _problem(self, request: Request, path: str, room: str | None) -> Refusal | None:
        """What is wrong with a request, whoever asks."""
        if path == ADMIN_PATH:
            return not_a_page_request(request, path)
        if path in (room_schema.ROOMS_PATH, WHOAMI_PATH, REPORT_PATH):
            return not_a_get(request, path)
        if path == TOKENS_PATH:
            return not_a_post(request, path) or foreign_origin(request, self._origins)
        if room is not None:
            return bad_room_name(room) or not_an_upgrade(request, path, self._origins)
        return not_an_upgrade(request, path, self._origins) if path == schema.PATH else not_found()

    def _admit_stream(
        self, identity: Identity, address: str, now_s: float, *, resumes: bool
    ) -> Admitted | Refusal:
        policy = self._policy.current
        if not policy.allows(identity.path, Right.STREAM):
            message = "this certificate may not stream; the policy gives it no such right"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        door = self._streams
        if full := take_place(door.admission, door.quotas, policy, identity, now_s, resumes=resumes):
            return full
        return Admitted(
            lambda connection: door.serve(connection, identity),
            partial(door.admission.release, identity.uri),
            request_admitted(identity, address, resource_of(schema.PATH, PATHS)),
        )

    def _admit_reader(self, identity: Identity, room: str, address: str, now_s: float) -> Admitted | Refusal:
        policy = self._policy.current
        if not policy.may_read(identity.path, room):
            message = "this certificate may not read this room; ask whoever runs the server for the right to"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        door = self._readers
        refused = door.admission.admit(identity.uri, now_s, policy.rule_for(identity.path).quota)
        if refused is not None:
            return too_many(refused)
        return Admitted(
            lambda connection: door.serve(connection, room, identity),
            partial(door.admission.release, identity.uri),
            request_admitted(identity, address, f"room:{room}"),
        )

    def _mint(self, identity: Identity, request: Request, address: str, now_s: float) -> Recorded | Refusal:
        """A token by which somebody without a certificate sends audio in this identity's place."""
        door = self._tokens
        if door is None:
            message = "this server takes no tokens; its operator can open the listener for them, [guest]"
            return Refusal(HTTPStatus.NOT_FOUND, "not_found", message)
        try:
            wanted = read_token_request(request.path.partition("?")[2], address)
        except TokenRequestError as exc:
            return Refusal(HTTPStatus.BAD_REQUEST, "bad_request", str(exc))
        denial = self._policy.current.token_denial(identity.path, room=wanted.room, network=wanted.network)
        if denial is not None:
            message = f"this certificate may not have such a token made: {denial.value}"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        if refused := door.admission.admit(identity.uri, now_s):
            return too_many(refused)
        door.admission.release(identity.uri)
        try:
            token, text = door.tokens.mint(
                identity,
                room=wanted.room,
                network=wanted.network,
                name=wanted.name,
                lifetime_s=wanted.lifetime_s,
            )
        except TokenTooLong as exc:
            return Refusal(HTTPStatus.BAD_REQUEST, "bad_request", str(exc))
        answer = {
            "token": text,
            "id": token.id,
            "expires_in_seconds": token.expires_s - token.issued_s,
            "room": token.room,
            "network": str(token.network),
            "name": token.name,
        }
        return Recorded(json_response(HTTPStatus.OK, answer), token_minted(token, address))

    def _administer(
        self, identity: Identity, request: Request, path: str, address: str
    ) -> Response | Recorded | Refusal:
        """The admins' page, or the report that it shows."""
        if not self._policy.current.allows(identity.path, Right.ADMINISTER):
            message = "this certificate may not administer; the policy gives it no such right"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        if path == ADMIN_PATH:
            page = None if self._pages is None else self._pages.answer_admin(path, conditions(request))
            return not_found() if page is None else shown(request, page)
        if self._reports is None:
            return not_found()
        if (as_list(request.headers, "Sec-Fetch-Site") or "none") not in ("none", "same-origin"):
            message = "a page of another origin may not ask for the report"
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", message)
        try:
            report = self._reports.ask()
        except AuditUnavailable as exc:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, exc.code, str(exc))
        if report is None:
            headers = [("Retry-After", str(_REPORT_WAIT_S))]
            return json_response(HTTPStatus.ACCEPTED, {"state": "reading"}, headers)
        event = report_read(identity, address, resource_of(path, PATHS))
        return Recorded(encoded_json_response(HTTPStatus.OK, report), event)

    def _list_rooms(self, identity: Identity) -> Response:
        """The rooms that are open and that this identity may read."""
        rooms = [
            {"room": room.name, "sources": room.n_sources, "readers": room.n_readers}
            for room in self._readers.rooms
            if self._policy.current.may_read(identity.path, room.name)
        ]
        return json_response(HTTPStatus.OK, {"rooms": rooms})

    def _tell_identity(self, identity: Identity) -> Response:
        """Who the asking client is to this server, and what it may do."""
        rule = self._policy.current.rule_for(identity.path)
        return json_response(
            HTTPStatus.OK,
            {
                "identity": identity.path,
                "fingerprint": identity.short,
                "expires": identity.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "rights": sorted(right.value for right in rule.rights),
                "publish": list(rule.publish),
                "read": list(rule.read),
            },
        )


def take_place(
    admission: Admission,
    quotas: AudioQuotas,
    policy: Policy,
    identity: Identity,
    now_s: float,
    *,
    resumes: bool,
) -> Refusal | None:
    """Take a place for a stream out of an identity's share, or say why there is none.

    The place is given back by ``admission.release(identity.uri)``.
    """
    if resumes:
        refused = admission.admit_resuming(identity.uri, now_s)
    elif quotas.is_spent(identity.path):
        message = "this certificate has sent all the audio it may send before midnight UTC"
        wait_s = quotas.until_tomorrow_s()
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, QuotaExceeded.code, message, wait_s)
    else:
        refused = admission.admit(identity.uri, now_s, policy.rule_for(identity.path).quota)
    return None if refused is None else too_many(refused)


def will_resume(request: Request) -> bool:
    """Whether the client has said that it goes on with a session, which has its place."""
    return request.path.partition("?")[2] == schema.RESUME_QUERY


def _peer_certificate(connection: ServerConnection) -> bytes:
    # websockets has no public way to the TLS object; this is the one place that knows.
    tls = connection.transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    assert isinstance(der, bytes), "TLS admits nobody without a certificate"
    return der
