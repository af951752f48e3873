"""Who gets in, what the others are told, and what the operator reads about it."""

import asyncio
import json
import logging
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection

import pytest
import websockets
from live_server import FINISH, START, LiveServer, live_server, wire
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.client import ConnectFailed, connect


@pytest.fixture(scope="module")
def strict(pki: Pki) -> Iterator[LiveServer]:
    """A server with the limits as tests need them."""
    with live_server(pki) as running:
        yield running


async def status_of(
    server: LiveServer, pki: Pki, pair: ClientPair, **options: object
) -> tuple[int, dict[str, str]]:
    """Status and JSON body of a refused upgrade."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with wire(server.url, pki, pair, **options):
            pass
    response = caught.value.response
    body = json.loads(response.body)
    if "Retry-After" in response.headers:
        body["retry"] = response.headers["Retry-After"]
    return response.status_code, body


async def refusals(server: LiveServer, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The log lines of refused handshakes, once there is one: the client may know before the log does."""

    def lines() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.getMessage() == "handshake_refused"]

    await server.until(lambda: bool(lines()))
    return lines()


async def test_a_client_without_a_certificate_is_told_what_to_do(strict: LiveServer, pki: Pki) -> None:
    with pytest.raises(ConnectFailed, match="certificate"):
        async with connect(strict.url, tls=client_context(pki.ca)):
            pass


async def test_a_reader_may_not_stream_and_an_admin_may(strict: LiveServer, pki: Pki) -> None:
    status, body = await status_of(strict, pki, pki.client("anna", "reader"))
    assert (status, body["code"]) == (403, "not_allowed")
    async with wire(strict.url, pki, pki.client("root", "admin")) as client:
        await client.send(START, FINISH)
        assert (await client.rest())[-1]["type"] == "finished"


async def test_what_is_not_a_stream_gets_an_http_answer(
    strict: LiveServer, pki: Pki, source: ClientPair
) -> None:
    assert (await status_of(strict, pki, source, subprotocols=["chat"]))[0] == 400
    assert (await status_of(strict, pki, source, origin="https://evil.example"))[0] == 403
    elsewhere = strict.url.replace("/v1/stream", "/v2/else")
    with pytest.raises(websockets.InvalidStatus, match="404"):
        async with wire(elsewhere, pki, source):
            pass


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/stream", 426),
        ("POST", "/v1/stream", 426),
        ("GET", "/v2/else", 404),
    ],
)
def test_plain_https_gets_plain_answers_that_do_not_name_the_software(
    method: str, path: str, status: int, strict: LiveServer, pki: Pki, source: ClientPair
) -> None:
    host, port = "localhost", strict.ready.addresses[0][1]
    connection = HTTPSConnection(
        host, port, context=client_context(pki.ca, source.cert, source.key), timeout=10
    )
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == status
    assert response.headers["Server"] is None
    connection.close()


async def test_too_many_sessions_and_connects_of_one_certificate_get_429(pki: Pki) -> None:
    pair = pki.client("limits", "source")
    with live_server(pki, limits={"sessions_per_identity": 2, "connects_per_minute": 4}) as server:
        async with wire(server.url, pki, pair), wire(server.url, pki, pair):
            status, body = await status_of(server, pki, pair)
            assert (status, body["code"], body["retry"]) == (429, "too_many", "10")
        async with wire(server.url, pki, pair):
            pass
        status, body = await status_of(server, pki, pair)
        assert status == 429
        assert 1 <= int(body["retry"]) <= 61


async def test_a_full_server_says_503_and_when_to_come_back(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, limits={"sessions": 1}) as server:
        async with wire(server.url, pki, source):
            status, body = await status_of(server, pki, source)
            assert (status, body["code"]) == (503, "overloaded")
            assert int(body["retry"]) > 0


async def test_nothing_but_tls_13_and_no_resumption(strict: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with wire(strict.url, pki, source) as client:
        tls: ssl.SSLObject = client.socket.transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"
        await client.send(START)
        await client.receive("started")
        assert tls.session is None or not tls.session.has_ticket


async def test_plain_http_on_the_tls_port_is_refused_and_named(
    strict: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.ready.addresses[0][1])
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    [record] = await refusals(strict, caplog)
    assert record.stream_server_fields["reason"] == "not_tls"


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a plain HTTP request on loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_the_ops_listener_answers_probes_on_loopback_without_a_certificate(pki: Pki, free_port: int) -> None:
    with live_server(pki, server={"ops_port": free_port}):
        assert get(free_port, "/healthz") == (200, b"ok\n")
        assert get(free_port, "/readyz") == (200, b"ok\n")
        assert get(free_port, "/else")[0] == 404
        status, metrics = get(free_port, "/metrics")
        assert status == 200
        assert b"stt_sessions_active 0.0" in metrics


@pytest.mark.parametrize("path", ["/", "/room/hall?display=screen", "/client/captions.js"])
def test_pages_are_served_whole_to_get_and_without_a_body_to_head(
    path: str, strict: LiveServer, pki: Pki, source: ClientPair
) -> None:
    statuses = {}
    for method in ("GET", "HEAD"):
        connection = HTTPSConnection(
            "localhost",
            strict.ready.addresses[0][1],
            context=client_context(pki.ca, source.cert, source.key),
            timeout=10,
        )
        connection.request(method, path)
        response = connection.getresponse()
        statuses[method] = (response.status, int(response.headers["Content-Length"]), bool(response.read()))
        connection.close()
    assert statuses["GET"][0] == 200
    assert statuses["GET"][1] == statuses["HEAD"][1]
    assert (statuses["GET"][2], statuses["HEAD"][2]) == (True, False)
