"""Every HTTP request of the guest listener: pages, tokens for links, rooms for tokens, and nothing else.

Nothing is known of a guest before he shows a token, so what is limited is his address. Links and tokens are
never logged.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream_server.core.admission import Admission
from stream_server.core.audit import Auditor
from stream_server.core.guests import Guests
from stream_server.core.networks import limited_by
from stream_server.core.signed import NotSigned
from stream_server.errors import LinkExpired
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import guest_admitted, request_refused
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
        pages: Pages | None = None,
    ) -> None:
        self._admission = admission
        self._guests = guests
        self._refresh = refresh
        self._serve = serve
        self._health = health
        self._metrics = metrics
        self._auditor = auditor
        self._pages = pages

    def respond(self, connection: ServerConnection, request: Request, now_s: float) -> Response | Admitted:
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
        self._auditor.record(request_refused(None, address, resource_of(path, [TOKEN_PATH]), decision.code))
        return refuse(decision)

    def _decide(
        self, request: Request, path: str, address: str, now_s: float
    ) -> Response | Admitted | Refusal:
        room = room_in(path)
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
            guest_admitted(address, resource_of(path, [TOKEN_PATH])),
        )

    def _give_token(self, request: Request, address: str, now_s: float) -> Response | Refusal:
        limited = limited_by(address)
        refused = self._admission.admit(limited, now_s)
        if refused is not None:
            return too_many(refused)
        self._admission.release(limited)
        self._refresh()
        scheme, _, link = request.headers.get("Authorization", "").partition(" ")
        try:
            grant = self._guests.exchange(link.strip() if scheme.lower() == "bearer" else "")
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
