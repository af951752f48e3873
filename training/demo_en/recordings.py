"""Recordings that judge a model: held-out text, read by training voices and by festival's, disturbed.

Each is a FLAC file at 16 kHz; ``manifest.json`` says what is said in it, by whom, under which condition, and
when each word begins and ends, as the synthesiser tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from . import augment, corpus, script, synth_espeak, synth_festival, synth_flite
from .config import SAMPLE_RATE_HZ
from .numerals import Chunk
from .progress import tracked
from .reading import Reading, spoken_words, written_times

SEED = 4
BYTES_MAX = 9_000_000
SNR_DB = 10.0
_LEVEL_DBFS = (-28.0, -22.0)
"""Power of speech, pauses left out."""
_PEAK_MAX = 0.85
_OWN_LEAD_S, _OWN_TAIL_S = 0.05, 0.1
"""What is kept of the synthesiser's own silence, into which the last sound may fade."""
_LEAD_S, _TAIL_S = (0.3, 0.8), (0.7, 1.1)
_TURN_S, _SAME_SPEAKER_S = (0.5, 1.3), (0.35, 0.7)
"""Pauses of the conversation, between speakers and within what one says."""
_SMOKE = 3
_SILENCE_S, _NOISE_S, _NOISES = 8.0, 5.0, 3
_ROOM_DBFS, _NOISE_DBFS = -70.0, -32.0

_CONDITIONS = ("clean", "noise 10 dB", "telephone", "festival", "dialogue", "silence", "noise only")
_ESPEAK_VOICES = (
    "gmw/en-US", "gmw/en-GB-x-rp+f2", "gmw/en-US+f3", "gmw/en+m3", "gmw/en-US+m7", "gmw/en-GB-scotland+m2",
    "gmw/en-US+Annie", "gmw/en-029+f1", "gmw/en-US+Mario", "gmw/en-US-nyc+f4",
)  # fmt: skip
_SPEAKERS = {
    "anna": "flite slt",
    "ben": "espeak-ng gmw/en-US+m3",
    "clara": "espeak-ng gmw/en-GB-x-rp+f2",
    "david": "flite rms",
}


@dataclass(slots=True)
class Take:
    """An utterance at its place in a recording."""

    text: str
    voice: str
    samples: np.ndarray
    """float32 (n,)"""
    words: list[dict[str, Any]]
    """``word`` with ``start`` and ``end`` in seconds from the first sample."""


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


def build(work: Path, folder: Path, smoke: bool = False) -> Path:
    """Write recordings and manifest into ``folder``; return the manifest's path.

    Args:
        work: If the corpus is there, the script is compared with it.
        folder: Made if it is missing; recordings in it are replaced.
        smoke: A few sentences only.

    Raises:
        NotHeldOut: The corpus contains a sentence of the script, or too many runs of its words.
    """
    check_held_out(work)
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    n_sentences = _SMOKE if smoke else len(script.SENTENCES)
    n_utterances = _SMOKE if smoke else len(script.CONVERSATION)
    everything = _all(Studio(), n_sentences, n_utterances)
    for name, samples, entry in tracked(everything, "recordings", 4 * n_sentences + 3):
        soundfile.write(folder / name, _int16(samples), SAMPLE_RATE_HZ, subtype="PCM_16")
        seconds = round(len(samples) / SAMPLE_RATE_HZ, 3)
        listed.append({"file": name, **entry, "seconds": seconds})
    size = sum(path.stat().st_size for path in folder.glob("*.flac"))
    if size > BYTES_MAX:
        raise ValueError(f"the recordings in {folder} have {size} bytes, more than {BYTES_MAX}")
    path = folder / "manifest.json"
    listed.sort(key=lambda entry: _CONDITIONS.index(entry["condition"]))
    lines = ",\n  ".join(json.dumps(entry) for entry in listed)
    path.write_text(f'{{\n "sample_rate": {SAMPLE_RATE_HZ},\n "recordings": [\n  {lines}\n ]\n}}\n')
    return path


def check_held_out(work: Path) -> None:
    """Compare the script with the corpus in ``work``, if there is one.

    Raises:
        NotHeldOut: They share a sentence or too many runs of words.
    """
    if not (work / "corpus.jsonl").exists():
        return
    said = [script.written(s) for s in [*script.sentences(), *(s for _, s in script.conversation())]]
    share, whole = script.share_seen(said, (script.written(s) for s in corpus.read(work)))
    if whole or share > script.SHARE_SEEN_MAX:
        raise script.NotHeldOut(
            f"the corpus has {share:.1%} of the script's runs of words, and whole: {whole}"
        )
    print(f"{share:.1%} of the script's runs of four words stand in the corpus, none of its sentences")


Recorded = tuple[str, np.ndarray, dict[str, Any]]
"""File name, samples and the manifest's entry."""


def _all(studio: Studio, n_sentences: int, n_utterances: int) -> Iterator[Recorded]:
    for k, said in enumerate(script.sentences()[:n_sentences]):
        yield from _sentence(studio, k, said)
    yield _dialogue(studio, n_utterances)
    yield "silence.flac", _room(np.random.default_rng([SEED, 101])), _nothing("silence")
    yield "noise-only.flac", _noises(np.random.default_rng([SEED, 102])), _nothing("noise only")


