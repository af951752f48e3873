import io
import ssl
import sys
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_caption_server import FakeSession, fake_server, silence
from pki import ClientPair, Pki
from rich.console import Console
from server_processes import dies
from typer import Typer
from typer.testing import CliRunner

from stream_server.cli.audio_files import open_recording
from stream_server.cli.captions_view import LinesView
from stream_server.cli.demo import Place, demo, load_dialogue, measure_fast_factor, stream_live
from stream_server.client import connect

demo_module = sys.modules["stream_server.cli.demo"]


class VirtualTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_the_included_dialogue_matches_its_reference() -> None:
    with as_file(files("stream_server") / "assets" / "recordings") as recordings:
        dialogue = load_dialogue(recordings)
    assert dialogue.recording.duration_s == pytest.approx(34.4, abs=0.1)
    assert dialogue.recording.channels == 1
    assert len(dialogue.utterances) >= 9
    for before, after in zip(dialogue.utterances, dialogue.utterances[1:], strict=False):
        assert before.start_s < before.end_s < after.start_s
    assert dialogue.utterances[-1].end_s < dialogue.recording.duration_s


def tone(folder: Path, seconds: float) -> Path:
    path = folder / "talk.wav"
    soundfile.write(path, np.zeros(round(16_000 * seconds), dtype=np.int16), 16_000)
    return path


async def test_live_captions_are_shown_and_timed_from_the_first_sample(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    async def caption(session: FakeSession) -> None:
        """Only when all audio is there, so that the virtual time of each arrival is known."""
        while await session.text() != "finish":
            continue
        await session.partial(0, 0.0, 0.3, "Hel")
        await session.final(0, 0.0, 0.4, "Hello.")
        await session.finished(1)

    time, written = VirtualTime(), io.StringIO()
    view = LinesView(Console(file=written), partials=True)
    recording = open_recording(tone(tmp_path, 0.55))
    async with fake_server(pki, client, caption) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            heard = await stream_live(stream, recording, view, clock=time.clock, sleep=time.sleep)
        assert fake.sessions[0].n_messages == 6
    assert written.getvalue() == "… Hel\n[00:00.0 → 00:00.4] Hello.\n"
    assert [final.at_s for final in heard.finals] == pytest.approx([0.55])
    assert [partial.at_s for partial in heard.partials] == pytest.approx([0.55])
    assert heard.finished_s == pytest.approx(0.55)


async def test_the_fast_factor_is_time_per_audio_of_its_beginning(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    times_s = iter([10.0, 19.0])
    async with fake_server(pki, client, silence) as fake:
        recording = open_recording(tone(tmp_path, 20.0))
        factor = await measure_fast_factor(fake.url, fake.tls, recording, clock=lambda: next(times_s))
        assert len(fake.sessions[0].audio) == 18 * 32_000
        assert fake.sessions[0].start["partials"] is False
    assert factor == pytest.approx(9.0 / 18.0)


def test_the_server_is_started_with_the_demos_own_folder_and_configuration() -> None:
    command = Place(Path("/play"), Path("/models/big")).command(4711)
    assert command[:4] == [sys.executable, "-m", "stream_server", "serve"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options == {
        "--state-dir": "/play",
        "--config": "/play/demo.toml",
        "--host": "127.0.0.1",
        "--port": "4711",
        "--model": "/models/big",
    }
    assert "--model" not in Place(Path("/play")).command(4711)


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(demo)
    return app


def test_a_server_that_does_not_start_ends_the_demo_with_its_last_words(
    runner: CliRunner, app: Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "command", lambda place, port: dies("the model is missing"))
    result = runner.invoke(app, ["--state-dir", str(tmp_path / "play")])
    assert result.exit_code == 1
    assert "Certificates" in result.stdout
    assert "the server ended with code 3:\n  the model is missing" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "play" / "certs" / "ca.pem").exists()


def test_ctrl_c_ends_with_130(
    runner: CliRunner, app: Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(place: Place, console: Console) -> ssl.SSLContext:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "_prepare", interrupted)
    result = runner.invoke(app, ["--state-dir", str(tmp_path)])
    assert result.exit_code == 130


def test_without_a_folder_the_demo_stays_out_of_the_real_certificates(
    runner: CliRunner, app: Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_SERVER_STATE", str(tmp_path))
    monkeypatch.setattr(Place, "command", lambda place, port: dies())
    runner.invoke(app, [])
    assert (tmp_path / "demo" / "certs" / "ca.pem").exists()
    assert not (tmp_path / "certs").exists()
