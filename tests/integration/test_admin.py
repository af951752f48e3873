"""The security report over mutual TLS: for admins only, and each reading of it is on record."""

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from live_server import LiveServer, live_server
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode
from stream_server.records.writer import AuditWriter

REPORT = "/v1/admin/report"
PAGE = "/admin/"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin") / "audit"


@pytest.fixture(scope="module")
def watched(pki: Pki, log: Path) -> Iterator[LiveServer]:
    with live_server(pki, audit={"folder": str(log)}, guest={"enabled": True, "port": 0}) as server:
        yield server


@pytest.fixture(scope="module")
def admin(pki: Pki) -> ClientPair:
    return pki.client("eva", "admin")


def ask(
    server: LiveServer,
    pki: Pki,
    pair: ClientPair | None,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body; without a certificate from the guests' listener."""
    addresses = server.ready.guest_addresses if pair is None else server.ready.addresses
    files = () if pair is None else (pair.cert, pair.key)
    connection = HTTPSConnection(
        "localhost", addresses[0][1], context=client_context(pki.ca, *files), timeout=10
    )
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def entries(log: Path) -> list[Entry]:
    folder = AuditFolder(log)
    return [decode(line) for number in folder.numbers() for line in folder.lines(number)]


def the_report(server: LiveServer, pki: Pki, admin: ClientPair) -> tuple[int, bytes]:
    """The report, asked for until it is made, as the page does."""
    end_s = time.monotonic() + 30
    while True:
        status, headers, body = ask(server, pki, admin, REPORT)
        if status != 202 or time.monotonic() > end_s:
            return status, body
        assert headers["Retry-After"] == "1"
        time.sleep(0.1)  # the product tells by polling


def test_an_admin_reads_the_report_and_that_is_on_record(
    watched: LiveServer, pki: Pki, admin: ClientPair, log: Path
) -> None:
    status, body = the_report(watched, pki, admin)
    assert status == 200
    summary = json.loads(body)
    assert summary["integrity"]["integrity"] == 0
    assert {"what": "server.start", "n": 1} in summary["report"]["actions"]
    [read] = [entry for entry in entries(log) if entry.action == "report.read"]
    assert read.actor is not None
    assert (read.actor.id[-10:], read.object, read.outcome) == ("/admin/eva", f"path:{REPORT}", "success")


def test_an_admin_gets_the_page(watched: LiveServer, pki: Pki, admin: ClientPair) -> None:
    for path in (PAGE, "/admin"):
        status, headers, body = ask(watched, pki, admin, path)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"/client/pages/admin.js" in body
    status, headers, body = ask(watched, pki, admin, PAGE, "HEAD")
    assert (status, body) == (200, b"")
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("role", ["source", "reader"])
def test_others_are_refused_and_that_is_on_record(
    role: str, watched: LiveServer, pki: Pki, log: Path
) -> None:
    pair = pki.client("curious", role)
    status, headers, body = ask(watched, pki, pair, PAGE)
    assert (status, headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert b"for administrators" in body
    status, _, body = ask(watched, pki, pair, REPORT)
    assert (status, json.loads(body)["code"]) == (403, "not_allowed")
    ids = f"/{role}/curious"
    denied = [entry for entry in entries(log) if entry.actor and entry.actor.id.endswith(ids)]
    assert [(entry.object, entry.outcome, entry.reason) for entry in denied] == [
        (f"path:{PAGE}", "denied", "not_allowed"),
        (f"path:{REPORT}", "denied", "not_allowed"),
    ]


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        (REPORT, "POST", {}, 405),
        (PAGE, "POST", {}, 405),
        (REPORT, "HEAD", {}, 405),
        (REPORT, "GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        (REPORT, "GET", {"Sec-Fetch-Site": "same-site"}, 403),
        ("/admin/else", "GET", {}, 404),
        ("/v1/admin", "GET", {}, 404),
    ],
)
def test_nothing_else_is_there_and_no_foreign_page_may_ask(
    path: str,
    method: str,
    headers: dict[str, str],
    status: int,
    watched: LiveServer,
    pki: Pki,
    admin: ClientPair,
) -> None:
    assert ask(watched, pki, admin, path, method, headers)[0] == status


@pytest.mark.parametrize("path", [PAGE, REPORT, "/client/pages/admin.js"])
def test_guests_find_nothing_of_it(path: str, watched: LiveServer, pki: Pki) -> None:
    assert ask(watched, pki, None, path)[0] == 404


def test_a_report_whose_reading_cannot_be_written_down_is_not_given(
    pki: Pki, admin: ClientPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_full = AuditWriter.write, False

    def write(writer: AuditWriter, events: object) -> None:
        if is_full:
            raise OSError(28, "No space left on device")
        real(writer, events)  # type: ignore[arg-type]  passed on as they came

    monkeypatch.setattr(AuditWriter, "write", write)
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        assert the_report(server, pki, admin)[0] == 200
        is_full = True
        status, body = the_report(server, pki, admin)
        assert (status, json.loads(body)["code"]) == (503, "audit_unavailable")
        is_full = False
