"""The policy file, allow-lists and quotas over real TLS: who is turned away where, and told what."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import websockets
from live_server import FINISH, START, LiveServer, live_server, wire
from ops_page import get
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.core.policy import Policy, Right, Rule
from stream_server.engine.fake import numbered_speech, numbers_in

RULES = """
[[rule]]
identities = ["/source/*"]
role = "source"
publish = ["*"]
read = ["*"]

[[rule]]
identities = ["/source/few"]
rights = ["stream"]
sessions = 1
connects_per_minute = 3

[[rule]]
identities = ["/source/short"]
rights = ["stream"]
audio_seconds_per_day = 3

[[rule]]
identities = ["/source/elsewhere", "/reader/elsewhere"]
role = "source"
read = ["*"]
networks = ["192.0.2.0/24"]

[[rule]]
identities = ["/source/page"]
role = "source"
read = ["*"]
programs = false

[[rule]]
identities = ["/source/locked"]
rights = []
"""


@pytest.fixture(scope="module")
def ruled(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a policy file, and with another origin beside its own."""
    file = tmp_path_factory.mktemp("policy") / "rules.toml"
    file.write_text(RULES)
    server = {"origins": ("https://intranet.example:8000",), "networks": ("127.0.0.0/8", "::1")}
    with live_server(pki, policy={"file": str(file)}, server=server) as running:
        yield running


