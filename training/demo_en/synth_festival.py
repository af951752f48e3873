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
from .reading import MissingSynthesiser, Reading, fill_gaps

VOICES = {
    "kal_diphone": "festvox-kallpc16k",
    "ked_diphone": "festvox-kdlpc16k",
    "cmu_us_slt_arctic_hts": "festvox-us-slt-hts",
}
"""Voice → Debian package."""

_SCRIPT = """
(voice_{voice})
(set! utt (utt.synth (Utterance Text "{text}")))
(mapcar
 (lambda (token)
  (mapcar
   (lambda (word) (format t "%f %f " (item.feat word "word_start") (item.feat word "word_end")))
   (item.daughters token))
  (format t "\\n"))
 (utt.relation.items utt 'Token))
(utt.save.wave utt "{path}" 'riff)
"""
"""Prints a line for each token with start and end of its words; a token is a word of ours.

The relation lists the words, too, each behind its token; they have no daughters and print empty lines.
"""


def read(words: list[str], voice: str) -> Reading:
    """Read words aloud; the reading has no phones, which only training needs."""
    if shutil.which("festival") is None:
        raise MissingSynthesiser(f"festival is missing: apt install festival {VOICES[voice]}")
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "speech.wav", Path(folder) / "speech.scm"
        text = " ".join(words).replace("\\", "").replace('"', "")
        script.write_text(_SCRIPT.format(voice=voice, text=text, path=path))
        command = ["festival", "--batch", str(script)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)
        if run.returncode or not path.exists():
            raise MissingSynthesiser(f"festival cannot speak as {voice}: apt install {VOICES[voice]}")
        samples, rate_hz = soundfile.read(path, dtype="int16")
    return Reading(np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)), [], word_times(run.stdout))


def word_times(printed: str) -> list[tuple[int, int]]:
    """Return each token's start and end in ms; the second word of a contraction may have no time."""
    spans: list[tuple[int, int] | None] = []
    for line in filter(str.strip, printed.splitlines()):
        numbers = [round(1000 * float(number)) for number in line.split()]
        spoken = [(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True) if b > a]
        spans.append((spoken[0][0], spoken[-1][1]) if spoken else None)
    return fill_gaps(spans)
