"""HTTP requests as they come over TLS, through both gates to the answer."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fuzzing.credentials import client_der
from fuzzing.target import Target
from stream_server.core.admission import Admission, AdmissionLimits
from stream_server.core.audit import AuditEvent
from stream_server.core.guests import Guests, Link, sign_link
from stream_server.core.policy import DEFAULT_POLICY, PolicyInForce
from stream_server.core.quotas import AudioQuotas
from stream_server.core.room_log import RoomLimits
from stream_server.core.rooms import Rooms
from stream_server.dialects import schema
from stream_server.dialects.room_wire import encode_room
from stream_server.ops.metrics import Metrics
from stream_server.records import line
from stream_server.transport.gate import Gate, RoomDoor, StreamDoor
from stream_server.transport.guest_gate import GuestGate
from stream_server.transport.pages import StaticPages
from stream_server.transport.responses import Admitted, Doorkeeper

_GENEROUS = AdmissionLimits(1_000_000, 1_000_000, 1_000_000, 1_000_000)
_STATUSES = frozenset({101, 200, 304, 400, 401, 403, 404, 405, 410, 426, 429, 503, 505})
_AUDITED = frozenset(
    {"path:/v1/stream", "path:/v1/rooms", "path:/v1/whoami", "path:/v1/guest/token", "path:?", "room:?"}
)


class _Auditor:
    """Looks at what would be written: nothing that a stranger made up."""

    is_available = True

    def record(self, event: AuditEvent) -> None:
        named = event.resource or "path:?"
        assert named in _AUDITED or named.startswith(("room:", "link:")), named
        entry = line.entry_of(event, seq=0, prev="", host="fuzz", when=_NOW)
        assert len(line.encode(entry)) <= line.LINE_BYTES_MAX

    async def secure(self, event: AuditEvent) -> None:
        raise AssertionError("the listener's affair")


class _Ready:
    def is_ready(self) -> bool:
        return True


@cache
def _gates() -> tuple[Doorkeeper, Doorkeeper]:
    metrics, auditor, policy = Metrics(), _Auditor(), PolicyInForce(DEFAULT_POLICY)
    rooms = Rooms(RoomLimits(), encode_room, new_life=lambda: "0" * 16, unix_s=time.time)
    pages = StaticPages()
    gate = Gate(
        StreamDoor(Admission(_GENEROUS), AudioQuotas(policy, time.time), _serve),
        RoomDoor(Admission(_GENEROUS), rooms, _serve),
        policy,
        "stream-server.local",
        _Ready(),
        metrics,
        auditor,
        pages,
        frozenset({"https://intranet.example"}),
    )
    guests = Guests(_KEY, lambda: 1_000.0)
    guests.set_links([_LINK])
    guest_gate = GuestGate(
        Admission(_GENEROUS), guests, lambda: None, _serve, _Ready(), metrics, auditor, pages.for_guests()
    )
    return gate, guest_gate


async def _serve(*arguments: object) -> None:
    raise AssertionError("nothing is served here")


_NOW = datetime(2026, 11, 21, tzinfo=UTC)
_MINUTES = itertools.count(step=61)
"""When each request comes: the share of a minute is never used up."""
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_LINK = Link("0123456789ab", "hall", 0, 2_000)


def _feed(data: bytes) -> None:
    """One request, asked of both gates; what is refused gets an answer, so nothing is raised."""
    for gate in _gates():
        protocol = ServerProtocol(subprotocols=[Subprotocol(schema.SUBPROTOCOL)], max_size=1 << 17)
        protocol.receive_data(data)
        request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
        if request is not None:
            _check_answer(protocol, request, gate)


def _check_answer(protocol: ServerProtocol, request: Request, gate: Doorkeeper) -> None:
    decision = gate.respond(_connection(protocol), request, next(_MINUTES))  # type: ignore[arg-type]  what it uses is there
    answer = decision if isinstance(decision, Response) else protocol.accept(request)
    if isinstance(decision, Admitted):
        assert protocol.handshake_exc is not None or answer.status_code == 101
        decision.release()
    assert answer.status_code in _STATUSES, answer.status_code
    head, _, body = answer.serialize().partition(b"\r\n\r\n")
    assert head.count(b"\r\n") == head.count(b"\n") == len(list(answer.headers.raw_items()))
    assert body == (answer.body or b"")


def _connection(protocol: ServerProtocol) -> Any:  # stands for a ServerConnection
    tls = SimpleNamespace(getpeercert=lambda *, binary_form: client_der())
    told = {"ssl_object": tls, "peername": ("127.0.0.1", 5)}
    return SimpleNamespace(transport=SimpleNamespace(get_extra_info=told.get), respond=protocol.reject)


_UPGRADE = (
    "Host: localhost:8443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: captions.v1\r\n"
)


def _seeds() -> Iterator[bytes]:
    for path in ("/v1/stream", "/v1/stream?resume", "/v1/rooms/hall", "/v1/rooms/..%2f", "/nothing"):
        yield f"GET {path} HTTP/1.1\r\n{_UPGRADE}\r\n".encode()
        yield f"GET {path} HTTP/1.1\r\n{_UPGRADE}Origin: https://localhost:8443\r\n\r\n".encode()
    yield f"GET /v1/stream HTTP/1.1\r\n{_UPGRADE}Origin: https://evil.example\r\n\r\n".encode()
    for path in ("/", "/room/hall", "/client/wire.js", "/v1/rooms", "/v1/whoami", "/healthz"):
        for method in ("GET", "HEAD", "POST"):
            yield f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *\r\n\r\n".encode()
    link = sign_link(_KEY, _LINK)
    for shown in (link, link[:-2], "x"):
        yield f"GET /v1/guest/token HTTP/1.1\r\nAuthorization: Bearer {shown}\r\n\r\n".encode()


_WORDS = (
    *(f"{name}: ".encode() for name in ("Origin", "Host", "Upgrade", "Authorization", "Content-Length")),
    *(b"If-None-Match: ", b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Version: "),
    *(b"/v1/stream", b"/v1/rooms/", b"/v1/guest/token", b"/room/", b"\r\n", b"HTTP/1.0", b"Bearer ", b"\xff"),
)

http_request = Target(_feed, (), _seeds, _WORDS, n_suite=40)
