"""Nothing goes out: no connection, no look-up, no packet, from the server's process or the engine's."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from live_server import FINISH, START, wire
from namespaces import LOOPBACK_ONLY, NO_INTERFACE, WATCHED, missing
from one_stream import N_FRAMES
from pki import ClientPair, Pki
from serve_command import FAKE, address_printed, serve

from certs.tls import client_context
from stream_server.engine.fake import numbered_speech, numbers_in

SUPPORT = Path(__file__).parents[1] / "support"
needs_namespaces = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def forbidding(record: Path) -> dict[str, str]:
    """Environment in which every Python process fails when it connects or looks a name up."""
    paths = [str(SUPPORT / "forbid_connections"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "CONNECTIONS_FILE": str(record)}


def lines_of(record: Path, kind: str) -> list[str]:
    return [line for line in record.read_text().splitlines() if line.startswith(kind)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [FAKE, pytest.param("[server]\nport = 0\n", marks=pytest.mark.model)], ids=["fake", "model"]
)
async def test_the_server_and_its_engine_connect_to_nothing_and_look_nothing_up(
    config: str, pki: Pki, source: ClientPair, tmp_path: Path
) -> None:
    record = tmp_path / "connections"
    with serve(pki, config, environment=forbidding(record)) as process:
        async with wire(address_printed(process), pki, source) as client:
            await client.send(START, numbered_speech(range(60)).tobytes(), FINISH)
            await client.rest()
        process.terminate()
        process.communicate(timeout=20)
    assert client.events[-1]["type"] == "finished"
    assert process.returncode == 0
    assert lines_of(record, "stopped") == []
    # The server and the engine, each with the hook; multiprocessing's own helper may be a third.
    assert len(lines_of(record, "armed")) >= 2
    assert [line for line in lines_of(record, "started") if sys.executable not in line] == []


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('models.example', 443)",
        "socket.gethostbyname('models.example')",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.9', 53))",
        "urllib.request.urlopen('https://models.example')",
    ],
)
def test_the_hook_would_find_a_connection(attempt: str, tmp_path: Path) -> None:
    record = tmp_path / "connections"
    command = [sys.executable, "-c", f"import socket, urllib.request\n{attempt}"]
    done = subprocess.run(
        command, env={**os.environ, **forbidding(record)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "forbidden" in done.stderr
    assert lines_of(record, "stopped")


def run_in(namespace: list[str], *command: str) -> str:
    """Standard output of Python in a namespace, which must succeed."""
    paths = [str(SUPPORT), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*namespace, sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_namespaces
@pytest.mark.slow
def test_no_packet_leaves_while_a_server_starts_serves_and_stops(tmp_path: Path) -> None:
    said = json.loads(run_in(WATCHED, str(SUPPORT / "one_stream.py"), str(tmp_path)))
    assert said == {"numbers": list(range(N_FRAMES)), "last": "finished", "packets_out": 0}


@needs_namespaces
@pytest.mark.parametrize("address", ["203.0.113.9", "192.0.2.2"])
def test_the_watch_would_count_a_packet(address: str) -> None:
    send = (
        "import socket, namespaces\n"
        f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{address}', 53))\n"
        "print(namespaces.packets_out())"
    )
    assert int(run_in(WATCHED, "-c", send)) == 1


@needs_namespaces
def test_with_loopback_only_every_other_address_is_unreachable() -> None:
    connect = "import socket; socket.create_connection(('192.0.2.9', 443), 5)"
    done = subprocess.run(
        [*LOOPBACK_ONLY, sys.executable, "-c", connect], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in done.stderr


@needs_namespaces
@pytest.mark.slow
async def test_a_server_without_any_network_serves_on_sockets_it_was_given(
    pki: Pki, source: ClientPair, tmp_path: Path
) -> None:
    config = FAKE + "ops_port = 9\n[guest]\nenabled = true\n"
    with ExitStack() as stack:
        sockets = {
            name: stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for name in ("server", "guest", "ops")
        }
        port, guest_port, ops_port = (sock.getsockname()[1] for sock in sockets.values())
        passed = ",".join(f"{sock.fileno()}:{name}" for name, sock in sockets.items())
        before = [*NO_INTERFACE, sys.executable, str(SUPPORT / "pass_sockets.py"), passed]
        fds = [sock.fileno() for sock in sockets.values()]
        process = stack.enter_context(serve(pki, config, before=before, fds=fds))
        assert address_printed(process) == f"wss://localhost:{port}/v1/stream"
        async with wire(f"wss://localhost:{port}/v1/stream", pki, source) as client:
            await client.send(START, numbered_speech(range(60)).tobytes(), FINISH)
            await client.rest()
        health = HTTPConnection("127.0.0.1", ops_port, timeout=10)
        health.request("GET", "/readyz")
        assert health.getresponse().status == 200
        health.close()
        tls = client_context(pki.ca)
        page = HTTPSConnection("localhost", guest_port, context=tls, timeout=10)
        page.request("GET", "/healthz")
        assert page.getresponse().status == 200
        page.close()
        # Where the server lives, nothing can be reached: not even itself, not even loopback.
        inside = ["nsenter", f"--net=/proc/{process.pid}/ns/net", sys.executable, "-c"]
        for address in [("127.0.0.1", port), ("192.0.2.9", 443)]:
            attempt = f"import socket; socket.create_connection({address}, 5)"
            failed = await asyncio.create_subprocess_exec(*inside, attempt, stderr=subprocess.PIPE)
            assert b"Network is unreachable" in (await failed.communicate())[1]
        process.terminate()
        process.communicate(timeout=20)
    assert [number for final in client.of("final") for number in numbers_in(final["text"])] == list(range(60))
    assert process.returncode == 0
