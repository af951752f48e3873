"""A deterministic stand-in for VAD and Whisper: the transcript is what the audio counts.

Tests and gateway benchmarks need to know exactly which frames became text. So each 512-sample frame
carries its own number, and the fake engine writes the numbers it finds in a window: "0 frames lost,
0 doubled" is then an equation, with no model and no tolerance. Audio must be sent as pcm_s16le at
16 kHz mono, so that samples arrive as they were made.
"""

import re
import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.settings import ModelFacts
from vad.audio import FRAME_SAMPLES
from vad.states import SlotArray, VadStates

_MARK = 12_345
"""First sample of a numbered frame; a silent frame is all zeros."""
_BASE = 10_000
"""The number is written in two samples to this base."""
_LEVEL = 1_000


def numbered_frame(number: int) -> NDArray[np.int16]:
    """int16 (512,): a frame of speech that says ``number``."""
    frame = np.full(FRAME_SAMPLES, _LEVEL, dtype=np.int16)
    frame[:3] = (_MARK, number // _BASE, number % _BASE)
    return frame


def numbered_speech(numbers: Iterable[int]) -> NDArray[np.int16]:
    """int16 (512 · n,): one frame for each number."""
    frames = [numbered_frame(number) for number in numbers]
    return np.concatenate(frames) if frames else np.zeros(0, dtype=np.int16)


def silence(n_frames: int) -> NDArray[np.int16]:
    """int16 (512 · n,): frames in which nothing is said."""
    return np.zeros(n_frames * FRAME_SAMPLES, dtype=np.int16)


def numbers_in(text: str) -> list[int]:
    """The numbers of a transcript, in order."""
    return [int(digits) for digits in re.findall(r"\d+", text)]


def read_numbers(samples: NDArray[np.int16]) -> list[int]:
    """The numbers of the frames in a window, int16 (n,); the last frame may be cut short."""
    heads = [samples[i : i + 3] for i in range(0, len(samples) - 2, FRAME_SAMPLES)]
    return [int(head[1]) * _BASE + int(head[2]) for head in heads if head[0] == _MARK]


class FakeVad:
    """Scores a numbered frame 1 and any other 0."""

    def score(self, frames: NDArray[np.float32], slots: SlotArray, states: VadStates) -> NDArray[np.float32]:
        """See ``vad.model.SileroVad.score``; keeps no state."""
        states.check(slots)
        marked: NDArray[np.float32] = (np.rint(frames[:, 0] * 32768) == _MARK).astype(np.float32)
        return marked


class FakeTranscriber:
    """Writes the numbers it finds."""

    def __init__(self) -> None:
        self.facts = ModelFacts("fake", frozenset({"en"}), can_translate=False)

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """One result for each job, in their order."""
        now_s = time.monotonic()
        return [_answer(job, now_s) for job in batch.jobs]


def _answer(job: DecodeJob, now_s: float) -> DecodeResult:
    numbers = read_numbers(np.frombuffer(job.pcm, dtype="<i2"))
    return job.answered(text=" ".join(map(str, numbers)), language="en", now_s=now_s, tokens=tuple(numbers))
