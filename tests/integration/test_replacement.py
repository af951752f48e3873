"""Models are replaced while the server runs: who came before finishes on the old, who comes gets the new."""

import logging
import os
import signal
from pathlib import Path

import pytest
from live_server import FINISH, PAUSE, START, LiveServer, WireClient, live_server, wire
from models import random_whisper, shape, write_model
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_speech
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode

SPEECH = numbered_speech(range(20)).tobytes() + PAUSE
PATIENCE_S = 120.0
"""A process that imports torch takes seconds, on a busy machine many."""
TEXT = " ".join(map(str, range(20)))


def pid(server: LiveServer) -> int:
    """Of the engine that new sessions get."""
    number = server.worker.pid
    assert number is not None
    return number


async def says(client: WireClient, n_times: int = 1) -> None:
    """Speak, and hear exactly that."""
    for _ in range(n_times):
        await client.send(SPEECH)
        assert (await client.receive("final"))["text"] == TEXT


def failures(server: LiveServer) -> int:
    return int(server.app._metrics.reload_failures.labels(what="models")._value.get())


def is_alive(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


def entries(folder: Path, action: str) -> list[Entry]:
    log = AuditFolder(folder)
    lines = [decode(line) for number in log.numbers() for line in log.lines(number)]
    return [entry for entry in lines if entry.action == action]


async def test_old_sessions_finish_on_the_old_models_and_new_ones_get_the_new(
    pki: Pki, source: ClientPair, tmp_path: Path
) -> None:
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        old = pid(server)
        async with wire(server.url, pki, source) as before:
            await before.send(START)
            await says(before)
            server.reload(model="other")
            await server.until(lambda: pid(server) != old)
            assert is_alive(old)
            async with wire(server.url, pki, source) as after:
                await after.send(START)
                await says(after)
                # The old engine dies, and its session loses nothing by it; the new one is not touched.
                os.kill(old, signal.SIGKILL)
                await says(before, 2)
                await says(after)
                assert server.app._decoding._retired is not None
                await before.send(FINISH)
                await before.rest()
                await server.until(lambda: server.app._decoding._retired is None)
                await says(after)
        assert failures(server) == 0
    loads = entries(tmp_path / "log", "model.load")
    loaded = [(entry.outcome, entry.detail["manifest_sha256"]) for entry in loads]
    assert loaded == [("success", ""), ("success", "other")]
    assert len(entries(tmp_path / "log", "model.unload")) == 1


async def test_a_configuration_that_cannot_be_read_leaves_the_old_models_in_use(
    pki: Pki, source: ClientPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        old = pid(server)
        async with wire(server.url, pki, source) as client:
            await client.send(START)
            server.reload(model="other", tiers={"live": "another"})
            await server.until(lambda: failures(server) == 1)
            await says(client)
        assert pid(server) == old
    [record] = [record for record in caplog.records if record.message == "models_reload_failed"]
    assert "model is the short form of tiers.live" in str(record.__dict__)
    assert [entry.outcome for entry in entries(tmp_path / "log", "model.load")] == ["success", "failure"]


async def test_a_reload_that_finds_the_same_models_does_nothing(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_server(pki) as server:
        old = pid(server)
        server.reload(partial_ms=256)
        await server.until(lambda: "models_unchanged" in caplog.messages)
        assert (pid(server), failures(server)) == (old, 0)


async def test_a_third_set_of_models_is_not_loaded_beside_two(pki: Pki, source: ClientPair) -> None:
    with live_server(pki) as server:
        old = pid(server)
        async with wire(server.url, pki, source) as client:
            await client.send(START)
            await client.receive("started")
            server.reload(model="second")
            await server.until(lambda: pid(server) != old)
            second = pid(server)
            server.reload(model="third")
            await server.until(lambda: failures(server) == 1)
            await says(client)
        await server.until(lambda: server.app._decoding._retired is None)
        server.reload(model="third")
        await server.until(lambda: pid(server) != second)


async def test_a_session_that_stays_too_long_is_ended_with_its_finals(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, engine={"retire_s": 1.0}) as server:
        old = pid(server)
        async with wire(server.url, pki, source) as client:
            await client.send(START, numbered_speech(range(20)).tobytes())
            await client.receive("started")
            server.reload(model="other")
            events = await client.rest_or_error()
            assert [event["type"] for event in events][-2:] == ["final", "error"]
            assert events[-2]["text"] == TEXT
            assert (events[-1]["code"], events[-1]["message"]) == (
                "shutting_down",
                "the server has other models now; connect again",
            )
        await server.until(lambda: server.app._decoding._retired is None)
        await server.until(lambda: not is_alive(old))


@pytest.mark.model
@pytest.mark.slow
async def test_damaged_weights_are_given_to_no_session(
    pki: Pki, source: ClientPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "small", random_whisper(shape(64, 2, n_layer=1)))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with live_server(pki) as server:
        old = pid(server)
        server.reload(fake=False, model=str(folder))
        await server.until(lambda: failures(server) == 1, PATIENCE_S)
        assert "truncated or altered" in caplog.text
        assert pid(server) == old
        async with wire(server.url, pki, source) as client:
            await client.send(START)
            await says(client)
