import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_caption_server import FakeSession, fake_server, until_finish
from pki import ClientPair, Pki
from server_processes import dies
from typer import Typer
from typer.testing import CliRunner

from stream_server.cli.demo import Place
from stream_server.cli.evaluate import EXIT_ABOVE, CommandError, evaluate, exit_code
from stream_server.cli.evaluate_run import Heading, Outcome, measure_offline, measure_streamed
from stream_server.client.latency import Utterance
from stream_server.core.jobs import Batch, DecodeResult
from stream_server.core.messages import BeamSearch
from stream_server.core.settings import ModelFacts
from stream_server.engine.manifest import embedded_model
from stream_server.evaluation.counts import Counts
from stream_server.evaluation.flicker import Flicker
from stream_server.evaluation.references import Reference
from stream_server.evaluation.result import NO_GROUP, Measured
from stream_server.evaluation.word_latency import SpokenWord


class Echo:
    """Reads each window as its number in the batch, and remembers the windows' lengths."""

    facts = ModelFacts("echo", frozenset({"en"}), can_translate=False)

    def __init__(self) -> None:
        self.n_samples: list[list[int]] = []

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        self.n_samples.append([job.n_samples for job in batch.jobs])
        return [job.answered(text=f" w{i}", language="en", now_s=0.0) for i, job in enumerate(batch.jobs)]


class AlwaysSpeech:
    def score_stream(self, frames: np.ndarray) -> np.ndarray:
        return np.ones(len(frames), dtype=np.float32)


def reference(
    folder: Path, name: str, seconds: float | None, text: str = "w0", timed: tuple[Utterance, ...] = ()
) -> Reference:
    if seconds is not None:
        soundfile.write(folder / name, np.zeros(round(16_000 * seconds), dtype=np.int16), 16_000)
    words = tuple(SpokenWord(said.text, said.start_s, said.end_s) for said in timed)
    return Reference(name, folder / name, text, timed, {"voice": "flat"}, words)


def test_segments_are_decoded_in_batches_and_a_missing_file_is_named(tmp_path: Path) -> None:
    echo, times_s = Echo(), iter([1.0, 4.0])
    listed = [reference(tmp_path, "a.wav", 6.0), reference(tmp_path, "b.wav", None)]
    found = list(
        measure_offline(listed, Heading(("voice", "room")), echo, AlwaysSpeech(), clock=lambda: next(times_s))
    )
    assert isinstance(found[0], Measured)
    assert found[0].groups == {"voice": "flat", "room": NO_GROUP}
    assert found[0].hypothesis[:2] == "w0"
    assert found[0].spent_s == pytest.approx(3.0)
    assert found[1] == f"{tmp_path / 'b.wav'}: no such file"
    (lengths,) = echo.n_samples
    assert len(lengths) >= 2
    assert sum(lengths) == 96_000


def test_a_beam_search_is_asked_of_the_model_and_fewer_windows_share_a_batch(tmp_path: Path) -> None:
    asked: list[list[BeamSearch | None]] = []

    class Noting(Echo):
        def transcribe(self, batch: Batch) -> list[DecodeResult]:
            asked.append([job.beam for job in batch.jobs])
            return super().transcribe(batch)

    listed = [reference(tmp_path, "a.wav", 6.0)]
    list(measure_offline(listed, Heading(), Noting(), AlwaysSpeech(), BeamSearch(5)))
    assert len(asked) >= 2
    assert asked == [[BeamSearch(5)]] * len(asked)


def test_whole_takes_up_to_30_s_and_cuts_longer_ones_at_their_utterances(tmp_path: Path) -> None:
    echo = Echo()
    timed = (Utterance(1.0, 2.0, "a"), Utterance(3.0, 5.0, "b"))
    listed = [
        reference(tmp_path, "short.wav", 30.0),
        reference(tmp_path, "long.wav", 31.0, timed=timed),
        reference(tmp_path, "untimed.wav", 31.0),
    ]
    found = list(measure_offline(listed, Heading(), echo, None))
    assert echo.n_samples == [[480_000], [16_000, 32_000]]
    assert found[2] == f"{tmp_path / 'untimed.wav'}: 31.0 s long; --whole reads at most 30 s"


def test_a_reference_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    (found,) = measure_offline([reference(tmp_path, "a.wav", 1.0, "...")], Heading(), Echo(), None)
    assert isinstance(found, str)
    assert found.startswith(f"{tmp_path / 'a.wav'}: its reference is empty, nothing of it is left")


