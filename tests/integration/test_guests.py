"""Guests over real TLS: a link, a token, one room, and an end."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import websockets
from live_server import FINISH, START, LiveServer, WireClient, live_server, wire
from pki import ClientPair, Pki
from typer.testing import CliRunner

from certs.tls import client_context
from stream_server.cli import app
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import decode

GUEST = {"enabled": True, "port": 0}


@pytest.fixture(scope="module")
def open_house(pki: Pki) -> Iterator[LiveServer]:
    """A server that lets guests in."""
    with live_server(pki, guest=GUEST) as running:
        yield running


def make_link(pki: Pki, *arguments: str) -> str:
    """What the operator's command prints as the address of a link."""
    result = CliRunner().invoke(app, ["link", *arguments, "--state-dir", str(pki.store.folder.parent)])
    assert result.exit_code == 0, result.output
    return str(result.stdout.split()[0])


def link_of(address: str) -> str:
    return address.partition("#link=")[2]


def port_of(server: LiveServer) -> int:
    return server.ready.guest_addresses[0][1]


def request(
    server: LiveServer, pki: Pki, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes]:
    connection = HTTPSConnection("localhost", port_of(server), context=client_context(pki.ca), timeout=10)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    assert response.headers["Server"] is None
    connection.close()
    return response.status, body


async def exchange(server: LiveServer, pki: Pki, link: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {link}"}
    status, body = await asyncio.to_thread(request, server, pki, "/v1/guest/token", headers)
    return status, json.loads(body)


@asynccontextmanager
async def visiting(server: LiveServer, pki: Pki, room: str = "hall") -> AsyncIterator[WireClient]:
    """A guest's connection, without a certificate and before its ``read``."""
    url = f"wss://localhost:{port_of(server)}/v1/rooms/{room}"
    options: dict[str, Any] = {"subprotocols": ["captions.v1"], "proxy": None, "compression": None}
    async with websockets.connect(url, ssl=client_context(pki.ca), **options) as socket:
        yield WireClient(socket)


async def test_a_guest_reads_the_room_of_his_link(
    open_house: LiveServer, pki: Pki, source: ClientPair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    link = link_of(make_link(pki, "hall", "--for", "1h"))
    status, grant = await exchange(open_house, pki, link)
    assert status == 200
    assert (grant["room"], grant["expires_in_seconds"]) == ("hall", 900)
    assert 3590 < grant["link_expires_in_seconds"] <= 3600
    async with visiting(open_house, pki) as guest, wire(open_house.url, pki, source) as anna:
        await guest.send({"type": "read", "token": grant["token"]})
        await guest.receive("joined")
        await anna.send({**START, "room": "hall"}, numbered_speech(range(20)).tobytes(), FINISH)
        await guest.receive("source_left")
        assert [n for final in guest.of("final") for n in numbers_in(final["text"])] == list(range(20))
    ours = [record for record in caplog.records if record.name.startswith("stream_server")]
    for record in ours:
        said = record.getMessage() + repr(record.__dict__.get("stream_server_fields"))
        assert link not in said
        assert grant["token"] not in said


async def test_a_guest_without_a_good_token_is_turned_away(open_house: LiveServer, pki: Pki) -> None:
    _, grant = await exchange(open_house, pki, link_of(make_link(pki, "hall")))
    for room, token in (("hall", None), ("hall", "x"), ("board", grant["token"])):
        async with visiting(open_house, pki, room) as guest:
            await guest.send({"type": "read", "token": token})
            [error] = await guest.rest_or_error()
            assert (error["code"], guest.socket.close_code) == ("not_allowed", 1008)


async def test_a_revoked_link_ends_who_reads_by_it(open_house: LiveServer, pki: Pki) -> None:
    link = link_of(make_link(pki, "hall", "--for", "2h"))
    _, grant = await exchange(open_house, pki, link)
    [line] = [line for line in listed(pki).splitlines() if "hall" in line and line.split()[0] == newest(pki)]
    async with visiting(open_house, pki) as guest:
        await guest.send({"type": "read", "token": grant["token"]})
        await guest.receive("joined")
        make_link(pki, "--revoke", line.split()[0])
        events = await asyncio.wait_for(guest.rest_or_error(), 10)
        assert (events[-1]["code"], guest.socket.close_code) == ("link_expired", 1008)
    assert line.split()[0] not in listed(pki)
    folder = AuditFolder(Path(open_house.config.audit.folder or ""))
    entries = [decode(one) for number in folder.numbers() for one in folder.lines(number)]
    assert (f"link:{line.split()[0]}", "link_over") in {(entry.object, entry.reason) for entry in entries}
    status, body = await exchange(open_house, pki, link)
    assert (status, body["code"]) == (410, "link_expired")


def listed(pki: Pki) -> str:
    result = CliRunner().invoke(app, ["link", "--list", "--state-dir", str(pki.store.folder.parent)])
    assert result.exit_code == 0
    return result.stdout


def newest(pki: Pki) -> str:
    path = pki.store.folder.parent / "guests" / "links.json"
    return str(json.loads(path.read_text())["links"][-1]["id"])


async def test_what_is_no_link_gets_401(open_house: LiveServer, pki: Pki) -> None:
    for link in ("", "x", "a.b.c"):
        status, body = await exchange(open_house, pki, link)
        assert (status, body["code"]) == (401, "link_invalid")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/stream", 426),
        ("GET", "/v1/rooms", 404),
        ("GET", "/v1/whoami", 404),
        ("GET", "/room/hall", 200),
        ("GET", "/client/captions.js", 200),
        ("GET", "/", 404),
        ("POST", "/v1/guest/token", 405),
        ("GET", "/v1/rooms/hall", 426),
        ("GET", "/v1/rooms/Hall", 400),
    ],
)
def test_guests_find_nothing_but_what_is_for_them(
    method: str, path: str, status: int, open_house: LiveServer, pki: Pki
) -> None:
    assert request(open_house, pki, path, method=method)[0] == status


async def test_addresses_have_limits_of_their_own(pki: Pki) -> None:
    with live_server(pki, guest={**GUEST, "connects_per_minute": 2}) as server:
        for expected in (401, 401, 429):
            assert (await exchange(server, pki, "x"))[0] == expected
    with live_server(pki, guest={**GUEST, "readers_per_address": 1}) as server:
        async with visiting(server, pki):
            with pytest.raises(websockets.InvalidStatus, match="429"):
                async with visiting(server, pki):
                    pass


async def test_half_open_handshakes_of_one_address_are_few(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    with live_server(pki, guest={**GUEST, "handshakes_per_address": 2}) as server:
        idle = [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(3)]
        await server.until(
            lambda: any(
                getattr(record, "stream_server_fields", {}).get("reason") == "too_many_handshakes_of_address"
                for record in caplog.records
            )
        )
        for one in idle:
            one.close()


def test_a_guest_port_in_use_is_named_with_its_key(pki: Pki, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        with pytest.raises(Exception, match=r"guest\.port"):
            with live_server(pki, guest={"enabled": True, "port": free_port}):
                pass
