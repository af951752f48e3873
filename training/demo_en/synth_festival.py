"""Festival, for tests only: its voices are never trained on, so they tell how the model generalises."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .config import SAMPLE_RATE_HZ
from .reading import MissingSynthesiser

VOICES = {
    "kal_diphone": "festvox-kallpc16k",
    "ked_diphone": "festvox-kdlpc16k",
    "cmu_us_slt_arctic_hts": "festvox-us-slt-hts",
}
"""Voice → Debian package."""


def read(words: list[str], voice: str) -> np.ndarray:
    """Return int16 (n,) at 16 kHz."""
    if shutil.which("text2wave") is None:
        raise MissingSynthesiser(f"festival is missing: apt install festival {VOICES[voice]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["text2wave", "-eval", f"(voice_{voice})", "-o", str(path)]
        run = subprocess.run(command, input=" ".join(words), text=True, capture_output=True, check=False)
        if run.returncode or not path.exists():
            raise MissingSynthesiser(f"festival cannot speak as {voice}: apt install {VOICES[voice]}")
        samples, rate_hz = soundfile.read(path, dtype="int16")
    return np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ))