def _sentence(studio: Studio, k: int, said: list[Chunk]) -> Iterator[Recorded]:
    """One reading clean, in noise and by telephone, and another by a festival voice."""
    rng = np.random.default_rng([SEED, k])
    trained = (
        f"flite {synth_flite.VOICES[k // 2 % len(synth_flite.VOICES)]}"
        if k % 2
        else f"espeak-ng {_ESPEAK_VOICES[k // 2 % len(_ESPEAK_VOICES)]}"
    )
    take = _padded(studio.record(said, trained, rng), rng)
    noisy = augment.add_noise(take.samples, augment.noise(len(take.samples), rng), SNR_DB)
    number = f"{k + 1:02}"
    yield f"clean-{number}.flac", take.samples, _entry("clean", take)
    yield f"noise-{number}.flac", _limited(noisy), _entry("noise 10 dB", take)
    yield f"telephone-{number}.flac", _limited(augment.telephone(take.samples)), _entry("telephone", take)
    unseen = list(synth_festival.VOICES)[k % len(synth_festival.VOICES)]
    take = _padded(studio.record(said, f"festival {unseen}", rng), rng)
    yield f"festival-{number}.flac", take.samples, _entry("festival", take)


def _dialogue(studio: Studio, n_utterances: int) -> Recorded:
    """The conversation: one speaker at a time, with the pauses of people who think and breathe."""
    rng = np.random.default_rng([SEED, 100])
    parts = [np.zeros(round(rng.uniform(*_LEAD_S) * SAMPLE_RATE_HZ), np.float32)]
    takes: list[Take] = []
    before = ""
    for speaker, said in script.conversation()[:n_utterances]:
        if before:
            pause_s = rng.uniform(*(_SAME_SPEAKER_S if speaker == before else _TURN_S))
            parts.append(np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32))
        take = _trimmed(studio.record(said, _SPEAKERS[speaker], rng))
        takes.append(_shifted(take, sum(map(len, parts)) / SAMPLE_RATE_HZ))
        parts.append(take.samples)
        before = speaker
    parts.append(np.zeros(round(_TAIL_S[1] * SAMPLE_RATE_HZ), np.float32))
    words = [word for take in takes for word in take.words]
    entry = {
        "condition": "dialogue",
        "voice": "four voices",
        "text": " ".join(take.text for take in takes),
        "speech_end": words[-1]["end"],
        "utterances": [
            {
                "start": take.words[0]["start"],
                "end": take.words[-1]["end"],
                "voice": take.voice,
                "text": take.text,
            }
            for take in takes
        ],
        "words": words,
    }
    return "dialogue.flac", np.concatenate(parts), entry


def _entry(condition: str, take: Take) -> dict[str, Any]:
    return {
        "condition": condition,
        "voice": take.voice,
        "text": take.text,
        "speech_end": take.words[-1]["end"],
        "words": take.words,
    }


def _nothing(condition: str) -> dict[str, Any]:
    return {"condition": condition, "voice": "nobody", "speech": False}


def _room(rng: np.random.Generator) -> np.ndarray:
    """A quiet room: microphones never give exact zeros."""
    hiss = rng.standard_normal(round(_SILENCE_S * SAMPLE_RATE_HZ)).astype(np.float32)
    return hiss * np.float32(10 ** (_ROOM_DBFS / 20))


def _noises(rng: np.random.Generator) -> np.ndarray:
    n = round(_NOISE_S * SAMPLE_RATE_HZ)
    kinds = np.concatenate([augment.noise(n, rng) for _ in range(_NOISES)])
    return _limited(kinds * np.float32(10 ** (_NOISE_DBFS / 20)))


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
    return _limited(samples * np.float32(scale))


def _limited(samples: np.ndarray) -> np.ndarray:
    """Lower the whole recording where its peak would come near full scale."""
    peak = float(np.abs(samples).max())
    return np.asarray(samples * min(1.0, _PEAK_MAX / peak), np.float32)


def _trimmed(take: Take) -> Take:
    first = max(0, round((take.words[0]["start"] - _OWN_LEAD_S) * SAMPLE_RATE_HZ))
    last = round((take.words[-1]["end"] + _OWN_TAIL_S) * SAMPLE_RATE_HZ)
    cut = Take(take.text, take.voice, take.samples[first:last], take.words)
    return _shifted(cut, -first / SAMPLE_RATE_HZ)


def _padded(take: Take, rng: np.random.Generator) -> Take:
    lead, tail = (round(rng.uniform(*bounds) * SAMPLE_RATE_HZ) for bounds in (_LEAD_S, _TAIL_S))
    trimmed = _trimmed(take)
    trimmed.samples = np.pad(trimmed.samples, (lead, tail))
    return _shifted(trimmed, lead / SAMPLE_RATE_HZ)


def _shifted(take: Take, seconds: float) -> Take:
    words = [word | {key: round(word[key] + seconds, 3) for key in ("start", "end")} for word in take.words]
    return Take(take.text, take.voice, take.samples, words)


def _shown(voice: str) -> str:
    return voice.replace("gmw/", "")


def _int16(samples: np.ndarray) -> np.ndarray:
    return np.round(samples * 32767).astype(np.int16)