def test_words_read_where_nobody_speaks_are_invented(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, dtype=np.int16), 16_000)
    silent = Reference("a.wav", tmp_path / "a.wav", "", (), {}, speech=False)
    (found,) = measure_offline([silent], Heading(), Echo(), None)
    assert isinstance(found, Measured)
    # The normaliser parts letters from figures: "w 0".
    assert found.counts == Counts(0, 2, 0, 3, invented_words=2)
    assert not found.speech


class VirtualTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


async def caption(session: FakeSession) -> None:
    await until_finish(session)
    await session.partial(0, 0.0, 0.3, "Hello word")
    await session.final(0, 0.0, 0.4, "Hello world.")
    await session.finished(1)


async def test_streaming_measures_latency_and_flicker(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    time = VirtualTime()
    timed = (Utterance(0.0, 0.3, "hello"), Utterance(0.3, 0.4, "world"))
    listed = [
        reference(tmp_path, "a.wav", 0.5, "Hello, world", timed),
        reference(tmp_path, "b.wav", None),
    ]
    found: list[Outcome] = []
    async with fake_server(pki, client, caption) as fake:
        async for outcome in measure_streamed(
            listed, Heading(), fake.url, fake.tls, clock=time.clock, sleep=time.sleep
        ):
            found.append(outcome)
    first, second = found
    assert isinstance(first, Measured)
    assert first.streamed is not None
    assert first.counts.word_errors == 0
    assert first.groups == {}
    assert first.streamed.words_s == pytest.approx((0.2, 0.1))
    assert first.streamed.finals_s == pytest.approx((0.1,))
    assert first.streamed.partials_s == pytest.approx((0.2,))
    assert first.streamed.flicker == Flicker(1, 2)
    assert second == f"{tmp_path / 'b.wav'}: no such file"


async def test_a_stream_that_the_server_ends_is_named(pki: Pki, client: ClientPair, tmp_path: Path) -> None:
    async def fail(session: FakeSession) -> None:
        await until_finish(session)
        await session.fail("internal_error", "a bug", 1011)

    time, listed = VirtualTime(), [reference(tmp_path, "a.wav", 0.2)]
    async with fake_server(pki, client, fail) as fake:
        streamed = measure_streamed(listed, Heading(), fake.url, fake.tls, clock=time.clock, sleep=time.sleep)
        (found,) = [outcome async for outcome in streamed]
    assert isinstance(found, str)
    assert found.startswith(f"{tmp_path / 'a.wav'}: ")
    assert "a bug" in found


async def test_a_lost_server_keeps_what_was_measured_and_names_the_rest(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    time = VirtualTime()
    listed = [reference(tmp_path, f"{name}.wav", 0.5, "Hello world") for name in "abc"]
    found: list[Outcome] = []
    async with fake_server(pki, client, caption) as fake:
        streamed = measure_streamed(listed, Heading(), fake.url, fake.tls, clock=time.clock, sleep=time.sleep)
        found.append(await anext(streamed))
    found += [outcome async for outcome in streamed]
    first, second, third = found
    assert isinstance(first, Measured)
    assert isinstance(second, str)
    assert second.startswith(f"{tmp_path / 'b.wav'}: ")
    assert third == f"{tmp_path / 'c.wav'}: not evaluated, the server was lost"


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(evaluate)
    return app


@pytest.mark.parametrize("content", [None, "hello", '{"recordings": [{"text": "x"}]}'])
def test_a_wrong_manifest_is_one_line_and_exit_code_1(
    runner: CliRunner, app: Typer, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content)
    result = runner.invoke(app, [str(path)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {path}: ")
    assert result.stderr.count("\n") == 1


def test_patience_without_a_beam_search_is_a_mistake(runner: CliRunner, app: Typer) -> None:
    result = runner.invoke(app, ["--patience", "2"])
    assert result.exit_code == 2
    assert "need --beam-size" in result.stderr


def test_whole_and_stream_exclude_each_other(runner: CliRunner, app: Typer) -> None:
    result = runner.invoke(app, ["--whole", "--stream"])
    assert result.exit_code == 1
    assert "exclude each other" in result.stderr


def test_a_server_that_does_not_start_is_told(
    runner: CliRunner, app: Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "command", lambda place, port: dies("the model is missing"))
    result = runner.invoke(app, ["--stream"])
    assert result.exit_code == 1
    assert "the model is missing" in result.stderr


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_model_reads_as_well_as_its_manifest_says(
    runner: CliRunner, app: Typer, tmp_path: Path, recordings: Path
) -> None:
    heldout = recordings / "heldout"
    listed = json.loads((heldout / "manifest.json").read_text())["recordings"]
    clean = [
        entry | {"file": str(heldout / entry["file"])} for entry in listed if entry["condition"] == "clean"
    ]
    (tmp_path / "list.json").write_text(json.dumps({"recordings": clean}))
    result = runner.invoke(app, [str(tmp_path / "list.json"), "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    noted = json.loads((embedded_model() / "manifest.json").read_text())["measured"]["recordings"]
    assert found["model"] == "demo-en"
    assert found["all"]["wer"] == pytest.approx(noted["conditions"]["clean"]["wer"], abs=0.02)
    assert found["all"]["words"] == noted["conditions"]["clean"]["words"]


@pytest.mark.model
@pytest.mark.slow
def test_the_demos_dialogue_is_evaluated_by_its_utterances(
    runner: CliRunner, app: Typer, tmp_path: Path, recordings: Path
) -> None:
    path = recordings / "manifest.json"
    dialogue = json.loads(path.read_text())["dialogue"] | {"file": str(recordings / "dialogue.flac")}
    (tmp_path / "list.json").write_text(json.dumps({"dialogue": dialogue}))
    result = runner.invoke(app, [str(tmp_path / "list.json"), "--whole", "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["all"]["words"] == 74
    assert found["groups"] == []


@pytest.mark.model
@pytest.mark.slow
def test_held_out_recordings_are_grouped_and_nothing_is_invented(
    runner: CliRunner, app: Typer, tmp_path: Path, recordings: Path
) -> None:
    listed = json.loads((recordings / "heldout" / "manifest.json").read_text())["recordings"]
    chosen = [entry for entry in listed if entry["file"] in ("clean-01.flac", "telephone-02.flac")]
    chosen += [entry for entry in listed if not entry.get("speech", True)]
    path = tmp_path / "list.json"
    path.write_text(
        json.dumps(
            {
                "recordings": [
                    entry | {"file": str(recordings / "heldout" / entry["file"])} for entry in chosen
                ]
            }
        )
    )
    result = runner.invoke(
        app, [str(path), "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.svg")]
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    groups = [(one["field"], one["name"]) for one in found["groups"]]
    assert groups[:4] == [("condition", name) for name in ("clean", "noise only", "silence", "telephone")]
    assert [field for field, _ in groups[4:]] == ["voice"] * 3
    assert found["all"]["invented_words"] == 0
    assert found["all"]["files_without_speech"] == 2
    assert (tmp_path / "r.svg").read_text().startswith("<svg")


@pytest.mark.model
@pytest.mark.slow
def test_bad_recordings_are_named_and_the_rest_goes_on(
    runner: CliRunner, app: Typer, tmp_path: Path, recordings: Path
) -> None:
    (tmp_path / "02.flac").write_bytes((recordings / "02.flac").read_bytes())
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    good = {"file": "02.flac", "text": "Emma will check the backup on Thursday."}
    listed = [{"file": "untold.wav"}, {"file": "broken.wav", "text": "x"}, good]
    (tmp_path / "list.json").write_text(json.dumps({"recordings": listed}))
    result = runner.invoke(app, [str(tmp_path / "list.json")])
    assert result.exit_code == 1
    assert "untold.wav: the manifest has no reference" in result.stderr
    assert "broken.wav: not a recording that can be read" in result.stderr
    assert "02.flac" in result.stdout


HALF_WRONG = Measured("a.wav", {}, "one two", "one too", Counts(2, 1, 7, 1), audio_s=1.0, spent_s=0.1)
SILENT = Measured("b.wav", {}, "", "", Counts(), audio_s=1.0, spent_s=0.1, speech=False)


@pytest.mark.parametrize(
    ("measured", "problems", "fail_above", "code"),
    [
        ([HALF_WRONG], [], None, 0),
        ([HALF_WRONG], [], 0.5, 0),
        ([HALF_WRONG], [], 0.49, EXIT_ABOVE),
        ([HALF_WRONG, SILENT], ["c.wav: no such file"], 0.49, 1),
    ],
)
def test_the_exit_code_tells_whether_more_is_wrong_than_allowed(
    measured: list[Measured], problems: list[str], fail_above: float | None, code: int
) -> None:
    assert exit_code(measured, problems, fail_above) == code


def test_a_rate_that_cannot_be_told_is_not_held_to_be_good() -> None:
    with pytest.raises(CommandError, match="no recording has words"):
        exit_code([SILENT], [], 0.5)
