"""Every HTTP request of the guest listener: pages, tokens for links, rooms and streams for tokens, no more.

Nothing is known of a guest before he shows a token, so what is limited is his address. Links and tokens are
never logged.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream_server.core.admission import Admission
from stream_server.core.audit import Auditor
from stream_server.core.guests import Guests
from stream_server.core.networks import limited_by
from stream_server.core.policy import PolicyInForce
from stream_server.core.quotas import AudioQuotas
from stream_server.core.signed import NotSigned
from stream_server.core.writer_tokens import WriterToken, WriterTokens
from stream_server.dialects import schema
from stream_server.errors import LinkExpired, TokenExpired
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import (
    actor_of,
    guest_admitted,
    request_refused,
    writer_admitted,
)
from stream_server.transport.gate import take_place, will_resume
from stream_server.transport.presence import Objection
from stream_server.transport.responses import (
    Admitted,
    Decision,
    Health,
    Pages,
    Refusal,
    address_of,
    bad_room_name,
    bearer_tokens,
    health_response,
    json_response,
    not_a_get,
    not_an_upgrade,
    page_response,
    refuse,
    resource_of,
    room_in,
    too_many,
)

_log = logging.getLogger(__name__)

TOKEN_PATH = "/v1/guest/token"  # noqa: S105  a path
GUEST = "guest"
"""What stands for every guest in logs: nothing better is known of him."""
_KNOWN_PATHS = (TOKEN_PATH, schema.PATH)


@dataclass(frozen=True, slots=True)
class WriterDoor:
    """What is behind ``/v1/stream`` for those who have a token."""

    tokens: WriterTokens
    addresses: Admission
    """Counts by address: of whoever has shown no good token yet, nothing else is known."""
    streams: Admission
    """Places for streams, those of certificates too; a token takes one of its maker's."""
    quotas: AudioQuotas
    policy: PolicyInForce
    objection: Callable[[WriterToken, str], Objection | None]
    """Why a token is worth nothing at an address although it is ours and in its time."""
    serve: Callable[[ServerConnection, WriterToken], Awaitable[None]]
    origins: frozenset[str]
    """Other origins whose pages may open sockets."""


