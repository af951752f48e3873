"""What is answered before an upgrade: pages, origins, and whose address counts as whose."""

from collections.abc import Mapping

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from stream_server.core.networks import limited_by
from stream_server.transport.responses import not_an_upgrade, page_response

UPGRADE = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "captions.v1", "Host": "server:8443"}


class OnePage:
    """A page that a browser may have already."""

    def answer(
        self, path: str, headers: Mapping[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes] | None:
        if path != "/":
            return None
        if headers.get("If-None-Match") == '"1"':
            return 304, [("ETag", '"1"')], b""
        return 200, [("ETag", '"1"'), ("Content-Type", "text/html")], b"<p>"


def asked(method: str = "GET", path: str = "/", **headers: str) -> Request:
    named = Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    return Request(path, named, method=method)


def test_a_page_has_its_headers_length_and_body() -> None:
    response = page_response(asked(), "/", OnePage())
    assert response is not None
    assert (response.status_code, response.body) == (200, b"<p>")
    assert response.headers["Content-Length"] == "3"
    assert response.headers["Content-Type"] == "text/html"


def test_head_gets_the_headers_alone() -> None:
    response = page_response(asked("HEAD"), "/", OnePage())
    assert response is not None
    assert (response.headers["Content-Length"], response.body) == ("3", b"")


def test_a_page_that_the_browser_has_is_not_sent_again() -> None:
    response = page_response(asked(If_None_Match='"1"'), "/", OnePage())
    assert response is not None
    assert (response.status_code, response.body) == (304, b"")


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/else")])
def test_what_is_no_page_is_left_to_others(method: str, path: str) -> None:
    assert page_response(asked(method, path), path, OnePage()) is None
    assert page_response(asked(), "/", None) is None


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ([], True),
        (["https://server:8443"], True),
        (["http://server:8443"], False),
        (["https://server"], False),
        (["https://evil.example"], False),
        (["null"], False),
        (["https://server:8443", "https://evil.example"], False),
    ],
)
def test_only_pages_of_this_server_may_open_sockets(origins: list[str], allowed: bool) -> None:
    request = asked(path="/v1/rooms/hall", **{name.replace("-", "_"): v for name, v in UPGRADE.items()})
    for origin in origins:
        request.headers["Origin"] = origin
    refusal = not_an_upgrade(request, "/v1/rooms/hall")
    assert (refusal is None) == allowed
    if refusal is not None:
        assert (refusal.status, refusal.code) == (403, "not_allowed")


def test_an_origin_without_a_single_host_is_a_foreign_one() -> None:
    request = asked(Upgrade="websocket", Sec_WebSocket_Protocol="captions.v1", Origin="https://a")
    assert not_an_upgrade(request, "/") is not None
    request.headers["Host"] = "a"
    assert not_an_upgrade(request, "/") is None
    request.headers["Host"] = "b"
    assert not_an_upgrade(request, "/") is not None


@pytest.mark.parametrize(
    ("address", "limited"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_client_is_limited_by_what_it_cannot_change(address: str, limited: str) -> None:
    assert limited_by(address) == limited
