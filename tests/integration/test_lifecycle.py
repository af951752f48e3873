"""Start and stop: wrong files, ports in use, SIGTERM in mid-sentence, a dead engine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_server import START, live_server, wire
from pki import ClientPair, Pki
from serve_command import FAKE, address_printed, serve

from stream_server.app import EXIT_ENGINE_FAILED
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.engine.manifest import embedded_model


async def test_sigterm_delivers_the_finals_closes_with_1001_and_exits_0(pki: Pki, source: ClientPair) -> None:
    with serve(pki, FAKE) as process:
        async with wire(address_printed(process), pki, source) as client:
            await client.send(START, numbered_speech(range(60)).tobytes())
            await client.receive("speech_started")
            stopped_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            events = await client.rest_or_error()
        assert process.wait(10) == 0
        assert time.monotonic() - stopped_s < 10
    assert [numbers_in(final["text"]) for final in client.of("final")] == [list(range(60))]
    assert events[-1]["code"] == "shutting_down"
    assert client.socket.close_code == 1001


async def test_an_engine_that_dies_too_often_ends_sessions_with_engine_failed_and_the_server_with_70(
    pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, engine={"restarts": 0}) as server:
        async with wire(server.url, pki, source) as client:
            await client.send(START, numbered_speech(range(20)).tobytes())
            await client.receive("speech_started")
            server.worker.kill()
            events = await client.rest_or_error()
        assert events[-1]["code"] == "engine_failed"
        assert client.socket.close_code == 1011
        assert server.join() == EXIT_ENGINE_FAILED


def test_no_process_and_no_thread_is_left_behind(pki: Pki) -> None:
    with live_server(pki) as server:
        engine = server.worker
        vad = server.app._vad._thread
    assert not vad.is_alive()
    assert engine.exitcode == 0
    assert server.exit_code == 0


def complaint(pki: Pki, config: str, *arguments: str) -> str:
    """What ``serve`` says when it does not start."""
    with serve(pki, config, *arguments) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "Traceback" not in errors
        return errors


def test_a_port_in_use_is_named_with_the_option_that_helps(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = complaint(pki, "[engine]\nfake = true\n", "--port", str(port))
    assert str(port) in said
    assert "--port" in said


def test_an_unknown_configuration_key_is_named_with_its_file(pki: Pki) -> None:
    said = complaint(pki, "[limits]\nsesions = 3\n")
    assert "limits.sesions" in said
    assert ".toml" in said
    assert "sessions" in said


def copy_model(folder: Path) -> Path:
    """The embedded model in a folder of its own."""
    folder.mkdir()
    for file in embedded_model().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "is empty"),
        (lambda folder: truncate(folder / "model.safetensors"), "truncated or altered"),
        (lambda folder: (folder / "manifest.json").unlink(), "does not exist"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not a model manifest"),
    ],
    ids=["missing", "empty", "altered", "no manifest", "broken manifest"],
)
@pytest.mark.slow
def test_a_damaged_model_is_named_and_the_server_does_not_start(
    damage: object, words: str, pki: Pki, tmp_path: Path
) -> None:
    folder = copy_model(tmp_path / "model")
    assert callable(damage)
    damage(folder)
    said = complaint(pki, "[server]\nport = 0\n", "--model", str(folder))
    assert words in said
    assert str(folder) in said


def truncate(path: Path) -> None:
    """Cut the last byte off."""
    path.write_bytes(path.read_bytes()[:-1])


def test_missing_certificates_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream_server", "serve", "--state-dir", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr.replace("\n", "")
    assert "stream-server certs" in done.stderr.replace("\n", " ")


def child_of(pid: int) -> int:
    """The only child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(shutil.which("strace") is None, reason="watches system calls: apt-get install strace")
async def test_the_server_and_its_engine_connect_to_nothing(
    pki: Pki, source: ClientPair, tmp_path: Path
) -> None:
    calls = tmp_path / "calls.txt"
    watch = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg",
        "-e",
        "signal=none",
        "-o",
        str(calls),
    ]
    with serve(pki, "[server]\nport = 0\n", before=watch) as process:
        async with wire(address_printed(process), pki, source) as client:
            await client.send(START, b"\0" * 32_000, {"type": "finish"})
            await client.rest()
        # The signal must reach the server, not the tracer.
        os.kill(child_of(process.pid), signal.SIGTERM)
        process.communicate(timeout=20)
    # A library asks for the name of its user when it is imported, which the C library asks a daemon first.
    lines = [line for line in calls.read_text().splitlines() if "/nscd/socket" not in line]
    assert [line for line in lines if "AF_INET" in line or "connect(" in line] == []


async def test_logs_hold_no_text_and_no_names(pki: Pki) -> None:
    secret = pki.client("very-secret-name", "source")
    with serve(pki, FAKE) as process:
        async with wire(address_printed(process), pki, secret) as client:
            await client.send(START, numbered_speech(range(7_000, 7_060)).tobytes(), "{7042")
            await client.rest_or_error()
            assert numbers_in(client.of("final")[0]["text"])[42] == 7042
        process.terminate()
        _, log = process.communicate(timeout=15)
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"serving", "session_opened", "session_closed", "stopped"} <= {line["event"] for line in lines}
    assert "7042" not in log
    assert "secret" not in log
