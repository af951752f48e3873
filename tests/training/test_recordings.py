"""The recordings that judge a model: what they say was not trained on, words stand where they are heard."""

import ctypes
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.demo_en import corpus, script, synth_festival
from training.demo_en.config import CorpusConfig, smoke_corpus

ROOT = Path(__file__).parents[2]
QUIET_DBFS = -50.0
TOLERANCE_S = 0.12


@pytest.fixture(scope="module")
def folder() -> Path:
    return ROOT / "stream_server" / "assets" / "recordings" / "heldout"


@pytest.fixture(scope="module")
def listed(folder: Path) -> list[dict]:
    return json.loads((folder / "manifest.json").read_text())["recordings"]


def power_dbfs(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-12))


def texts() -> list[str]:
    return [script.written(s) for s in (*script.sentences(), *(said for _, said in script.conversation()))]


def test_the_recordings_are_those_of_the_script(listed):
    spoken = {
        entry["text"] for entry in listed if entry["condition"] not in ("dialogue",) and "text" in entry
    }
    assert spoken == {script.written(said) for said in script.sentences()}
    conditions = [entry["condition"] for entry in listed]
    assert {name: conditions.count(name) for name in conditions} == {
        "clean": 20,
        "noise 10 dB": 20,
        "telephone": 20,
        "festival": 20,
        "dialogue": 1,
        "silence": 1,
        "noise only": 1,
    }
    assert [entry.get("speech", True) for entry in listed].count(False) == 2
    (dialogue,) = (entry for entry in listed if entry["condition"] == "dialogue")
    assert dialogue["seconds"] == pytest.approx(120, abs=10)
    assert len({said["voice"] for said in dialogue["utterances"]}) == 4


def test_all_that_the_package_carries_is_at_most_10_mb(folder):
    assert sum(path.stat().st_size for path in folder.parent.rglob("*.flac")) <= 10_000_000


def test_voices_that_were_never_trained_on_are_festivals(listed):
    for entry in listed:
        assert entry["voice"].startswith("festival ") == (entry["condition"] == "festival")


def test_levels_and_lengths_are_as_listed_and_nothing_is_clipped(folder, listed):
    for entry in listed:
        samples, rate_hz = soundfile.read(folder / entry["file"])
        assert rate_hz == 16_000
        assert samples.ndim == 1
        assert len(samples) / rate_hz == pytest.approx(entry["seconds"], abs=1e-3)
        assert np.abs(samples).max() < 0.9
        # A telephone leaves little of a high voice.
        low, high = (-71, -69) if entry["condition"] == "silence" else (-40, -18)
        assert low < power_dbfs(samples) < high, entry["file"]


def test_words_follow_each_other_within_the_recording(listed):
    for entry in (entry for entry in listed if "text" in entry):
        words = entry["words"]
        assert " ".join(word["word"] for word in words) == entry["text"]
        assert all(word["start"] < word["end"] for word in words), entry["file"]
        assert all(a["end"] <= b["start"] + 1e-6 for a, b in itertools.pairwise(words)), entry["file"]
        assert 0 < words[0]["start"]
        assert words[-1]["end"] == entry["speech_end"] < entry["seconds"]


def test_utterances_of_the_dialogue_do_not_overlap(listed):
    (dialogue,) = (entry for entry in listed if entry["condition"] == "dialogue")
    said = dialogue["utterances"]
    assert all(0.3 < b["start"] - a["end"] < 1.6 for a, b in itertools.pairwise(said))
    assert " ".join(one["text"] for one in said) == dialogue["text"]


def test_words_are_heard_where_the_manifest_says_and_nothing_is_heard_around_them(folder, listed):
    for entry in (e for e in listed if e["condition"] in ("clean", "festival", "dialogue")):
        samples, rate_hz = soundfile.read(folder / entry["file"])
        for word in entry["words"]:
            heard = samples[round(word["start"] * rate_hz) : round(word["end"] * rate_hz)]
            assert power_dbfs(heard) > -40, (entry["file"], word)
        loud = np.flatnonzero(np.abs(samples) > 10 ** (QUIET_DBFS / 20)) / rate_hz
        assert loud[0] == pytest.approx(entry["words"][0]["start"], abs=TOLERANCE_S)
        assert loud[-1] == pytest.approx(entry["speech_end"], abs=TOLERANCE_S)
        for a, b in itertools.pairwise(entry["words"]):
            if b["start"] - a["end"] > 0.3:
                pause = samples[round((a["end"] + 0.1) * rate_hz) : round((b["start"] - 0.1) * rate_hz)]
                assert power_dbfs(pause) < QUIET_DBFS, (entry["file"], a)


