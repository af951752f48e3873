"""The command against servers with the deterministic engine, whose text is what the audio counts."""

import asyncio
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from live_server import LiveServer, live_server
from load_runs import GOOD_RUN
from pki import ClientPair, Pki
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from stream_server.cli.bench import OWN_CONFIG, bench
from stream_server.cli.bench_outcome import Wanted, write_files
from stream_server.cli.demo import Place
from stream_server.engine.fake import numbered_speech
from stream_server.evaluation.result import Percentiles
from stream_server.load.result import RunResult
from stream_server.load.run import Material, Settings, Target
from stream_server.load.usage import Usage


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(bench)
    return app


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings of a second or so, whose words are their frames' numbers."""
    recordings = []
    for name, first, n_frames in (("a.wav", 100, 40), ("b.wav", 500, 25)):
        numbers = range(first, first + n_frames)
        soundfile.write(tmp_path / name, numbered_speech(numbers), 16_000, subtype="PCM_16")
        words = [
            {"word": str(number), "start": 0.032 * i, "end": 0.032 * (i + 1)}
            for i, number in enumerate(numbers)
        ]
        text = " ".join(map(str, numbers))
        recordings.append({"file": name, "text": text, "words": words, "speech_end": 0.032 * n_frames})
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"recordings": recordings}))
    return path


def client_options(server: LiveServer, pki: Pki, client: ClientPair) -> list[str]:
    return ["--server", server.url, "--ca", str(pki.ca), "--cert", str(client.cert)]