class GuestGate:
    """Decides about requests of guests.

    Args:
        admission: Places and connects by address.
        guests: Exchanges links for tokens.
        refresh: Takes in links made a moment ago.
        serve: Takes the connection, the room's name, and what stands for the reader in logs.
        health: Asked by ``/healthz``.
        metrics: What refusals are counted in.
        auditor: Where refusals are written; who is admitted is written by the listener.
        writers: Where senders go.
        pages: What browsers may load; None for nothing.
    """

    def __init__(
        self,
        admission: Admission,
        guests: Guests,
        refresh: Callable[[], None],
        serve: Callable[[ServerConnection, str, str], Awaitable[None]],
        health: Health,
        metrics: Metrics,
        auditor: Auditor,
        writers: WriterDoor,
        pages: Pages | None = None,
    ) -> None:
        self._admission = admission
        self._guests = guests
        self._refresh = refresh
        self._serve = serve
        self._health = health
        self._metrics = metrics
        self._auditor = auditor
        self._writers = writers
        self._pages = pages

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Decision:
        """What serves the connection after its upgrade, or the response that ends it."""
        path = request.path.partition("?")[0]
        if path == "/healthz" and request.method in ("GET", "HEAD"):
            return health_response(connection, ready=self._health.is_ready())
        if (page := page_response(request, path, self._pages)) is not None:
            return page
        address = address_of(connection)
        decision = self._decide(request, path, address, now_s)
        if not isinstance(decision, Refusal):
            return decision
        _log.warning(
            "guest_refused", extra=fields(reason=decision.code, status=decision.status.value, address=address)
        )
        self._metrics.refused.labels(reason=decision.code).inc()
        resource = resource_of(path, _KNOWN_PATHS)
        self._auditor.record(request_refused(decision.actor, address, resource, decision.code))
        return refuse(decision)

    def _decide(self, request: Request, path: str, address: str, now_s: float) -> Decision | Refusal:
        room = room_in(path)
        if path == schema.PATH:
            return self._admit_writer(request, address, now_s)
        if path == TOKEN_PATH:
            return not_a_get(request, path) or self._give_token(request, address, now_s)
        if room is None:
            return Refusal(HTTPStatus.NOT_FOUND, "not_found", "nothing is here; open the link you were given")
        if problem := bad_room_name(room) or not_an_upgrade(request, path):
            return problem
        limited = limited_by(address)
        refused = self._admission.admit(limited, now_s)
        if refused is not None:
            return too_many(refused)
        return Admitted(
            lambda connection: self._serve(connection, room, GUEST),
            partial(self._admission.release, limited),
            guest_admitted(address, resource_of(path, _KNOWN_PATHS)),
        )

    def _admit_writer(self, request: Request, address: str, now_s: float) -> Admitted | Refusal:
        door = self._writers
        if problem := not_an_upgrade(request, schema.PATH, door.origins):
            return problem
        if request.path.partition("?")[2] not in ("", schema.RESUME_QUERY):
            message = "nothing goes into the query: addresses are written down; show a token in a header"
            return Refusal(HTTPStatus.BAD_REQUEST, "query_not_allowed", message)
        limited = limited_by(address)
        refused = door.addresses.admit(limited, now_s)
        if refused is not None:
            return too_many(refused)
        opened = self._open_token(request, address, now_s)
        if isinstance(opened, Refusal):
            door.addresses.release(limited)
            return opened

        def release() -> None:
            door.addresses.release(limited)
            door.streams.release(opened.minter.uri)

        return Admitted(
            lambda connection: door.serve(connection, opened), release, writer_admitted(opened, address)
        )

    def _open_token(self, request: Request, address: str, now_s: float) -> WriterToken | Refusal:
        """The one token that a request shows, with a place taken out of its maker's share."""
        door = self._writers
        shown = bearer_tokens(request)
        if len(shown) != 1:
            message = "show one token: in Authorization: Bearer, or as the subprotocol bearer.TOKEN"
            return Refusal(HTTPStatus.UNAUTHORIZED, "token_required", message)
        try:
            token = door.tokens.open(shown[0])
        except NotSigned:
            message = "this is no token of this server, or it was altered; get another one"
            return Refusal(HTTPStatus.UNAUTHORIZED, "token_invalid", message)
        except TokenExpired as exc:
            return Refusal(HTTPStatus.UNAUTHORIZED, exc.code, str(exc))
        objection = door.objection(token, address)
        if objection is not None:
            message = str(objection.error)
            actor = actor_of(token.minter)
            return Refusal(HTTPStatus.FORBIDDEN, f"token_{objection.reason}", message, actor=actor)
        policy, resumes = door.policy.current, will_resume(request)
        full = take_place(door.streams, door.quotas, policy, token.minter, now_s, resumes=resumes)
        return token if full is None else replace(full, actor=actor_of(token.minter))

    def _give_token(self, request: Request, address: str, now_s: float) -> Response | Refusal:
        limited = limited_by(address)
        refused = self._admission.admit(limited, now_s)
        if refused is not None:
            return too_many(refused)
        self._admission.release(limited)
        self._refresh()
        shown = bearer_tokens(request)
        try:
            grant = self._guests.exchange(shown[0] if len(shown) == 1 else "")
        except NotSigned as exc:
            return Refusal(HTTPStatus.UNAUTHORIZED, "link_invalid", str(exc))
        except LinkExpired as exc:
            return Refusal(HTTPStatus.GONE, exc.code, str(exc))
        self._auditor.record(guest_admitted(address, f"link:{grant.link.id}"))
        return json_response(
            HTTPStatus.OK,
            {
                "token": grant.token,
                "expires_in_seconds": grant.expires_s,
                "room": grant.link.room,
                "link_expires_in_seconds": grant.link_expires_s,
            },
        )
