"""A proxy in front: the client's own address counts everywhere, and nobody else may tell one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from fake_proxy import LOCAL, SIGNATURE, fake_proxy, tcp_header
from live_server import FINISH, START, LiveServer, WireClient, live_server, wire
from pki import Bad, ClientPair, Pki

from certs.tls import client_context
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode

CLIENTS = ("192.0.2.0/24", "2001:db8::/32")


@pytest.fixture(scope="module")
def behind(pki: Pki) -> Iterator[LiveServer]:
    """A server behind a proxy on loopback that lets in clients of some networks."""
    server = {"proxy_from": ("127.0.0.0/8",), "networks": CLIENTS}
    limits = {"handshakes_per_address": 2}
    guest = {"enabled": True, "port": 0, "proxy_from": ("127.0.0.0/8",)}
    with live_server(pki, server=server, limits=limits, guest=guest, tls={"handshake_s": 1.0}) as running:
        yield running


def port_of(server: LiveServer) -> int:
    return server.ready.addresses[0][1]


def entries(server: LiveServer) -> list[Entry]:
    folder = AuditFolder(Path(server.config.audit.folder or ""))
    return [decode(line) for number in folder.numbers() for line in folder.lines(number)]


async def told(server: LiveServer, reason: str, address: str) -> None:
    """Wait until a refusal stands in the audit log."""

    def is_there() -> bool:
        return any((entry.reason, entry.src) == (reason, address) for entry in entries(server))

    await server.until(is_there)


@asynccontextmanager
async def through(
    server: LiveServer, pki: Pki, pair: ClientPair, header: bytes, **options: Any
) -> AsyncIterator[WireClient]:
    """A client's connection over a proxy that sends ``header``."""
    async with fake_proxy(port_of(server), header) as port:
        async with wire(f"wss://localhost:{port}/v1/stream", pki, pair, **options) as client:
            yield client


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
async def test_a_client_streams_and_is_known_by_its_own_address(
    address: str, behind: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with through(behind, pki, source, tcp_header(address, extensions=b"\x04\x00\x02no")) as client:
        await client.send(START, numbered_speech(range(20)).tobytes(), FINISH)
        await client.rest()
        assert [n for final in client.of("final") for n in numbers_in(final["text"])] == list(range(20))
    assert [entry for entry in entries(behind) if (entry.action, entry.src) == ("client.authorize", address)]


async def test_the_clients_address_meets_the_allow_list_before_tls(
    behind: LiveServer, pki: Pki, source: ClientPair
) -> None:
    with pytest.raises((OSError, EOFError, websockets.InvalidHandshake)):
        async with through(behind, pki, source, tcp_header("198.51.100.9")):
            pass
    await told(behind, "address_not_allowed", "198.51.100.9")


async def test_half_open_handshakes_are_counted_for_each_client(
    behind: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with fake_proxy(port_of(behind), tcp_header("192.0.2.66")) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await told(behind, "too_many_handshakes_of_address", "192.0.2.66")
        async with through(behind, pki, source, tcp_header("192.0.2.67")):
            pass
        for _, writer in idle:
            writer.close()


async def test_a_refused_certificate_is_told_with_the_clients_address(behind: LiveServer, pki: Pki) -> None:
    with pytest.raises((OSError, EOFError, websockets.InvalidHandshake)):
        async with through(behind, pki, pki.bad(Bad.EXPIRED), tcp_header("192.0.2.70")):
            pass
    await told(behind, "expired", "192.0.2.70")


async def test_a_connection_of_the_proxys_own_counts_as_the_proxys(
    behind: LiveServer, pki: Pki, source: ClientPair
) -> None:
    with pytest.raises((OSError, EOFError, websockets.InvalidHandshake)):
        async with through(behind, pki, source, LOCAL):
            pass
    await told(behind, "address_not_allowed", "127.0.0.1")
    with live_server(pki, server={"proxy_from": ("127.0.0.1",)}) as open_server:
        async with through(open_server, pki, source, LOCAL) as client:
            await client.send(START, FINISH)
            assert (await client.rest())[-1]["type"] == "finished"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 8443\r\n", "proxy_header_missing"),
        (SIGNATURE + b"\x21\x11\x00\x04" + bytes(4), "proxy_header_broken"),
        (SIGNATURE + b"\x21\x00\x00\x00", "proxy_header_without_address"),
        (SIGNATURE + b"\x21\x11\xff\xff", "proxy_header_too_long"),
    ],
)
async def test_a_proxy_that_does_not_tell_is_refused_with_the_reason(
    header: bytes, reason: str, behind: LiveServer, pki: Pki, source: ClientPair
) -> None:
    with pytest.raises((OSError, EOFError, websockets.InvalidHandshake)):
        async with through(behind, pki, source, header):
            pass
    await told(behind, reason, "127.0.0.1")


async def test_a_proxy_that_says_nothing_or_half_is_cut_off(behind: LiveServer) -> None:
    for said in (b"", tcp_header("192.0.2.7")[:20]):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(behind))
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
    await told(behind, "proxy_header_timed_out", "127.0.0.1")


async def test_a_proxy_that_stalls_takes_none_of_the_clients_places(pki: Pki, source: ClientPair) -> None:
    limits = {"handshakes": 2, "handshakes_per_address": 1}
    with live_server(pki, server={"proxy_from": ("127.0.0.2",)}, limits=limits) as server:
        loop = asyncio.get_running_loop()
        idle = [
            (await loop.create_connection(asyncio.Protocol, "127.0.0.1", port_of(server),
                                          local_addr=("127.0.0.2", 0)))[0]
            for _ in range(3)
        ]  # fmt: skip
        await told(server, "too_many_handshakes", "127.0.0.2")
        async with wire(server.url, pki, source) as client:
            await client.send(START, FINISH)
            assert (await client.rest())[-1]["type"] == "finished"
        for transport in idle:
            transport.close()


async def test_nobody_else_may_tell_an_address(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, server={"proxy_from": ("192.0.2.1",)}) as server:
        async with wire(server.url, pki, source):
            pass
        with pytest.raises((OSError, EOFError, websockets.InvalidHandshake)):
            async with through(server, pki, source, tcp_header("192.0.2.7")):
                pass
        await told(server, "not_tls", "127.0.0.1")
        assert not [entry for entry in entries(server) if entry.src == "192.0.2.7"]


async def test_the_guests_listener_hears_its_proxies_too(behind: LiveServer, pki: Pki) -> None:
    guest_port = behind.ready.guest_addresses[0][1]
    async with fake_proxy(guest_port, tcp_header("203.0.113.5")) as port:
        url, tls = f"wss://localhost:{port}/v1/stream", client_context(pki.ca)
        with pytest.raises(websockets.InvalidStatus, match="401"):
            async with websockets.connect(url, ssl=tls, subprotocols=["captions.v1"], proxy=None):
                pass
    await told(behind, "token_required", "203.0.113.5")
