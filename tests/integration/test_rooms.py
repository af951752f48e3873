"""Rooms over real TLS with the deterministic engine: sources publish, readers read, nobody waits."""

import asyncio
import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import websockets
from live_server import FINISH, PAUSE, START, LiveServer, WireClient, live_server, wire
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.core.messages import Final, Limits, ServerEvent, SessionId, Started
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.transport import room_reader

READ: dict[str, Any] = {"type": "read"}
GENEROUS = {"readers_per_identity": 1000, "connects_per_minute": 100_000}


@pytest.fixture(scope="module")
def house(pki: Pki) -> Iterator[LiveServer]:
    """A server with rooms for many readers of one certificate."""
    with live_server(pki, rooms=GENEROUS) as running:
        yield running


@pytest.fixture(scope="session")
def reader(pki: Pki) -> ClientPair:
    """A certificate that may read and not stream."""
    return pki.client("hall", "reader")


def room_url(server: LiveServer, room: str) -> str:
    return server.url.replace("/v1/stream", f"/v1/rooms/{room}")


def reading(
    server: LiveServer, pki: Pki, pair: ClientPair, room: str, **options: Any
) -> AbstractAsyncContextManager[WireClient]:
    """A connection to a room, before its ``read``."""
    return wire(room_url(server, room), pki, pair, **options)


def speaking(server: LiveServer, pki: Pki, pair: ClientPair) -> AbstractAsyncContextManager[WireClient]:
    return wire(server.url, pki, pair)


def start(room: str, **more: object) -> dict[str, Any]:
    return {**START, "room": room, **more}


async def finals(client: WireClient, n: int) -> list[dict[str, Any]]:
    while len(client.of("final")) < n:
        await client.receive("final")
    return client.of("final")


def numbers(client: WireClient) -> list[int]:
    return [number for final in client.of("final") for number in numbers_in(final["text"])]


