"""A manifest's error rates come from the command that a user has; the card says what the manifest says."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.demo_en import card, rates

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "stream_server" / "assets" / "demo_en"
FIGURES = {"files": 2, "words": 10, "wer": 0.12345, "cer": 0.05, "real_time_factor": 0.1, "invented_words": 3}
RESULT = {
    "date": "2026-01-02T03:04:05+00:00",
    "cpu": "a cpu",
    "versions": {"torch": "2"},
    "all": FIGURES,
    "groups": [
        FIGURES | {"field": "condition", "name": "clean"},
        FIGURES | {"field": "condition", "name": "silence", "words": 0, "wer": None, "cer": None},
    ],
}


def manifest() -> dict:
    return json.loads((EMBEDDED / "manifest.json").read_text())


def test_the_card_in_the_documents_is_that_of_the_embedded_model():
    assert (ROOT / "docs" / "demo-en.md").read_text() == card.render(manifest()), (
        "run: python -m training.demo_en card --model stream_server/assets/demo_en --out docs/demo-en.md"
    )


def test_the_summary_has_a_rate_for_each_condition_with_words():
    found = rates.summary(RESULT)
    assert found["date"] == "2026-01-02"
    assert found["invented_words"] == 3
    assert found["conditions"] == {
        "clean": {"files": 2, "words": 10, "wer": 0.1235, "cer": 0.05, "real_time_factor": 0.1}
    }


@pytest.mark.parametrize(("wer", "verdict"), [(0.08, "All that was wanted is reached."), (0.0801, "clean")])
def test_the_card_names_what_is_not_reached(wer, verdict):
    described = manifest()
    measured = rates.summary(RESULT) | {"command": "stream-server evaluate"}
    measured["conditions"]["clean"]["wer"] = wer
    described["measured"]["recordings"] = measured
    line = next(line for line in card.render(described).splitlines() if "Words invented" in line)
    assert verdict in line
    assert "noise: 3" in line


def test_the_card_of_a_trained_model_has_its_commands_and_no_limits_that_it_has_not():
    described = copy.deepcopy(manifest()) | {"timestamps": True, "prompts": True}
    described["trained"] = {
        "commands": ["python -m training.demo_en corpus"],
        "date": "2026-01-02",
        "voices": "two voices",
        "seeds": {"corpus": 1},
        "steps": 33_000,
        "hours_of_speech": 43.9,
        "hours_of_training": 6.25,
    }
    text = card.render(described)
    assert "33,000 steps in 6.2 hours" in text
    assert "\npython -m training.demo_en corpus\n" in text
    assert "not trained" not in text


def note_rates(model: Path, listed: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.demo_en", "rates"]
    command += ["--model", str(model), "--manifest", str(listed)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.model
@pytest.mark.slow
def test_rates_are_noted_and_left_alone_when_they_cannot_be_measured(tmp_path, recordings):
    model, listed = tmp_path / "model", tmp_path / "list.json"
    shutil.copytree(EMBEDDED, model)
    entry = {"file": str(recordings / "02.flac"), "text": "Emma will check it.", "condition": "quiet"}
    listed.write_text(json.dumps({"recordings": [entry]}))
    run = note_rates(model, listed)
    assert run.returncode == 0, run.stderr
    noted = (model / "manifest.json").read_text()
    measured = json.loads(noted)["measured"]["recordings"]
    assert measured["conditions"]["quiet"]["words"] == 4
    assert measured["command"].startswith(f"stream-server evaluate {listed} --group condition")

    run = note_rates(model, tmp_path / "none.json")
    assert run.returncode == 1
    assert "none.json: cannot be read" in run.stderr
    assert "nothing was noted" in run.stderr
    assert (model / "manifest.json").read_text() == noted