def test_the_demonstrations_words_are_heard_where_its_manifest_says(folder):
    shown = json.loads((folder.parent / "manifest.json").read_text())
    said = shown["dialogue"]["utterances"]
    spoken = [(voice.replace("gmw/", ""), script.written(one)) for voice, one in script.demonstration()]
    assert [(entry["voice"], entry["text"]) for entry in shown["recordings"]] == spoken
    assert [(entry["voice"], entry["text"]) for entry in said] == spoken[: len(said)]
    for file, parts in [
        *((entry["file"], [entry]) for entry in shown["recordings"]),
        (shown["dialogue"]["file"], said),
    ]:
        samples, rate_hz = soundfile.read(folder.parent / file)
        loud = np.flatnonzero(np.abs(samples) > 10 ** (QUIET_DBFS / 20)) / rate_hz
        assert loud[0] == pytest.approx(parts[0]["words"][0]["start"], abs=TOLERANCE_S)
        assert loud[-1] == pytest.approx(parts[-1]["end"], abs=TOLERANCE_S)
        for word in (word for part in parts for word in part["words"]):
            heard = samples[round(word["start"] * rate_hz) : round(word["end"] * rate_hz)]
            assert power_dbfs(heard) > -40, (file, word)


def test_noise_and_telephone_are_what_they_are_called(folder, listed):
    for number in ("01", "10", "20"):
        clean, noisy, telephone = (
            soundfile.read(folder / f"{kind}-{number}.flac")[0] for kind in ("clean", "noise", "telephone")
        )
        (entry,) = (e for e in listed if e["file"] == f"noise-{number}.flac")
        # Before the first word stands noise alone, after it noise and speech.
        alone = power_dbfs(noisy[: round(0.25 * 16_000)])
        spoken = noisy[round(entry["words"][0]["start"] * 16_000) : round(entry["speech_end"] * 16_000)]
        assert 6 < power_dbfs(spoken) - alone < 18
        spectrum = np.abs(np.fft.rfft(telephone)) ** 2
        hertz = np.fft.rfftfreq(len(telephone), 1 / 16_000)
        assert spectrum[hertz > 4000].sum() < 1e-3 * spectrum.sum()
        assert len(clean) == len(telephone) == len(noisy)


def test_what_the_corpus_generates_contains_no_sentence_of_the_script_and_few_of_its_runs(tmp_path):
    # The words of the open classes differ in the full corpus; its rules, templates and function words do not.
    config = CorpusConfig(n_sentences=6_000, n_words=0, seed=77)
    corpus.build(tmp_path, config)
    share, whole = script.share_seen(texts(), (script.written(s) for s in corpus.read(tmp_path)))
    assert whole == set()
    assert share <= script.SHARE_SEEN_MAX


def test_a_corpus_that_contains_the_script_is_refused(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps(script.sentences()[4]) + "\n")
    run = recordings(tmp_path, "--smoke")
    assert run.returncode == 1
    assert "Her flight from Madrid lands" in run.stderr
    assert "Traceback" not in run.stderr


def test_runs_of_words_are_compared_without_case_and_punctuation():
    share, whole = script.share_seen(["Well, here we are again!"], ["here we are again", "x y"])
    assert (share, whole) == (0.5, set())
    assert script.share_seen(["Here we are."], ["here we are"]) == (0.0, {"Here we are."})


def test_a_figure_is_written_and_spoken():
    assert script.chunks("at 2:30=two_thirty. Yes") == [
        ("at", "at"),
        ("2:30.", "two thirty."),
        ("Yes", "Yes"),
    ]


def test_festivals_contractions_are_one_word_and_the_words_own_lines_are_skipped():
    printed = "0.220000 0.539000 0.000000 0.000000 \n\n\n0.539000 0.772000 \n\n"
    assert synth_festival.word_times(printed) == [(220, 539), (539, 772)]


def missing() -> bool:
    try:
        for library in ("libespeak-ng.so.1", "libflite.so.1"):
            ctypes.CDLL(library)
    except OSError:
        return True
    return shutil.which("festival") is None


def recordings(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.demo_en", "recordings", "--work", str(work), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(missing(), reason="a synthesiser is missing: apt install libespeak-ng1 flite festival")
def test_the_same_recordings_are_made_again(tmp_path):
    corpus.build(tmp_path, smoke_corpus())
    for name in ("a", "b"):
        run = recordings(tmp_path, "--smoke", "--out", str(tmp_path / name))
        assert run.returncode == 0, run.stderr
    made = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(made) == 3 * 4 + 3 + 1
    for name in made:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
