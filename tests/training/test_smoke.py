"""The whole pipeline in two minutes: four commands, an interruption, and a checkpoint that Whisper reads."""

import ctypes
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from whisper.model import ModelDimensions, Whisper

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def missing_package() -> str | None:
    for library, package in (("libespeak-ng.so.1", "libespeak-ng1"), ("libflite.so.1", "flite")):
        try:
            ctypes.CDLL(library)
        except OSError:
            return package
    if shutil.which("festival") is None:
        return "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"
    return None


def pipeline(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.demo_en", *arguments, "--work", str(work)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)


def test_a_missing_step_is_named_in_one_line(tmp_path):
    run = pipeline(tmp_path, "export")
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "checkpoint.pt is missing" in run.stderr


def last_step(work: Path) -> int:
    return torch.load(work / "checkpoint.pt", weights_only=True)["step"]


@pytest.mark.skipif(
    missing_package() is not None, reason=f"a synthesiser is missing: apt install {missing_package()}"
)
def test_four_commands_make_a_checkpoint_that_whisper_reads_and_training_survives_an_interruption(tmp_path):
    for step in (["corpus"], ["speech", "--processes", "1"]):
        run = pipeline(tmp_path, *step, "--smoke")
        assert run.returncode == 0, run.stderr
    first_shard = (tmp_path / "speech" / "train-00000.npy").stat()

    # More steps than it will live to take: it must be stopped in the middle.
    command = [sys.executable, "-m", "training.demo_en", "train", "--smoke", "--steps", "100000"]
    command += ["--work", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT) as interrupted:
        deadline_s = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline_s:
            time.sleep(0.2)
        interrupted.send_signal(signal.SIGTERM)
        assert interrupted.wait(60) == 0
    stopped_at = last_step(tmp_path)
    assert 0 < stopped_at

    run = pipeline(tmp_path, "train", "--smoke", "--steps", str(stopped_at + 3))
    assert run.returncode == 0, run.stderr
    assert last_step(tmp_path) == stopped_at + 3

    run = pipeline(tmp_path, "train", "--smoke", "--finish")
    assert run.returncode == 0, run.stderr
    assert last_step(tmp_path) == stopped_at + 5

    last_shard = tmp_path / "speech" / "train-00001.npy"
    read_after_another = np.load(last_shard)
    for suffix in (".npy", ".json"):
        last_shard.with_suffix(suffix).unlink()
    run = pipeline(tmp_path, "speech", "--smoke")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "speech" / "train-00000.npy").stat().st_mtime_ns == first_shard.st_mtime_ns
    # Some voices of espeak-ng differ in the last bits from one process to the next.
    np.testing.assert_allclose(np.load(last_shard), read_after_another, rtol=0, atol=4)

    run = pipeline(tmp_path, "export")
    assert run.returncode == 0, run.stderr
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    weights = load_file(tmp_path / "export" / "model.safetensors")
    model = Whisper(ModelDimensions(**manifest["dims"]))
    model.load_state_dict(weights)
    model.set_alignment_heads(manifest["alignment_heads"].encode())
    measured = manifest["measured"]["sentences"]
    assert {"wer_clean", "wer_noise_10db", "wer_telephone", "wer_festival"} <= measured.keys()
    assert manifest["trained"]["commands"][2:4] == [
        f"python -m training.demo_en train --steps {stopped_at + 3}",
        "python -m training.demo_en train --finish",
    ]

    run = pipeline(tmp_path, "card")
    assert run.returncode == 0, run.stderr
    assert "Not measured on the recordings yet" in (tmp_path / "export" / "demo-en.md").read_text()