async def refusal(
    server: LiveServer, pki: Pki, pair: ClientPair, path: str = "/v1/stream", **options: Any
) -> tuple[int, str, int | None]:
    """Status, code and Retry-After of a refused upgrade."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with wire(server.url.replace("/v1/stream", path), pki, pair, **options):
            pass
    response = caught.value.response
    retry = response.headers.get("Retry-After")
    return response.status_code, json.loads(response.body)["code"], int(retry) if retry else None


async def test_a_rule_without_rights_locks_out_one_name_and_no_other(ruled: LiveServer, pki: Pki) -> None:
    assert await refusal(ruled, pki, pki.client("locked", "source")) == (403, "not_allowed", None)
    async with wire(ruled.url, pki, pki.client("lockedin", "source")) as client:
        await client.send(START, FINISH)
        assert (await client.rest())[-1]["type"] == "finished"


async def test_whom_no_rule_names_may_nothing(ruled: LiveServer, pki: Pki) -> None:
    pair = pki.client("unnamed", "admin")
    for path in ("/v1/stream", "/v1/rooms/hall"):
        assert await refusal(ruled, pki, pair, path) == (403, "not_allowed", None)


async def test_where_the_rule_says_so_only_browsers_may_open_sockets(ruled: LiveServer, pki: Pki) -> None:
    pair = pki.client("page", "source")
    page = f"https://localhost:{ruled.ready.addresses[0][1]}"
    for path in ("/v1/stream", "/v1/rooms/hall"):
        assert await refusal(ruled, pki, pair, path) == (403, "origin_required", None)
        foreign = await refusal(ruled, pki, pair, path, origin="https://evil.example")
        assert foreign == (403, "not_allowed", None)
        async with wire(ruled.url.replace("/v1/stream", path), pki, pair, origin=page):
            pass


@pytest.mark.parametrize(("role", "path"), [("source", "/v1/stream"), ("reader", "/v1/rooms/hall")])
async def test_a_certificate_is_good_in_its_networks_only(
    role: str, path: str, ruled: LiveServer, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pair = pki.client("elsewhere", role)
    assert await refusal(ruled, pki, pair, path) == (403, "address_not_allowed", None)
    [record] = [record for record in caplog.records if record.getMessage() == "request_refused"]
    assert record.stream_server_fields == {
        "reason": "address_not_allowed",
        "status": 403,
        "address": "127.0.0.1",
    }
    connection = HTTPSConnection(
        "localhost",
        ruled.ready.addresses[0][1],
        context=client_context(pki.ca, pair.cert, pair.key),
        timeout=10,
    )
    connection.request("GET", "/v1/whoami")
    assert connection.getresponse().status == 403
    connection.close()


async def test_sessions_and_connects_have_the_rules_own_limits(ruled: LiveServer, pki: Pki) -> None:
    pair = pki.client("few", "source")
    async with wire(ruled.url, pki, pair):
        assert await refusal(ruled, pki, pair) == (429, "too_many", 10)
    await ruled.until(lambda: not len(ruled.app._hub))
    async with wire(ruled.url, pki, pair):
        pass
    status, code, retry_s = await refusal(ruled, pki, pair)
    assert (status, code) == (429, "too_many")
    assert retry_s is not None
    assert 10 < retry_s <= 61


async def test_who_has_sent_his_share_is_told_after_his_finals_and_turned_away_until_midnight(
    ruled: LiveServer, pki: Pki
) -> None:
    pair = pki.client("short", "source")
    async with wire(ruled.url, pki, pair) as client:
        await client.send(START)
        await client.send(numbered_speech(range(50)).tobytes(), numbered_speech(range(50, 100)).tobytes())
        events = await client.rest_or_error()
        assert client.socket.close_code == 1008
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "quota_exceeded")
    said = [number for event in client.of("final") for number in numbers_in(event["text"])]
    assert said == list(range(100))
    status, code, retry_s = await refusal(ruled, pki, pair)
    assert (status, code) == (429, "quota_exceeded")
    assert retry_s is not None
    assert 1 <= retry_s <= 86_400


async def test_another_policy_counts_from_the_next_request_on(pki: Pki) -> None:
    pair = pki.client("swapped", "source")
    with live_server(pki) as server:
        async with wire(server.url, pki, pair) as before:
            server.app._policy.current = Policy((Rule("/source/*", frozenset({Right.READ})),))
            assert await refusal(server, pki, pair) == (403, "not_allowed", None)
            await before.send({**START, "room": "hall"})
            [error] = await before.rest_or_error()
            assert error["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [
        ("https://intranet.example:8000", True),
        ("https://intranet.example", False),
        ("http://intranet.example:8000", False),
        ("https://intranet.example:8000.evil.example", False),
        ("null", False),
    ],
)
async def test_pages_of_the_origins_named_may_open_sockets(
    origin: str, is_welcome: bool, ruled: LiveServer, pki: Pki, source: ClientPair
) -> None:
    if not is_welcome:
        assert await refusal(ruled, pki, source, origin=origin) == (403, "not_allowed", None)
        return
    async with wire(ruled.url, pki, source, origin=origin) as client:
        await client.send(START, FINISH)
        assert (await client.rest())[-1]["type"] == "finished"


async def cut_off(server: LiveServer, caplog: pytest.LogCaptureFixture, reason: str) -> logging.LogRecord:
    """The log's line about the first connection refused for this reason."""

    def lines() -> list[logging.LogRecord]:
        return [
            record
            for record in caplog.records
            if getattr(record, "stream_server_fields", {}).get("reason") == reason
        ]

    await server.until(lambda: bool(lines()))
    return lines()[0]


async def test_an_address_outside_the_networks_is_cut_off_before_tls(
    pki: Pki, source: ClientPair, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_server(pki, server={"networks": ("10.0.0.0/8",), "ops_port": free_port}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ready.addresses[0][1])
        assert await reader.read() == b"", "not even an alert"
        writer.close()
        record = await cut_off(server, caplog, "address_not_allowed")
        assert record.stream_server_fields["address"] == "127.0.0.1"
        _, metrics = await asyncio.to_thread(get, free_port, "/metrics")
        assert 'stt_handshakes_failed_total{reason="address_not_allowed"} 1.0' in metrics


async def test_one_address_cannot_hold_all_handshakes(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    with live_server(pki, limits={"handshakes_per_address": 2}) as server:
        port = server.ready.addresses[0][1]
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        await cut_off(server, caplog, "too_many_handshakes_of_address")
        for one in idle:
            one.close()


def test_a_policy_that_cannot_be_used_keeps_the_server_from_starting(pki: Pki, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\nidentities = []\nrights = []\n")
    with pytest.raises(Exception, match=r"rules\.toml: rule 1: identities"):
        with live_server(pki, policy={"file": str(file)}):
            pass
