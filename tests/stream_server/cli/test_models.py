"""``stream-server models``, as it is typed. The network is a fake host on loopback."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import checkpoints
import models
import numpy as np
import pytest
import readings
import soundfile
import whisper
from click.testing import Result
from typer.testing import CliRunner
from whisper.model import Whisper

from stream_server.cli.models import app
from stream_server.engine.manifest import embedded_model, find_model, read_manifest
from stream_server.engine.text import normalise_english


class Command:
    """Runs the command with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.config.write_text("")

    def __call__(self, *words: object, answer: str | None = None) -> Result:
        arguments = [*map(str, words), "--state-dir", str(self.state)]
        return CliRunner().invoke(app, arguments, input=answer)

    def pull(self, *words: object, answer: str | None = None) -> Result:
        return self("pull", *words, "--config", self.config, answer=answer)

    def left(self) -> list[str]:
        """Files of the state folder, without the audit log."""
        found = self.state.rglob("*") if self.state.exists() else []
        names = (str(path.relative_to(self.state)) for path in found if path.is_file())
        return sorted(name for name in names if not name.startswith("audit/"))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="module")
def small() -> Whisper:
    return checkpoints.halve(models.random_whisper(models.shape(64, 2, n_layer=1)))


@pytest.fixture
def checkpoint(tmp_path: Path, small: Whisper) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return checkpoints.write_openai(folder / "ours.pt", small)


@pytest.fixture
def url(checkpoint: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=checkpoint.parent)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/ours.pt"
        server.shutdown()
        thread.join()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


MODEL_FILES = [".lock", "ours/manifest.json", "ours/model.safetensors"]


def test_a_model_comes_is_seen_found_checked_and_goes(command: Command, checkpoint: Path) -> None:
    assert "demo-en" in command("list").stdout
    done = command("import", checkpoint, "--version", "1.2", "--licence", "MIT")
    assert done.exit_code == 0, done.output
    assert "Next: `stream-server serve --model ours`" in done.stdout
    (line,) = [line for line in command("list").stdout.splitlines() if " ours " in line]
    assert all(word in line for word in ("1.2", "99", "full", "checkpoint ours.pt"))
    assert find_model("ours", command.state) == command.state / "models" / "ours"
    assert "ours: as its manifest says" in command("verify").stdout
    refused = command("remove", "ours", answer="n\n")
    assert (refused.exit_code, find_model("ours", command.state).exists()) == (1, True)
    assert command("remove", "ours", answer="y\n").exit_code == 0
    assert command.left() == ["models/.lock"]


def test_show_tells_all_that_is_known(command: Command, checkpoint: Path) -> None:
    command("import", checkpoint)
    shown = command("show", "ours").stdout
    weights = command.state / "models" / "ours" / "model.safetensors"
    for what in ("1 layers, 2 heads, width 64, 80 mel bands", "51865 tokens", "99", "padded to 30 s"):
        assert what in shown
    assert sha256(weights) in shown
    assert sha256(checkpoint) in shown
    assert "not stated" in shown
    embedded = command("show", "demo-en").stdout
    tail_s = read_manifest(embedded_model()).context_tail_s
    assert f"fit: windows of their own length and {tail_s} s of silence" in embedded
    missing = command("show", "other")
    assert (missing.exit_code, "there is: demo-en, ours" in missing.stderr) == (1, True)


def test_verify_names_the_damaged_one_and_goes_on(command: Command, checkpoint: Path) -> None:
    command("import", checkpoint, "--name", "bad")
    command("import", checkpoint, "--name", "good")
    with (command.state / "models" / "bad" / "model.safetensors").open("r+b") as file:
        file.seek(5_000)
        file.write(b"\xff\xff")
    done = command("verify")
    assert done.exit_code == 1
    assert "error: bad: " in done.stderr
    assert "is truncated or altered" in done.stderr
    assert done.stdout.splitlines() == ["demo-en: as its manifest says", "good: as its manifest says"]
    assert command("verify", "good").exit_code == 0
    (command.state / "models" / "bad" / "manifest.json").write_text("{")
    assert "damaged: " in command("list").stdout


def test_the_embedded_model_stays(command: Command) -> None:
    done = command("remove", "demo-en", "--yes")
    assert (done.exit_code, "cannot be removed" in done.stderr) == (1, True)


def test_what_cannot_be_imported_is_one_line(command: Command, tmp_path: Path) -> None:
    done = command("import", tmp_path / "gone.pt")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'gone.pt'} does not exist; give a .pt file, or a folder with model.safetensors"
    ]


