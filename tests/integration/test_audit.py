"""What a running server writes into its audit log, and what happens when it cannot."""

import asyncio
import json
import os
from pathlib import Path

import pytest
import websockets
from live_server import FINISH, PAUSE, START, LiveServer, live_server, wire
from pki import Bad, Pki
from typer.testing import CliRunner

from certs.identity import identity_from_der
from certs.tls import client_context
from stream_server.cli import app
from stream_server.client import ConnectFailed, connect
from stream_server.engine.fake import numbered_speech
from stream_server.errors import ConfigError
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode
from stream_server.records.verify import Integrity, verify
from stream_server.records.writer import AuditWriter

SPEECH = numbered_speech(range(20)).tobytes()


def entries(folder: Path) -> list[Entry]:
    log = AuditFolder(folder)
    return [decode(line) for number in log.numbers() for line in log.lines(number)]


def of(folder: Path, action: str) -> list[Entry]:
    return [entry for entry in entries(folder) if entry.action == action]


async def test_a_session_leaves_who_what_when_and_how_much_and_no_word(pki: Pki, tmp_path: Path) -> None:
    pair = pki.client("audited", "source")
    identity = identity_from_der(pair.der, "stream-server.local")
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        async with wire(server.url, pki, pair) as client:
            await client.send({**START, "room": "board-301", "speaker": "Anna Canary"}, SPEECH, PAUSE, FINISH)
            events = await client.rest()
    [admitted] = [entry for entry in of(tmp_path / "log", "client.authorize") if entry.actor]
    assert admitted.actor is not None
    assert (admitted.actor.id, admitted.actor.serial) == (identity.uri, f"{identity.serial:x}")
    assert (admitted.src, admitted.object, admitted.outcome) == ("127.0.0.1", "path:/v1/stream", "success")
    [start], [end] = of(tmp_path / "log", "session.start"), of(tmp_path / "log", "session.end")
    assert start.session == end.session == events[0]["session"]
    assert end.actor == admitted.actor
    assert end.detail["audio_ms"] == (len(SPEECH) + len(PAUSE)) // 32
    assert end.detail["code"] == 1000
    assert [entry.action for entry in entries(tmp_path / "log")][-1] == "server.stop"
    said = next(event["text"] for event in events if event["type"] == "final")
    content = b"".join(path.read_bytes() for path in (tmp_path / "log").iterdir())
    for word in (said.encode(), b"Canary"):
        assert word not in content


async def test_another_key_signs_while_the_server_runs(pki: Pki, tmp_path: Path) -> None:
    folder, copies = tmp_path / "log", tmp_path / "copies"
    config = tmp_path / "config.toml"
    config.write_text(f'[audit]\nfolder = "{folder}"\n')
    with live_server(pki, audit={"folder": str(folder), "checkpoint_folder": str(copies)}) as server:
        arguments = ["keys", "rotate", "audit", "--config", str(config), "--state-dir", str(tmp_path)]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert result.exit_code == 0, result.output
        pair = pki.client("after-rotation", "source")
        async with wire(server.url, pki, pair):
            pass
    assert of(folder, "key.rotate")[0].object == "key:audit"
    assert AuditFolder(folder).numbers() == [1, 2]
    verdict = verify(AuditFolder(folder), AuditFolder(copies))
    assert (verdict.integrity, verdict.n_uncovered) == (Integrity.INTACT, 0)


async def test_refusals_are_written_with_reason_and_address(pki: Pki, tmp_path: Path) -> None:
    expired, reader = pki.bad(Bad.EXPIRED), pki.client("audited-screen", "reader")
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        with pytest.raises(ConnectFailed):
            async with connect(server.url, tls=client_context(pki.ca, expired.cert, expired.key)):
                pass
        with pytest.raises(websockets.InvalidStatus):
            async with wire(server.url, pki, reader):
                pass
        with pytest.raises(websockets.InvalidStatus):
            async with wire(server.url.replace("/v1/stream", "/etc/passwd"), pki, reader):
                pass
    [handshake] = of(tmp_path / "log", "client.authenticate")
    assert (handshake.outcome, handshake.reason, handshake.src) == ("denied", "expired", "127.0.0.1")
    role, path = of(tmp_path / "log", "client.authorize")
    assert (role.reason, role.object) == ("not_allowed", "path:/v1/stream")
    assert role.actor is not None
    assert role.actor.id.endswith("/reader/audited-screen")
    assert (path.reason, path.object) == ("not_found", "path:?")


async def test_the_log_of_a_server_is_intact_and_signed_in_two_places(pki: Pki, tmp_path: Path) -> None:
    audit = {"folder": str(tmp_path / "log"), "checkpoint_folder": str(tmp_path / "copies")}
    for _ in range(2):
        with live_server(pki, audit=audit):
            pass
    verdict = verify(AuditFolder(tmp_path / "log"), AuditFolder(tmp_path / "copies"))
    assert (verdict.integrity, verdict.n_uncovered) == (Integrity.INTACT, 0)
    assert verdict.n_checkpoints >= 2
    actions = [entry.action for entry in entries(tmp_path / "log")]
    assert actions == ["tls.load", "server.start", "model.load", "policy.load", "server.stop"] * 2


async def test_nobody_is_admitted_while_the_log_cannot_be_written(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pki.client("audited-two", "source")
    real = AuditWriter.write
    is_full = False

    def write(writer: AuditWriter, events: object) -> None:
        if is_full:
            raise OSError(28, os.strerror(28))
        real(writer, events)  # type: ignore[arg-type]  passed on as they came

    monkeypatch.setattr(AuditWriter, "write", write)
    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        async with wire(server.url, pki, pair) as before:
            await before.send(START, SPEECH)
            await before.receive("started")
            is_full = True
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with wire(server.url, pki, pair):
                    pass
            assert refused.value.response.status_code == 503
            assert json.loads(refused.value.response.body)["code"] == "audit_unavailable"
            assert refused.value.response.headers["Retry-After"] == "10"
            is_full = False
            await before.send(PAUSE, FINISH)
            assert (await before.rest())[-1]["type"] == "finished", "who was in stays"
        async with wire(server.url, pki, pair) as after:
            await after.send(START, FINISH)
            assert (await after.rest())[-1]["type"] == "finished"
    ended = of(tmp_path / "log", "session.end")
    assert len(ended) == 2, "what nobody waited for was kept until it could be written"


def test_a_log_that_was_edited_keeps_the_server_from_starting(pki: Pki, tmp_path: Path) -> None:
    with live_server(pki, audit={"folder": str(tmp_path / "log")}):
        pass
    path = AuditFolder(tmp_path / "log").entries(1)
    path.write_bytes(path.read_bytes().replace(b"server.start", b"server.smart"))
    with (
        pytest.raises(ConfigError, match="audit verify"),
        live_server(pki, audit={"folder": str(tmp_path / "log")}),
    ):
        pass


async def test_a_flood_of_bad_certificates_is_a_few_lines(pki: Pki, tmp_path: Path) -> None:
    expired = pki.bad(Bad.EXPIRED)
    context = client_context(pki.ca, expired.cert, expired.key)

    async def knock(server: LiveServer) -> None:
        with pytest.raises(ConnectFailed):
            async with connect(server.url, tls=context):
                pass

    with live_server(pki, audit={"folder": str(tmp_path / "log")}) as server:
        for _ in range(5):
            await asyncio.gather(*(knock(server) for _ in range(8)))
    written = of(tmp_path / "log", "client.authenticate")
    [suppressed] = of(tmp_path / "log", "audit.suppress")
    assert len(written) == 5
    assert suppressed.detail["suppressed"] == 35
