import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_caption_server import (
    FakeServer,
    FakeSession,
    Gate,
    Script,
    fake_server,
    one_sentence,
    refusing,
    silence,
    until_finish,
)
from pki import ClientPair, Pki
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream_server.cli.transcribe import Settings, transcribe, transcribe_files
from stream_server.core.messages import BeamSearch


def talk(folder: Path, name: str = "talk.wav", seconds: float = 0.1, channels: int = 1) -> Path:
    soundfile.write(folder / name, np.zeros((round(16_000 * seconds), channels), dtype=np.int16), 16_000)
    return folder / name


class Run:
    """One call of the command, its output, and its virtual time."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.out, self.errors = io.StringIO(), io.StringIO()
        self.is_terminal = is_terminal
        self.slept_s: list[float] = []
        self.is_clean: bool | None = None

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)

    async def __call__(self, fake: FakeServer, files: Sequence[Path], **options: object) -> None:
        settings = replace(Settings(fake.url, fake.tls, partials=False), **options)  # type: ignore[arg-type]  # by name
        self.is_clean = await transcribe_files(
            files, settings, self.console(self.out), self.console(self.errors), sleep=self.sleep
        )

    def console(self, file: io.StringIO) -> Console:
        return Console(file=file, force_terminal=self.is_terminal, width=100, highlight=False, soft_wrap=True)


async def transcribed(
    pki: Pki,
    client: ClientPair,
    files: Sequence[Path],
    script: Script = one_sentence,
    gate: Gate | None = None,
    **options: object,
) -> Run:
    run = Run()
    async with fake_server(pki, client, script, gate=gate) as fake:
        await run(fake, files, **options)
    return run


async def test_finals_are_printed_with_their_times(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    run = await transcribed(pki, client, [talk(tmp_path)])
    assert run.out.getvalue() == "[00:01.0 → 00:02.5] Hello world.\n"
    assert run.errors.getvalue() == ""
    assert run.is_clean


async def test_real_time_waits_between_chunks_and_fast_does_not(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    path = talk(tmp_path, seconds=0.5)
    live = await transcribed(pki, client, [path])
    assert len(live.slept_s) == 5
    assert sum(live.slept_s) > 0.5
    fast = await transcribed(pki, client, [path], is_fast=True)
    assert fast.slept_s == []


async def test_the_server_is_told_format_and_language(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    async with fake_server(pki, client, silence) as fake:
        await Run()(fake, [talk(tmp_path, channels=2)], language="de", is_fast=True)
        asked = {"type": "start", "channels": 2, "language": "de", "partials": False}
        assert asked.items() <= fake.sessions[0].start.items()
        assert len(fake.sessions[0].audio) == 1600 * 2 * 2


async def test_a_beam_search_is_asked_of_the_server(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    async with fake_server(pki, client, silence) as fake:
        await Run()(fake, [talk(tmp_path)], beam=BeamSearch(5, length_penalty=0.5), is_fast=True)
        assert fake.sessions[0].start["beam"] == {"size": 5, "patience": 1.0, "length_penalty": 0.5}


async def test_second_looks_and_the_transcript_are_asked_for(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    async with fake_server(pki, client, one_sentence) as fake:
        run = Run()
        await run(fake, [talk(tmp_path)], revise=True, transcript=True, is_fast=True)
        assert {"revise": True, "transcript": True}.items() <= fake.sessions[0].start.items()
        assert run.out.getvalue() == ""


async def test_a_room_gets_partials_though_the_terminal_shows_none(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    async with fake_server(pki, client, silence) as fake:
        await Run()(fake, [talk(tmp_path)], room="hall", speaker="Anna", is_fast=True)
        asked = {"room": "hall", "speaker": "Anna", "partials": True}
        assert asked.items() <= {"partials": True, **fake.sessions[0].start}.items()


async def test_silence_is_no_error_and_is_told(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    run = await transcribed(pki, client, [talk(tmp_path)], silence)
    assert run.out.getvalue() == ""
    assert run.errors.getvalue() == f"{tmp_path / 'talk.wav'}: no speech found\n"
    assert run.is_clean


async def test_a_file_that_fails_is_named_and_the_others_go_on(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    good, bad = talk(tmp_path), tmp_path / "letter.wav"
    bad.write_text("Dear Sir")
    run = await transcribed(pki, client, [bad, tmp_path / "gone.wav", good])
    assert run.is_clean is False
    errors = run.errors.getvalue().splitlines()
    assert errors[0].startswith(f"error: {bad}: not a recording")
    assert errors[1] == f"error: {tmp_path / 'gone.wav'}: no such file"
    assert run.out.getvalue().endswith(f"{good}\n[00:01.0 → 00:02.5] Hello world.\n")


async def test_a_stream_that_fails_is_one_line_with_the_file(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    async def fail(session: FakeSession) -> None:
        await session.fail("engine_failed", "the decoder died", 1011)

    run = await transcribed(pki, client, [talk(tmp_path)], fail)
    assert run.errors.getvalue() == f"error: {tmp_path / 'talk.wav'}: the decoder died (engine_failed)\n"
    assert run.is_clean is False


async def test_json_is_one_event_a_line(
    pki: Pki, client: ClientPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await transcribed(pki, client, [talk(tmp_path)], is_json=True, partials=True)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events] == ["speech_started", "partial", "final", "finished"]
    assert {event["file"] for event in events} == {str(tmp_path / "talk.wav")}


async def test_trace_asks_the_server_and_shows_the_hops_of_each_final(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    hops = {"pause": 0.3, "vad": 0.01, "queue": 0.0, "batch": 0.0, "decode": 0.05, "send": 0.002}

    async def tell(session: FakeSession) -> None:
        assert session.start["trace"] is True
        await until_finish(session)
        final = {"segment": 0, "start": 0.0, "end": 1.5, "text": "Hello.", "language": "en"}
        await session.say("final", **final, utterance_end=True, trace=hops)
        await session.finished(1)

    run = await transcribed(pki, client, [talk(tmp_path)], tell, trace=True)
    assert (
        "  1.50 s: pause 300 · vad 10 · queue 0 · batch 0 · decode 50 · send 2 = 362 ms"
        in run.errors.getvalue()
    )
    assert "hops of 1 finals, ms" in run.errors.getvalue()


def busy_at_first(n_refused: int) -> Gate:
    refuse = refusing(429, '{"code": "too_many", "message": "too many connects"}', Retry_After="7")
    left = [n_refused]

    def respond(connection: ServerConnection, request: Request) -> Response | None:
        left[0] -= 1
        return refuse(connection, request) if left[0] >= 0 else None

    return respond


async def test_a_server_that_asks_to_wait_is_waited_for(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    run = await transcribed(pki, client, [talk(tmp_path)], gate=busy_at_first(2), is_fast=True)
    assert run.is_clean
    assert run.slept_s == [7.0, 7.0]
    assert "too many connects; try again in 7 s; waiting" in run.errors.getvalue()


async def test_a_server_that_never_lets_in_is_given_up(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    run = await transcribed(pki, client, [talk(tmp_path)], gate=busy_at_first(99), is_fast=True)
    assert run.is_clean is False
    assert run.slept_s == [7.0] * 4


@pytest.mark.parametrize(("partials", "shows_bar"), [(False, True), (True, False)])
async def test_a_long_fast_file_has_a_progress_bar_in_a_terminal(
    pki: Pki, client: ClientPair, tmp_path: Path, partials: bool, shows_bar: bool
) -> None:
    run = Run(is_terminal=True)
    async with fake_server(pki, client, one_sentence) as fake:
        await run(fake, [talk(tmp_path, seconds=25.0)], is_fast=True, partials=partials)
    assert ("━" in run.out.getvalue()) is shows_bar
    assert "Hello world." in run.out.getvalue()
    assert run.errors.getvalue() == ""


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("STREAM_SERVER_STATE", str(tmp_path / "state"))
    return CliRunner()


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(transcribe)
    return app


def test_without_certificates_the_command_says_how_to_get_them(
    runner: CliRunner, app: Typer, tmp_path: Path
) -> None:
    result = runner.invoke(app, [str(talk(tmp_path))])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no client certificate" in result.stderr
    assert "stream-server certs client NAME" in result.stderr


def test_a_broken_certificate_is_named(runner: CliRunner, app: Typer, tmp_path: Path, pki: Pki) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    result = runner.invoke(app, [str(talk(tmp_path)), "--ca", str(pki.ca), "--cert", str(broken)])
    assert result.exit_code == 1
    assert str(broken) in result.stderr


def test_a_server_that_is_not_there_is_told_and_the_exit_code_is_1(
    runner: CliRunner, app: Typer, tmp_path: Path, pki: Pki, client: ClientPair
) -> None:
    arguments = ["--certs", str(pki.store.folder), "--url", "wss://127.0.0.1:1/v1/stream"]
    result = runner.invoke(app, [str(talk(tmp_path)), *arguments])
    assert result.exit_code == 1
    assert "nothing answers at 127.0.0.1:1" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_is_enough_to_use_it(runner: CliRunner, app: Typer) -> None:
    result = runner.invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert result.exit_code == 0
    for option in ("--url", "--certs", "--fast", "--json", "--language", "--partials", "FILE..."):
        assert option in result.stdout