# ---------------------------------------------------------------- pull


def test_pull_asks_fetches_and_installs(command: Command, checkpoint: Path, url: str) -> None:
    asked = command.pull("ours", "--from", url, "--sha256", sha256(checkpoint), answer="n\n")
    assert asked.exit_code == 1
    assert f"ours from 127.0.0.1: {checkpoint.stat().st_size / 1e6:,.1f} MB." in asked.stdout
    assert command.left() == ["models/.lock"]
    done = command.pull("ours", "--from", url, "--sha256", sha256(checkpoint).upper(), answer="y\n")
    assert done.exit_code == 0, done.output
    assert command.left() == [f"models/{file}" for file in MODEL_FILES]
    manifest = read_manifest(find_model("ours", command.state))
    assert manifest.source is not None
    assert manifest.source.url == url


def test_pull_of_an_official_model_knows_its_checksum(
    command: Command, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = checkpoints.write_openai(tmp_path / "served" / "tiny.pt", models.random_whisper(models.tiny()))
    address = url.replace("ours.pt", "tiny.pt")
    refused = command.pull("tiny", "--from", address, "--yes")
    assert (refused.exit_code, "is not the file that is wanted" in refused.stderr) == (1, True)
    monkeypatch.setitem(whisper._MODELS, "tiny", f"https://host.example/{sha256(served)}/tiny.pt")
    assert command.pull("tiny", "--from", address, "--sha256", "0" * 64, "--yes").exit_code == 1
    assert command.pull("tiny", "--from", address, "--yes").exit_code == 0
    assert "2.2 3.0 3.2 3.3 3.4 3.5" in command("show", "tiny").stdout


def test_pull_goes_on_with_what_is_there_and_remove_discards_it(
    command: Command, checkpoint: Path, url: str
) -> None:
    part = command.state / "models" / ".downloads" / "ours.pt"
    part.parent.mkdir(parents=True)
    part.write_bytes(checkpoint.read_bytes()[:100_000])
    assert "Not complete: ours;" in command("list").stdout
    asked = command.pull("ours", "--from", url, "--sha256", sha256(checkpoint), answer="n\n")
    assert ", of which 0.1 MB are here." in asked.stdout
    assert command("remove", "ours", "--yes").exit_code == 0
    assert not part.exists()


def test_offline_refuses_before_anything_is_asked(command: Command, checkpoint: Path, url: str) -> None:
    command.config.write_text("offline = true\n")
    done = command.pull("ours", "--from", url, "--sha256", sha256(checkpoint), "--yes")
    assert done.exit_code == 1
    assert f"error: {command.config} says offline = true: nothing may be fetched" in done.stderr
    assert command.left() == []


def test_pull_of_an_unknown_model_says_what_there_is(command: Command) -> None:
    done = command.pull("tinny")
    assert done.exit_code == 1
    assert "OpenAI published no tinny, but tiny.en, tiny, base.en" in done.stderr
    assert "needs --from URL and --sha256 HEX" in done.stderr


# ---------------------------------------------------------------- the gate


@pytest.mark.model
@pytest.mark.parametrize(("more", "is_installed"), [("", True), (" and three more", False)])
def test_a_gate_lets_in_what_reads_well_enough(
    more: str, is_installed: bool, command: Command, tmp_path: Path, recordings: Path
) -> None:
    name, said = next(iter(readings.read_as_one(recordings).items()))
    speech = np.concatenate([readings.PAUSE, readings.load(recordings / name), readings.PAUSE])
    soundfile.write(tmp_path / "speech.flac", speech, 16_000)
    # The reference is what the model reads, and perhaps three words that nobody said.
    gate = tmp_path / "gate.json"
    gate.write_text(json.dumps({"recordings": [{"file": "speech.flac", "text": said + more}]}))
    wer = f"{len(more.split()) / len(normalise_english(said + more).split()):.1%}"
    done = command("import", embedded_model(), "--name", "ours", "--gate", gate, "--max-wer", "0.1")
    assert done.exit_code == (0 if is_installed else 1), done.output
    assert f"ord error rate on {gate}" in done.output
    assert wer in done.output
    assert command.left() == [f"models/{file}" for file in (MODEL_FILES if is_installed else MODEL_FILES[:1])]


def test_a_gate_needs_its_limit(command: Command, checkpoint: Path) -> None:
    done = command("import", checkpoint, "--max-wer", "0.1")
    assert (done.exit_code, "--gate and --max-wer need each other" in done.stderr) == (1, True)
