"""A deterministic stand-in for VAD and Whisper: the transcript is what the audio counts.

Tests and gateway benchmarks need to know exactly which frames became text. So each 512-sample frame
carries its own number, and the fake engine writes the numbers it finds in a window: "0 frames lost,
0 doubled" is then an equation, with no model and no tolerance. Audio must be sent as pcm_s16le at
16 kHz mono, so that samples arrive as they were made.

A numbered frame sounds like nothing. Where a real speech detector is to hear speech, frames of a
recording are tagged instead: the number stands in the lowest bits of their samples, which nobody hears.
"""

import re
import time
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import Word
from stream_server.core.settings import ModelFacts
from stream_server.core.words import TOKEN
from vad.audio import FRAME_SAMPLES
from vad.states import SlotArray, VadStates

_MARK = 12_345
"""First sample of a numbered frame; a silent frame is all zeros."""
_BASE = 10_000
"""The number is written in two samples to this base."""
_LEVEL = 1_000
_TAG = 0xA55A
"""First 16 lowest bits of a tagged frame; the number is in the next 24."""
_TAG_BITS = 40
_RANGE = 16
"""Ranges of tags end where numbers are divisible by it: half a second, a long word."""


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


def tag_frames(frames: NDArray[np.int16], first: int) -> NDArray[np.int16]:
    """Frames, int16 (n, 512), that carry the numbers from ``first`` on in their lowest bits.

    Args:
        frames: Any audio; not changed.
        first: Number of the first frame; all numbers are below 2**24.
    """
    numbers = (np.arange(first, first + len(frames)) | (_TAG << 24)).astype(">u8")
    octets = numbers.view(np.uint8).reshape(len(frames), 8)[:, 8 - _TAG_BITS // 8 :]
    tagged = frames.copy()
    head = tagged[:, :_TAG_BITS]
    tagged[:, :_TAG_BITS] = (head & ~1) | np.unpackbits(octets, axis=1)
    return tagged


def read_tags(samples: NDArray[np.int16]) -> list[int]:
    """The numbers of the tagged frames in a window, int16 (n,), that begins with a frame."""
    return [number for _, number in _tags(samples)]


def _tags(samples: NDArray[np.int16]) -> list[tuple[int, int]]:
    """Of each tagged frame its place in the window, in frames, and its number."""
    n_frames = len(samples) // FRAME_SAMPLES
    heads = samples[: n_frames * FRAME_SAMPLES].reshape(n_frames, FRAME_SAMPLES)[:, :_TAG_BITS]
    octets = np.packbits((heads & 1).astype(np.uint8), axis=1).astype(np.int64)
    words = octets @ (1 << np.arange(_TAG_BITS - 8, -8, -8, dtype=np.int64))
    (places,) = np.nonzero(words >> 24 == _TAG)
    return [(int(place), int(words[place]) & 0xFFFFFF) for place in places]


def ranges_text(numbers: Iterable[int]) -> str:
    """Numbers as a text about as long as speech has: ``3-15 16-31 40-40``, ranges of at most 16."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1 and number % _RANGE:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{first}-{last}" for first, last in runs)


class FakeVad:
    """Scores a numbered frame 1 and any other 0."""

    def score(self, frames: NDArray[np.float32], slots: SlotArray, states: VadStates) -> NDArray[np.float32]:
        """See ``vad.model.SileroVad.score``; keeps no state."""
        states.check(slots)
        marked: NDArray[np.float32] = (np.rint(frames[:, 0] * 32768) == _MARK).astype(np.float32)
        return marked


class FakeTranscriber:
    """Writes the numbers it finds; of tagged frames their ranges."""

    def __init__(self, name: str = "fake") -> None:
        self.facts = ModelFacts(name, frozenset({"en"}), can_translate=False, can_time_words=True)
        self.n_bytes = 0

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """One result for each job, in their order."""
        now_s = time.monotonic()
        return [self._answer(job, now_s) for job in batch.jobs]

    def _answer(self, job: DecodeJob, now_s: float) -> DecodeResult:
        problem = job.problem(self.facts.languages)
        if problem is not None:
            return job.answered(text="", language=None, now_s=now_s, problem=problem)
        return _read(job, now_s)


def _read(job: DecodeJob, now_s: float) -> DecodeResult:
    samples = np.frombuffer(bytes(job.pcm), dtype="<i2")
    numbers = read_numbers(samples)
    if not numbers:
        tags = _tags(samples)
        text = ranges_text(number for _, number in tags)
        words = _time_ranges(job, text, {number: place for place, number in tags}) if job.word_times else ()
        return job.answered(
            text=text, language="en", now_s=now_s, words=words, word_probabilities=_certain(text)
        )
    text = " ".join(map(str, numbers))
    words = _time_numbers(job, samples) if job.word_times else ()
    return job.answered(
        text=text,
        language="en",
        now_s=now_s,
        tokens=tuple(numbers),
        words=words,
        word_probabilities=_certain(text),
    )


def _certain(text: str) -> tuple[float, ...]:
    """Probability 1 for each of its words."""
    return (1.0,) * len(TOKEN.findall(text))


def _time_ranges(job: DecodeJob, text: str, places: Mapping[int, int]) -> tuple[Word, ...]:
    """Each range from its first frame to its last.

    Args:
        job: The window.
        text: Its ranges.
        places: Of the frames by their numbers, in frames from the window's start.
    """
    words: list[Word] = []
    for one in text.split():
        first, last = (job.start + places[int(number)] * FRAME_SAMPLES for number in one.split("-"))
        words.append(Word(f" {one}" if words else one, first, last + FRAME_SAMPLES))
    return tuple(words)


def _time_numbers(job: DecodeJob, samples: NDArray[np.int16]) -> tuple[Word, ...]:
    """Each number at its frame."""
    words: list[Word] = []
    for first in range(0, len(samples), FRAME_SAMPLES):
        frame = samples[first : first + FRAME_SAMPLES]
        for number in read_numbers(frame):
            start = job.start + first
            words.append(Word(f" {number}" if words else str(number), start, start + len(frame)))
    return tuple(words)
