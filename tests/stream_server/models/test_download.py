"""The one outbound connection: resumed, checked, and refused where it should be. The host is a fake."""

import hashlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pki import Pki

from stream_server.errors import ModelError
from stream_server.models.download import ask_size, check_url, download

CONTENT = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Host(ThreadingHTTPServer):
    """Serves CONTENT at every path; the path's last part says how it behaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.requests: list[tuple[str, str, str | None]] = []

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}"


class Answers(BaseHTTPRequestHandler):
    server: Host

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        behaviour, asked = self.path.lstrip("/"), self.headers.get("Range")
        self.server.requests.append((self.command, behaviour, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and behaviour != "no-range" else 0
        body = CONTENT[start:]
        match behaviour:
            case "gone":
                return self.send_error(404)
            case "no-head" if not has_body:
                return self.send_error(405)
            case "away" | "near":
                to = "http://models.example/x" if behaviour == "away" else self.server.url("file")
                self.send_response(302)
                self.send_header("Location", to)
                return self.end_headers()
        if start and not body:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Type", "text/html" if behaviour == "page" else "application/octet-stream")
        if behaviour != "no-length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body[: len(body) // 2] if behaviour == "breaks" else body)
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(url: str, target: Path, sha256: str = SHA256) -> list[int]:
    arrived: list[int] = []
    download(url, target, sha256, arrived.append)
    return arrived


def test_a_file_arrives_whole(host: Host, tmp_path: Path) -> None:
    arrived = fetch(host.url("file"), tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert arrived == sorted(arrived)
    assert arrived[-1] == len(CONTENT)


@pytest.mark.parametrize("behaviour", ["file", "no-range", "no-length", "near"])
@pytest.mark.parametrize("n_here", [1, 500_000, len(CONTENT) - 1])
def test_what_is_there_is_not_fetched_again_if_the_host_can(
    host: Host, tmp_path: Path, behaviour: str, n_here: int
) -> None:
    target = tmp_path / "x.pt"
    target.write_bytes(CONTENT[:n_here])
    fetch(host.url(behaviour), target)
    assert target.read_bytes() == CONTENT
    assert host.requests[0] == ("GET", behaviour, f"bytes={n_here}-")


def test_a_download_that_breaks_off_goes_on_from_there(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "x.pt"
    with pytest.raises(ModelError, match=r"broke off after 512000 of 1024000 bytes; run the same command"):
        fetch(host.url("breaks"), target)
    assert target.stat().st_size == 512_000
    arrived = fetch(host.url("file"), target)
    assert min(arrived) > 512_000
    assert target.read_bytes() == CONTENT


def test_a_complete_file_is_checked_and_not_fetched(host: Host, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(CONTENT)
    assert fetch(host.url("file"), tmp_path / "x.pt") == []


@pytest.mark.parametrize("there", [b"", b"another beginning", CONTENT + b"more"])
def test_another_file_than_wanted_is_removed(host: Host, tmp_path: Path, there: bytes) -> None:
    target = tmp_path / "x.pt"
    target.write_bytes(there)
    with pytest.raises(ModelError, match="is not the file that is wanted"):
        fetch(host.url("file"), target, SHA256 if there else "0" * 64)
    assert not target.exists()
    fetch(host.url("file"), target)


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [
        ("gone", "the host answers 404 Not Found; try another address with --from"),
        ("page", "answers with a page of text, not a file"),
        ("away", "http://models.example/x is not an https:// address"),
    ],
)
def test_what_is_no_file_is_named(host: Host, tmp_path: Path, behaviour: str, what: str) -> None:
    for ask in (lambda url: ask_size(url), lambda url: fetch(url, tmp_path / "x.pt")):
        with pytest.raises(ModelError, match=what):
            ask(host.url(behaviour))
    assert not (tmp_path / "x.pt").exists()


def test_the_size_is_asked_without_fetching(host: Host) -> None:
    assert ask_size(host.url("file")) == len(CONTENT)
    assert ask_size(host.url("near")) == len(CONTENT)
    assert ask_size(host.url("no-length")) is None
    assert ask_size(host.url("no-head")) is None
    assert {method for method, _, _ in host.requests} == {"HEAD"}


def test_a_host_that_is_not_there_is_named_with_the_other_way(free_port: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be reached: .*; on a machine without internet, bring"):
        fetch(f"http://127.0.0.1:{free_port}/x", tmp_path / "x.pt")


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example/x.pt",
        "http://127.0.0.1.example/x.pt",
        "ftp://127.0.0.1/x.pt",
        "file:///etc/passwd",
        "https:///x.pt",
        "tiny",
        "",
    ],
)
def test_only_https_leaves_the_machine(url: str, tmp_path: Path) -> None:
    for ask in (check_url, ask_size):
        with pytest.raises(ModelError, match="is not an https:// address"):
            ask(url)


@pytest.mark.parametrize("url", ["https://a.example/x", "http://localhost:1/x", "http://[::1]:1/x"])
def test_https_and_loopback_may_be_asked(url: str) -> None:
    check_url(url)


def test_a_host_whose_certificate_nobody_vouches_for_is_refused(pki: Pki, tmp_path: Path) -> None:
    with Host() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.store.server_cert, pki.store.server_key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]  a client that leaves is no news
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"https://localhost:{server.server_address[1]}/file"
            with pytest.raises(ModelError, match="certificate verify failed"):
                fetch(url, tmp_path / "x.pt")
        finally:
            server.shutdown()
            thread.join()
    assert server.requests == []