@pytest.mark.slow
def test_a_server_of_its_own_is_measured_and_nothing_is_lost(
    runner: CliRunner, app: Typer, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module has the name of its function, which hides it.
    monkeypatch.setitem(bench.__globals__, "OWN_CONFIG", OWN_CONFIG + "[engine]\nfake = true\n")
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    options = ["--sessions", "3", "--seconds", "2.5", "--ramp", "0.5", "--gap", "0.8"]
    result = runner.invoke(app, [str(manifest), *options, "--json", str(found), "--plot", str(plot)])
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(found.read_text())["runs"]
    assert (run["sessions"], run["finished"], run["lost"], run["doubled"], run["uncaptioned"]) == (
        3,
        3,
        0,
        0,
        0,
    )
    assert run["wer"] == 0
    assert run["utterances"] >= 6
    # The fake engine takes no time: what is left is the pause that ends an utterance, and the chunk.
    assert 0.4 < run["final"]["p50_s"] < 1.0
    assert run["partial_is_by_word"]
    assert 0.2 < run["hops"]["pause"]["p50_s"] < 0.6
    assert run["server"]["memory_bytes"] > 10_000_000
    assert run["client"]["cores"] < 1
    assert plot.read_text().startswith("<svg")
    assert "sessions" in result.stdout


@pytest.mark.slow
def test_what_a_server_refuses_is_told_with_the_key_to_raise(
    runner: CliRunner, app: Typer, manifest: Path, pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    with live_server(pki, limits={"sessions_per_identity": 1}) as server:
        options = ["--sessions", "2", "--seconds", "1", "--ramp", "0.2", "--json", str(tmp_path / "f.json")]
        result = runner.invoke(app, [str(manifest), *options, *client_options(server, pki, client)])
    assert result.exit_code == 1
    assert "2 sessions: 1 of 2 clients were refused (too_many)" in result.stderr
    assert "1 sessions of this certificate are open" in result.stderr
    assert "limits.sessions_per_identity" in result.stderr
    (run,) = json.loads((tmp_path / "f.json").read_text())["runs"]
    assert (run["finished"], run["refused"], run["server"]) == (1, {"too_many": 1}, None)


def _n_samples(server: LiveServer) -> int:
    """Received by all open sessions."""
    return sum(seat.session.n_samples for seat in server.app._hub._seats.values())


@pytest.mark.slow
def test_an_interrupt_shows_the_figures_so_far(
    runner: CliRunner, app: Typer, manifest: Path, pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    options = ["--sessions", "2", "--seconds", "600", "--ramp", "0", "--json", str(found)]

    def interrupt(server: LiveServer) -> None:
        asyncio.run(server.until(lambda: _n_samples(server) > 3 * 32_000))
        os.kill(os.getpid(), signal.SIGINT)

    with live_server(pki) as server:
        interrupting = threading.Thread(target=interrupt, args=(server,))
        interrupting.start()
        result = runner.invoke(app, [str(manifest), *options, *client_options(server, pki, client)])
        interrupting.join()
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(found.read_text())["runs"]
    assert run["is_interrupted"]
    assert (run["finished"], run["lost"], run["wer"]) == (2, 0, 0)
    assert "stopped early" in result.stderr


async def test_after_the_limit_a_run_at_four_fifths_of_it_is_measured_and_all_of_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, float]] = []

    async def run_load(
        target: Target, material: Material, settings: Settings, sessions: int, **options: object
    ) -> RunResult:
        asked.append((sessions, settings.measure_s))
        p95_s = 0.5 + sessions / 50
        queue = {"queue": Percentiles(9, 0.1, p95_s - 0.4, p95_s)}
        usage = Usage(sessions / 15, 10**8)
        return replace(
            GOOD_RUN, sessions=sessions, final=Percentiles(9, 0.5, p95_s, p95_s), hops=queue, server=usage
        )

    monkeypatch.setitem(bench.__globals__, "run_load", run_load)
    wanted = Wanted((8,), True, Settings(ramp_s=15.0, measure_s=60.0, gap_s=1.0))
    target, material = Target("wss://localhost", tmp_path, tmp_path, tmp_path), Material(tmp_path, ())
    console = Console(stderr=True, soft_wrap=True)
    outcome = await bench.__globals__["_run_all"](target, material, wanted, console, asyncio.Event())
    assert (outcome.limit, outcome.planned.sessions) == (24, 19)
    assert asked[-3:] == [(24, 60.0), (24, 60.0), (19, 60.0)]
    assert {seconds for _, seconds in asked[:-3]} == {30.0}
    bench.__globals__["_show"](outcome, console)
    shown = capsys.readouterr()
    assert "finals within 0.66 s at p95, carried; doubling until a run fails" in shown.err
    assert "0.98 s at p95, carried; at most 5 runs and 6 min left" in shown.err
    assert "At 80% of it, 19 sessions: finals within 0.88 s at p95, which is too long" in shown.out
    assert "With 26, finals waited too long for the engine" in shown.out
    assert "server 1.73, clients 0.20" in shown.out
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    write_files(outcome, "m", "own", wanted, found, plot)
    written = json.loads(found.read_text())
    assert written["planned"]["sessions"] == 19
    assert written["planned"]["is_reached"] is False
    assert written["obstacle"] == {"bound": "engine", "sessions": 26}
    assert "80%: 19, p95 0.88 s" in plot.read_text()


@pytest.mark.parametrize("sessions", ["0", "x", "3,", "20001", "-1"])
def test_a_number_of_sessions_that_makes_no_sense_is_refused(
    runner: CliRunner, app: Typer, sessions: str
) -> None:
    result = runner.invoke(app, ["--sessions", sessions])
    assert result.exit_code == 1
    assert "--sessions takes numbers from 1 to 20000" in result.stderr


def test_a_search_begins_at_one_number(runner: CliRunner, app: Typer) -> None:
    result = runner.invoke(app, ["--sessions", "8,16", "--find-limit"])
    assert result.exit_code == 1
    assert "--find-limit takes one number" in result.stderr


def test_a_manifest_of_which_nothing_can_be_read_ends_before_any_server_starts(
    runner: CliRunner, app: Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(place: Place, port: int) -> list[str]:
        raise AssertionError("a server was started")

    monkeypatch.setattr(Place, "command", started)
    path = tmp_path / "list.json"
    path.write_text('{"recordings": [{"file": "gone.wav", "text": "x"}, {"file": "untold.wav"}]}')
    result = runner.invoke(app, [str(path)])
    assert result.exit_code == 1
    assert f"error: {tmp_path / 'gone.wav'}: no such file" in result.stderr
    assert "untold.wav: the manifest has no reference" in result.stderr
    assert f"error: {path}: none of its recordings can be used" in result.stderr


def test_a_server_of_somebody_else_needs_a_certificate(runner: CliRunner, app: Typer, tmp_path: Path) -> None:
    result = runner.invoke(app, ["--server", "wss://localhost:1/v1/stream", "--certs", str(tmp_path)])
    assert result.exit_code == 1
    assert "no client certificate in" in result.stderr