async def test_readers_early_and_late_get_every_final_once(
    house: LiveServer, pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    async with (
        speaking(house, pki, source) as anna,
        reading(house, pki, reader, "early-late") as early,
        reading(house, pki, reader, "early-late") as late,
    ):
        await early.send(READ)
        joined = await early.receive("joined")
        assert (joined["first"], joined["last"], joined["sources"], joined["gap"]) == (1, 0, [], False)
        await anna.send(start("early-late", speaker="Anna"), numbered_speech(range(40)).tobytes(), PAUSE)
        await finals(early, 1)
        await late.send(READ)
        joined = await late.receive("joined")
        assert [source["speaker"] for source in joined["sources"]] == ["Anna"]
        await anna.send(numbered_speech(range(40, 90)).tobytes(), FINISH)
        for client in (early, late):
            await client.receive("source_left")
            assert numbers(client) == list(range(90))
            durable = [event for event in client.events if "event" in event]
            assert [event["event"] for event in durable] == list(range(1, len(durable) + 1))
            assert all("seq" not in event for event in client.events)
        await anna.rest()
        assert [final["text"] for final in anna.of("final")] == [final["text"] for final in early.of("final")]


async def test_sources_of_one_room_are_told_apart(
    house: LiveServer, pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    async with (
        speaking(house, pki, source) as anna,
        speaking(house, pki, source) as other,
        reading(house, pki, reader, "two") as client,
    ):
        await client.send(READ)
        await client.receive("joined")
        await anna.send(start("two", speaker="Anna"), numbered_speech(range(10)).tobytes(), FINISH)
        await anna.rest()
        await other.send(start("two"), numbered_speech(range(50, 60)).tobytes(), FINISH)
        await other.rest()
        said = {final["speaker"]: numbers_in(final["text"]) for final in await finals(client, 2)}
        assert said == {"Anna": list(range(10)), "demo": list(range(50, 60))}
        assert len({final["source"] for final in client.of("final")}) == 2


async def test_a_reader_goes_on_after_the_last_event_it_saw(
    house: LiveServer, pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    async with speaking(house, pki, source) as anna:
        await anna.send(start("resume"), numbered_speech(range(20)).tobytes(), PAUSE)
        async with reading(house, pki, reader, "resume") as client:
            await client.send(READ)
            joined = await client.receive("joined")
            [first] = await finals(client, 1)
        await anna.send(numbered_speech(range(20, 40)).tobytes(), FINISH)
        await anna.rest()
        async with reading(house, pki, reader, "resume") as client:
            await client.send({**READ, "life": joined["life"], "after": first["event"]})
            again = await client.receive("joined")
            assert (again["life"], again["gap"], again["first"]) == (
                joined["life"],
                False,
                first["event"] + 1,
            )
            await finals(client, 1)
            assert numbers(client) == list(range(20, 40))


async def test_a_source_that_vanishes_has_left(
    house: LiveServer, pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    async with reading(house, pki, reader, "vanish") as client:
        await client.send(READ)
        async with speaking(house, pki, source) as anna:
            await anna.send(start("vanish"))
            await client.receive("source_joined")
            anna.socket.transport.abort()
        await client.receive("source_left")


# ---------------------------------------------------------------- who may

REFUSED = {
    "a bad name": ("Board_1", {}, 400, "bad_room_name"),
    "another origin": ("hall", {"origin": "https://evil.example"}, 403, "not_allowed"),
    "another subprotocol": ("hall", {"subprotocols": ["chat"]}, 400, "subprotocol_required"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_before_the_upgrade(
    name: str, house: LiveServer, pki: Pki, reader: ClientPair
) -> None:
    room, options, status, code = REFUSED[name]
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with reading(house, pki, reader, room, **options):
            pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["code"] == code


async def test_a_page_of_this_server_may_open_sockets(
    house: LiveServer, pki: Pki, reader: ClientPair
) -> None:
    origin = room_url(house, "").replace("wss://", "https://").removesuffix("/v1/rooms/")
    async with reading(house, pki, reader, "origin", origin=origin) as client:
        await client.send(READ)
        await client.receive("joined")


NARROW = """
[[rule]]
identities = ["/source/*"]
rights = ["stream"]
publish = ["board-*"]

[[rule]]
identities = ["/reader/*"]
role = "reader"
read = ["board-*", "hall"]
"""


async def test_the_policy_says_who_publishes_and_reads_where(
    pki: Pki, source: ClientPair, reader: ClientPair, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(NARROW)
    with live_server(pki, policy={"file": str(file)}) as server:
        async with speaking(server, pki, source) as anna:
            await anna.send(start("hall"))
            [error] = await anna.rest_or_error()
            assert (error["code"], anna.socket.close_code) == ("not_allowed", 1008)
        async with speaking(server, pki, source) as anna, reading(server, pki, reader, "board-1") as client:
            await anna.send(start("board-1"))
            await client.send(READ)
            await client.receive("source_joined")
            _, listed = await asyncio.to_thread(get, server, pki, reader, "/v1/rooms")
            assert listed == {"rooms": [{"room": "board-1", "sources": 1, "readers": 1}]}
            _, listed = await asyncio.to_thread(get, server, pki, source, "/v1/rooms")
            assert listed == {"rooms": []}
        for pair, room in ((reader, "secret"), (source, "board-1")):
            with pytest.raises(websockets.InvalidStatus, match="403"):
                async with reading(server, pki, pair, room):
                    pass


async def test_too_many_readers_of_one_certificate_get_429(pki: Pki, reader: ClientPair) -> None:
    with live_server(pki, rooms={"readers_per_identity": 1}) as server:
        async with reading(server, pki, reader, "hall"):
            with pytest.raises(websockets.InvalidStatus, match="429"):
                async with reading(server, pki, reader, "hall"):
                    pass


def get(server: LiveServer, pki: Pki, pair: ClientPair, path: str, method: str = "GET") -> tuple[int, Any]:
    """Status and JSON body of a plain request."""
    context = client_context(pki.ca, pair.cert, pair.key)
    connection = HTTPSConnection("localhost", server.ready.addresses[0][1], context=context, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    body = json.loads(response.read())
    assert response.headers["Cache-Control"] == "no-store"
    connection.close()
    return response.status, body


async def test_rooms_and_rights_can_be_asked_for(
    house: LiveServer, pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    async with reading(house, pki, reader, "asked") as client:
        await client.send(READ)
        await client.receive("joined")
        status, listed = await asyncio.to_thread(get, house, pki, reader, "/v1/rooms")
        assert status == 200
        assert {"room": "asked", "sources": 0, "readers": 1} in listed["rooms"]
    status, told = await asyncio.to_thread(get, house, pki, reader, "/v1/whoami")
    assert status == 200
    assert told.pop("fingerprint")
    assert told.pop("expires").endswith("Z")
    assert told == {"identity": "/reader/hall", "rights": ["read"], "publish": [], "read": ["*"]}
    status, refused = await asyncio.to_thread(get, house, pki, reader, "/v1/whoami", "POST")
    assert (status, refused["code"]) == (405, "method_not_allowed")
    status, refused = await asyncio.to_thread(get, house, pki, reader, "/v1/rooms/asked")
    assert (status, refused["code"]) == (426, "upgrade_required")


# ---------------------------------------------------------------- mistakes

MISTAKES: dict[str, tuple[list[Any], str, int]] = {
    "audio": ([READ, b"\0\0"], "protocol_violation", 1002),
    "no read": ([{"type": "keepalive"}], "protocol_violation", 1002),
    "read twice": ([READ, READ], "protocol_violation", 1002),
    "a stream's message": ([START], "protocol_violation", 1002),
    "no JSON": (["hello"], "bad_message", 1007),
    "a token beside a certificate": ([{**READ, "token": "x"}], "protocol_violation", 1002),
    "life without after": ([{**READ, "life": "0"}], "protocol_violation", 1002),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_readers_mistake_is_told(name: str, house: LiveServer, pki: Pki, reader: ClientPair) -> None:
    messages, code, close_code = MISTAKES[name]
    async with reading(house, pki, reader, "mistakes") as client:
        await client.send(*messages)
        events = await client.rest_or_error()
        assert (events[-1]["type"], events[-1]["code"]) == ("error", code)
        assert client.socket.close_code == close_code


async def test_a_room_that_may_not_be_published_in_ends_the_stream(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, rooms={"sources_per_room": 1}) as server:
        async with speaking(server, pki, source) as first, speaking(server, pki, source) as second:
            await first.send(start("small"))
            await first.receive("started")
            await second.send(start("small"))
            [error] = await second.rest_or_error()
            assert (error["code"], second.socket.close_code) == ("overloaded", 1013)
            await first.send(numbered_speech(range(10)).tobytes(), FINISH)
            await first.rest()
            assert numbers(first) == list(range(10))


# ---------------------------------------------------------------- readers that do not read


async def deaf_reader(server: LiveServer, pki: Pki, pair: ClientPair, room: str) -> socket.socket:
    """Joins a room and reads nothing more; its kernel takes as little as it can."""
    return await asyncio.to_thread(_deaf_reader, server, pki, pair, room)


def _deaf_reader(server: LiveServer, pki: Pki, pair: ClientPair, room: str) -> ssl.SSLSocket:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    plain.connect(("127.0.0.1", server.ready.addresses[0][1]))
    context = client_context(pki.ca, pair.cert, pair.key)
    tls = context.wrap_socket(plain, server_hostname="localhost")
    request = (
        f"GET /v1/rooms/{room} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: captions.v1\r\n\r\n"
    )
    tls.sendall(request.encode())
    assert b"101" in tls.recv(4096)
    read = b'{"type":"read"}'
    # Masked with zeros, as a client's frames must be masked.
    tls.sendall(bytes([0x81, 0x80 | len(read), 0, 0, 0, 0]) + read)
    return tls


async def test_a_reader_that_never_reads_costs_nobody_anything_and_is_told(
    pki: Pki, reader: ClientPair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(room_reader, "DISMISS_S", 0.2)
    n_finals = 0
    with live_server(pki, rooms=GENEROUS, limits={"unread_s": 0.5}) as server:
        session = SessionId("talkative")

        def publish(event: ServerEvent) -> None:
            server.app._rooms.publish(session, event, time.monotonic())

        def speak() -> None:
            server.app._rooms.enter(session, "deaf", "Anna", time.monotonic())
            publish(Started(session, "fake", Limits(1, 1.0, 1.0), ()))

        deaf = await deaf_reader(server, pki, reader, "deaf")
        async with reading(server, pki, reader, "deaf") as client:
            await client.send(READ)
            await client.receive("joined")
            server.loop.call_soon_threadsafe(speak)
            # More text than all buffers between the server and the deaf reader hold.
            while not closed(caplog):
                final = Final(n_finals, 0, 512, "x" * 20_000, "en", True)
                server.loop.call_soon_threadsafe(publish, final)
                assert (await client.receive("final"))["segment"] == n_finals
                n_finals += 1
            assert n_finals > 10
        deaf.close()


def closed(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Log lines of readers that have ended."""
    return [record for record in caplog.records if record.getMessage() == "reader_closed"]


# ---------------------------------------------------------------- the end


async def test_readers_get_the_last_finals_of_a_server_that_stops(
    pki: Pki, source: ClientPair, reader: ClientPair
) -> None:
    with live_server(pki) as server:
        async with (
            speaking(server, pki, source) as anna,
            reading(server, pki, reader, "last") as client,
            reading(server, pki, reader, "empty") as waiting,
        ):
            await client.send(READ)
            await waiting.send(READ)
            await client.receive("joined")
            await waiting.receive("joined")
            await anna.send(start("last"), numbered_speech(range(30)).tobytes())
            await client.receive("source_joined")
            # Everything sent has been heard once a message after it is answered.
            await anna.receive("speech_started")
            server.loop.call_soon_threadsafe(server.app.stop)
            events = await client.rest_or_error()
            assert numbers(client) == list(range(30))
            assert (events[-1]["code"], client.socket.close_code) == ("shutting_down", 1001)
            events = await waiting.rest_or_error()
            assert (events[-1]["code"], waiting.socket.close_code) == ("shutting_down", 1001)
