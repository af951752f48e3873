"""What the embedded model reads of recordings, without a server.

Tests that see captions compare with this: they hold for any model that is embedded, however well it reads.
That it reads as well as its manifest says is a test of its own (``test_evaluate.py``).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from offline_product import transcribe_all

from stream_server.engine.manifest import embedded_model
from stream_server.engine.transcriber import WhisperTranscriber
from vad.model import SileroVad

PAUSE = np.zeros(16_000, dtype=np.int16)


@cache
def embedded_transcriber() -> WhisperTranscriber:
    """The embedded model on the CPU."""
    return WhisperTranscriber(embedded_model(), "cpu")


def read(recordings: Sequence[NDArray[np.int16]]) -> list[list[str]]:
    """Texts of the captions of recordings, int16 (n,) at 16 kHz; empty captions are left out."""
    finals, _ = transcribe_all(recordings, SileroVad(), embedded_transcriber())
    return [[final.text for final in said if final.text] for said in finals]


@cache
def read_as_one(folder: Path) -> dict[str, str]:
    """By file name, the caption of each short recording of ``folder`` that becomes exactly one.

    Each is read between pauses of a second, as it is in a dialogue.
    """
    files = sorted(folder.glob("[0-9]*.flac"))
    audio = [np.concatenate([PAUSE, load(file), PAUSE]) for file in files]
    return {file.name: said[0] for file, said in zip(files, read(audio), strict=True) if len(said) == 1}


def load(file: Path) -> NDArray[np.int16]:
    """Samples of a recording at 16 kHz, int16 (n,)."""
    samples, rate_hz = soundfile.read(file, dtype="int16")
    assert rate_hz == 16_000
    return samples
