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
from stream_server.core.policy import PolicyInForce, Right
from stream_server.core.quotas import AudioQuotas
from stream_server.core.rooms import Rooms
from stream_server.dialects import schema
from stream_server.errors import QuotaExceeded
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import request_admitted, request_refused
from stream_server.transport.responses import (
    Admitted,
    Health,
    Pages,
    Refusal,
    address_of,
    bad_room_name,
    health_response,
    json_response,
    not_a_get,
    not_an_upgrade,
    not_found,
    page_response,
    refuse,
    resource_of,
    room_in,
    too_many,
)

_log = logging.getLogger(__name__)

WHOAMI_PATH = "/v1/whoami"
PATHS = (schema.PATH, schema.ROOMS_PATH, WHOAMI_PATH)
"""Beside rooms."""


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
        pages: What browsers may load; None for nothing.
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
        pages: Pages | None = None,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self._streams = streams
        self._readers = readers
        self._policy = policy
        self._trust_domain = trust_domain
        self._health = health
        self._metrics = metrics
        self._auditor = auditor
        self._pages = pages
        self._origins = origins

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Response | Admitted:
        """What serves the connection after its upgrade, or the response that ends it."""
        path = request.path.partition("?")[0]
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
            extra=fields(reason=decision.code, status=decision.status.value, address=address),
        )
        who = identity if isinstance(identity, Identity) else None
        self._auditor.record(request_refused(who, address, resource_of(path, PATHS), decision.code))
        self._metrics.refused.labels(reason=decision.code).inc()
        return refuse(decision)

    def _identity(self, connection: ServerConnection) -> Identity | IdentityError:
        try:
            return identity_from_der(_peer_certificate(connection), self._trust_domain)
        except IdentityError as exc:
            return exc

    def _decide(
        self, identity: Identity | IdentityError, request: Request, path: str, address: str, now_s: float
    ) -> Response | Admitted | Refusal:
        room = room_in(path)
        if problem := self._problem(request, path, room):
            return problem
        if isinstance(identity, IdentityError):
            return Refusal(HTTPStatus.FORBIDDEN, "not_allowed", str(identity))
        if not contains(self._policy.current.rule_for(identity.path).networks, address):
            message = "this certificate may not be used from this address; the policy names its networks"
            return Refusal(HTTPStatus.FORBIDDEN, "address_not_allowed", message)
        if path == WHOAMI_PATH:
            return self._tell_identity(identity)
        if path == schema.ROOMS_PATH:
            return self._list_rooms(identity)
        if room is not None:
            return self._admit_reader(identity, room, address, now_s)
        return self._admit_stream(identity, address, now_s, resumes=will_resume(request))

    def _problem(self, request: Request, path: str, room: str | None) -> Refusal | None:
        """What is wrong with a request, whoever asks."""
        if path in (schema.ROOMS_PATH, WHOAMI_PATH):
            return not_a_get(request, path)
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
        if resumes:
            refused = door.admission.admit_resuming(identity.uri, now_s)
        elif door.quotas.is_spent(identity.path):
            message = "this certificate has sent all the audio it may send before midnight UTC"
            wait_s = door.quotas.until_tomorrow_s()
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, QuotaExceeded.code, message, wait_s)
        else:
            refused = door.admission.admit(identity.uri, now_s, policy.rule_for(identity.path).quota)
        if refused is not None:
            return too_many(refused)
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


def will_resume(request: Request) -> bool:
    """Whether the client has said that it goes on with a session, which has its place."""
    return request.path.partition("?")[2] == schema.RESUME_QUERY


def _peer_certificate(connection: ServerConnection) -> bytes:
    # websockets has no public way to the TLS object; this is the one place that knows.
    tls = connection.transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    assert isinstance(der, bytes), "TLS admits nobody without a certificate"
    return der
