"""The voices, those for training and those for tests, and what is made of their readings.

Takes are at a usual level and know the times of their words; they become FLAC files with a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from . import script, synth_espeak, synth_festival, synth_flite
from .config import SAMPLE_RATE_HZ
from .numerals import Chunk
from .reading import Reading, spoken_words, written_times

_LEVEL_DBFS = (-28.0, -22.0)
"""Power of speech, pauses left out."""
_PEAK_MAX = 0.85
_OWN_LEAD_S, _OWN_TAIL_S = 0.05, 0.1
"""What is kept of the synthesiser's own silence, into which the last sound may fade."""
_LEAD_S, _TAIL_S = (0.3, 0.8), (0.7, 1.1)
_TURN_S, _SAME_SPEAKER_S = (0.5, 1.3), (0.35, 0.7)
"""Pauses of a conversation, between speakers and within what one says."""


@dataclass(slots=True)
class Take:
    """An utterance at its place in a recording."""

    text: str
    voice: str
    samples: np.ndarray
    """float32 (n,)"""
    words: list[dict[str, Any]]
    """``word`` with ``start`` and ``end`` in seconds from the first sample."""

    def entry(self) -> dict[str, Any]:
        """Return what a manifest says of it as a part of a recording."""
        start, end = self.words[0]["start"], self.words[-1]["end"]
        return {"start": start, "end": end, "voice": self.voice, "text": self.text, "words": self.words}


class Studio:
    """All voices, those for training and those for tests."""

    def __init__(self) -> None:
        self._espeak = synth_espeak.Espeak()
        self._flite = synth_flite.Flite()

    def record(self, said: list[Chunk], voice: str, rng: np.random.Generator) -> Take:
        """Read a sentence, at a rate and a pitch near the voice's usual ones and at a usual level."""
        synthesiser, _, name = voice.partition(" ")
        words = spoken_words(said)
        if synthesiser == "festival":
            reading = synth_festival.read(words, name)
        elif synthesiser == "flite":
            pitch_hz = synth_flite.USUAL_PITCH_HZ[name] * rng.uniform(0.95, 1.08)
            reading = self._flite.read(words, name, rng.uniform(0.95, 1.1), pitch_hz)
        else:
            rate, pitch, span = (int(rng.integers(*bounds)) for bounds in ((150, 180), (40, 60), (45, 60)))
            reading = self._espeak.read(words, name, rate, pitch, span)
        return Take(script.written(said), _shown(voice), _levelled(reading, rng), _words(said, reading))

    def converse(
        self, turns: Iterable[tuple[str, list[Chunk]]], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Let one (voice, sentence) after the other be heard, with pauses as of people who think.

        Returns:
            Samples, float32 (n,), and what ``Take.entry`` says of each utterance.
        """
        parts = [_silence(rng.uniform(*_LEAD_S))]
        utterances: list[dict[str, Any]] = []
        before = ""
        for voice, said in turns:
            if before:
                parts.append(_silence(rng.uniform(*(_SAME_SPEAKER_S if voice == before else _TURN_S))))
            trimmed = trim(self.record(said, voice, rng))
            take = _shifted(trimmed, sum(map(len, parts)) / SAMPLE_RATE_HZ)
            parts.append(take.samples)
            utterances.append(take.entry())
            before = voice
        parts.append(_silence(_TAIL_S[1]))
        return np.concatenate(parts), utterances


def limited(samples: np.ndarray) -> np.ndarray:
    """Lower the whole recording where its peak would come near full scale."""
    peak = float(np.abs(samples).max())
    return np.asarray(samples * min(1.0, _PEAK_MAX / peak), np.float32)


def trim(take: Take) -> Take:
    """Cut off the synthesiser's own silence, but for what the first and the last sound need."""
    first = max(0, round((take.words[0]["start"] - _OWN_LEAD_S) * SAMPLE_RATE_HZ))
    last = round((take.words[-1]["end"] + _OWN_TAIL_S) * SAMPLE_RATE_HZ)
    cut = Take(take.text, take.voice, take.samples[first:last], take.words)
    return _shifted(cut, -first / SAMPLE_RATE_HZ)


def padded(take: Take, rng: np.random.Generator) -> Take:
    """Put a little silence around a take."""
    lead, tail = (round(rng.uniform(*bounds) * SAMPLE_RATE_HZ) for bounds in (_LEAD_S, _TAIL_S))
    trimmed = trim(take)
    trimmed.samples = np.pad(trimmed.samples, (lead, tail))
    return _shifted(trimmed, lead / SAMPLE_RATE_HZ)


def write_audio(path: Path, samples: np.ndarray) -> float:
    """Write a FLAC file of float32 (n,); return its length in seconds."""
    pcm = np.round(samples * 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype="PCM_16")
    return round(len(samples) / SAMPLE_RATE_HZ, 3)


def write_manifest(folder: Path, listed: list[dict[str, Any]], **others: object) -> Path:
    """Write ``manifest.json``, a line for each recording and for each of ``others``; return its path."""
    path = folder / "manifest.json"
    lines = ",\n  ".join(json.dumps(entry) for entry in listed)
    more = "".join(f',\n "{key}": {json.dumps(value)}' for key, value in others.items())
    path.write_text(f'{{\n "sample_rate": {SAMPLE_RATE_HZ},\n "recordings": [\n  {lines}\n ]{more}\n}}\n')
    return path


def _words(said: list[Chunk], reading: Reading) -> list[dict[str, Any]]:
    times = written_times(said, reading.spoken_ms)
    return [
        {"word": word, "start": start / 1000, "end": end / 1000}
        for (word, _), (start, end) in zip(said, times, strict=True)
    ]


def _levelled(reading: Reading, rng: np.random.Generator) -> np.ndarray:
    samples = reading.samples.astype(np.float32) / 32768
    loud = samples[np.abs(samples) > 1e-3]
    scale = 10 ** (rng.uniform(*_LEVEL_DBFS) / 20) / np.sqrt(np.mean(loud**2))
    return limited(samples * np.float32(scale))


def _shifted(take: Take, seconds: float) -> Take:
    words = [word | {key: round(word[key] + seconds, 3) for key in ("start", "end")} for word in take.words]
    return Take(take.text, take.voice, take.samples, words)


def _shown(voice: str) -> str:
    return voice.replace("gmw/", "")


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
