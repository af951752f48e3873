"""What scanners of others see of a running server: ``make testssl``.

The scan's own words are kept in ``docs/evidence/testssl.txt``.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, live_server
from pki import ClientPair, Pki

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence" / "testssl.txt"
TICKET = "New Session Ticket arrived"
SCAN_S = 900

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")
needs_testssl = pytest.mark.skipif(
    TESTSSL is None, reason="no testssl here: install the Debian package testssl.sh"
)
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl here: install the Debian package openssl"
)


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[LiveServer]:
    """Limits as they are by default, but for one: a scanner makes many handshakes at once."""
    with live_server(pki) as running:
        yield running


@needs_testssl
@pytest.mark.timeout(SCAN_S + 60)
def test_testssl_sees_tls_13_only_and_no_resumption(server: LiveServer, tmp_path: Path) -> None:
    """Protocols, preferences, defaults and known weaknesses, as anybody without a certificate sees them."""
    assert TESTSSL is not None
    report = tmp_path / "findings.json"
    address = f"127.0.0.1:{server.ready.addresses[0][1]}"
    what = ["--protocols", "--server-preference", "--server-defaults", "--vulnerable"]
    how = ["--color", "0", "--quiet", "--warnings", "off", "--ip", "one", "--jsonfile", str(report)]
    scan = subprocess.run(
        [TESTSSL, *how, *what, address], capture_output=True, text=True, timeout=SCAN_S, check=False
    )
    findings = {finding["id"]: finding["finding"] for finding in json.loads(report.read_text())}
    EVIDENCE.parent.mkdir(parents=True, exist_ok=True)
    EVIDENCE.write_text(_readable(scan.stdout))
    old = ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2")
    assert {name: findings[name] for name in old} == dict.fromkeys(old, "not offered")
    assert findings["TLS1_3"] == "offered with final"
    assert findings["sessionresumption_ticket"] == "not supported"
    assert findings["sessionresumption_ID"] == "No Session ID, no resumption"
    assert findings["TLS_session_ticket"].startswith("no --")
    assert "early" not in findings["TLS_extensions"]
    weak = [name for name, finding in findings.items() if finding.upper().startswith("VULNERABLE")]
    assert weak == []


def _readable(said: str) -> str:
    """Without what moves a terminal's cursor, and without spaces at the ends of lines."""
    lines = (line.rpartition("\r")[2].rstrip() for line in said.replace("\x08", "").splitlines())
    return "\n".join(lines).strip() + "\n"


def _greeted(port: int, *options: str) -> str:
    """What ``openssl s_client`` says of a connection that lasts for a request and its answer."""
    command = ["openssl", "s_client", "-ign_eof", "-connect", f"127.0.0.1:{port}", *options]
    request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@needs_openssl
def test_openssl_with_a_certificate_gets_no_ticket(server: LiveServer, source: ClientPair) -> None:
    """Tickets come after the handshake, which testssl without a certificate never ends.

    Without a ticket there is nothing to resume, and no early data, which needs one (RFC 8446, 4.2.10).
    """
    port = server.ready.addresses[0][1]
    said = _greeted(port, "-cert", str(source.cert), "-key", str(source.key))
    assert "HTTP/1.1 200 OK" in said
    assert "New, TLSv1.3" in said
    assert TICKET not in said
    assert "Max Early Data" not in said
    assert "HTTP/1.1" not in _greeted(port, "-cert", str(source.cert), "-key", str(source.key), "-tls1_2")


@needs_openssl
def test_openssl_would_tell_of_a_ticket(pki: Pki, free_port: int) -> None:
    """The same question to a server that gives them."""
    cert, key, *_ = pki.server_files
    pair = ["-cert", str(cert), "-key", str(key)]
    other = ["openssl", "s_server", "-accept", f"127.0.0.1:{free_port}", *pair, "-www", "-naccept", "2"]
    with subprocess.Popen(other, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "ACCEPT" not in process.stdout.readline():
            assert process.poll() is None, "openssl s_server did not start"
        try:
            assert TICKET in _greeted(free_port)
        finally:
            process.kill()
