"""HTTP requests as they come over TLS, through both gates to the answer."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fuzzing.credentials import client_der, writer_token, writer_tokens
from fuzzing.target import Target
from stream_server.core.admission import Admission, AdmissionLimits
from stream_server.core.audit import AuditEvent
from stream_server.core.guests import Guests, Link, sign_link
from stream_server.core.policy import DEFAULT_POLICY, PolicyInForce
from stream_server.core.quotas import AudioQuotas
from stream_server.core.room_log import RoomLimits
from stream_server.core.rooms import Rooms
from stream_server.core.signed import Keys, KeysInForce
from stream_server.dialects import schema
from stream_server.dialects.room_wire import encode_room
from stream_server.ops.metrics import Metrics
from stream_server.records import line
from stream_server.transport.gate import PATHS, Gate, RoomDoor, StreamDoor, TokenDoor
from stream_server.transport.guest_gate import TOKEN_PATH, GuestGate, WriterDoor
from stream_server.transport.pages import StaticPages
from stream_server.transport.proxy_header import (
    HEADER_BYTES_MAX,
    SIGNATURE,
    ProxyHeaderError,
    missing_bytes,
    source_address,
)
from stream_server.transport.responses import Admitted, Doorkeeper, Recorded

_GENEROUS = AdmissionLimits(1_000_000, 1_000_000, 1_000_000, 1_000_000)
_STATUSES = frozenset({101, 200, 202, 304, 400, 401, 403, 404, 405, 410, 426, 429, 503, 505})
_AUDITED = frozenset(f"path:{path}" for path in (*PATHS, TOKEN_PATH, "?"))


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
    pages, tokens, quotas = StaticPages(), writer_tokens(), AudioQuotas(policy, time.time)
    origins = frozenset({"https://intranet.example"})
    gate = Gate(
        StreamDoor(Admission(_GENEROUS), quotas, _serve),
        RoomDoor(Admission(_GENEROUS), rooms, _serve),
        policy,
        "stream-server.local",
        _Ready(),
        metrics,
        auditor,
        TokenDoor(Admission(_GENEROUS), tokens),
        pages,
        _Report(),
        origins,
    )
    guests = Guests(KeysInForce(Keys(_KEY)), lambda: 1_000.0)
    guests.set_links([_LINK])
    writers = WriterDoor(
        tokens,
        Admission(_GENEROUS),
        Admission(_GENEROUS),
        quotas,
        policy,
        lambda token, address: None,
        _serve,
        origins,
    )
    guest_gate = GuestGate(
        Admission(_GENEROUS),
        guests,
        lambda: None,
        _serve,
        _Ready(),
        metrics,
        auditor,
        writers,
        pages.for_guests(),
    )
    return gate, guest_gate


class _Report:
    def ask(self) -> bytes | None:
        return b"{}"


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
    if isinstance(decision, Recorded):
        decision = decision.response
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
    for query in ("room=hall&network=10.0.0.0/8&name=Anna&seconds=600", "room=%ff", "seconds=1e9&seconds=2"):
        yield f"POST /v1/tokens?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for path in ("/admin/", "/admin", "/v1/admin/report"):
        yield f"GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n\r\n".encode()
    shown = f"Authorization: Bearer {writer_token()}\r\n"
    yield f"GET /v1/stream HTTP/1.1\r\n{_UPGRADE}{shown}\r\n".encode()
    yield f"GET /v1/stream HTTP/1.1\r\n{_UPGRADE}{shown}{shown}\r\n".encode()
    link = sign_link(_KEY, _LINK)
    for shown in (link, link[:-2], "x"):
        yield f"GET /v1/guest/token HTTP/1.1\r\nAuthorization: Bearer {shown}\r\n\r\n".encode()


_WORDS = (
    *(f"{name}: ".encode() for name in ("Origin", "Host", "Upgrade", "Authorization", "Content-Length")),
    *(b"If-None-Match: ", b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Version: "),
    *(b"/v1/stream", b"/v1/rooms/", b"/v1/guest/token", b"/room/", b"\r\n", b"HTTP/1.0", b"Bearer ", b"\xff"),
)


def _feed_proxy_header(data: bytes) -> None:
    """As it is read from a balancer: no byte more than was asked for."""
    seen = b""
    while n_missing := missing_bytes(seen):
        piece = data[len(seen) : len(seen) + n_missing]
        if not piece:
            return
        seen += piece
        assert len(seen) <= HEADER_BYTES_MAX
    source = source_address(seen)
    assert source is None or ip_address(source)


proxy_header = Target(
    _feed_proxy_header,
    (ProxyHeaderError,),
    lambda: [
        SIGNATURE + b"\x21\x11\x00\x0c\x0a\x00\x00\x07\x7f\x00\x00\x01\x10\x00\x20\xfb",
        SIGNATURE + b"\x21\x21\x00\x24" + bytes(36),
        SIGNATURE + b"\x20\x00\x00\x00",
        b"PROXY TCP4 ",
    ],
    (SIGNATURE, b"\x21\x11", b"\xff\xff", b"\x00\x00"),
    bytes_max=4_096,
)

http_request = Target(_feed, (), _seeds, _WORDS, n_suite=40)
