"""Recordings that judge a model: held-out text, read by training voices and by festival's, disturbed.

Each is a FLAC file at 16 kHz; ``manifest.json`` says what is said in it, by whom, under which condition, and
when each word begins and ends, as the synthesiser tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import augment, corpus, script, synth_festival, synth_flite
from .config import SAMPLE_RATE_HZ
from .numerals import Chunk
from .progress import tracked
from .studio import Studio, Take, limited, padded, write_audio, write_manifest

SEED = 4
BYTES_MAX = 9_000_000
SNR_DB = 10.0
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
        listed.append({"file": name, **entry, "seconds": write_audio(folder / name, samples)})
    size = sum(path.stat().st_size for path in folder.glob("*.flac"))
    if size > BYTES_MAX:
        raise ValueError(f"the recordings in {folder} have {size} bytes, more than {BYTES_MAX}")
    listed.sort(key=lambda entry: _CONDITIONS.index(entry["condition"]))
    return write_manifest(folder, listed)


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
    take = padded(studio.record(said, trained, rng), rng)
    noisy = augment.add_noise(take.samples, augment.noise(len(take.samples), rng), SNR_DB)
    number = f"{k + 1:02}"
    yield f"clean-{number}.flac", take.samples, _entry("clean", take)
    yield f"noise-{number}.flac", limited(noisy), _entry("noise 10 dB", take)
    yield f"telephone-{number}.flac", limited(augment.telephone(take.samples)), _entry("telephone", take)
    unseen = list(synth_festival.VOICES)[k % len(synth_festival.VOICES)]
    take = padded(studio.record(said, f"festival {unseen}", rng), rng)
    yield f"festival-{number}.flac", take.samples, _entry("festival", take)


def _dialogue(studio: Studio, n_utterances: int) -> Recorded:
    rng = np.random.default_rng([SEED, 100])
    turns = [(_SPEAKERS[speaker], said) for speaker, said in script.conversation()[:n_utterances]]
    samples, utterances = studio.converse(turns, rng)
    words = [word for said in utterances for word in said.pop("words")]
    entry = {
        "condition": "dialogue",
        "voice": "four voices",
        "text": " ".join(said["text"] for said in utterances),
        "speech_end": words[-1]["end"],
        "utterances": utterances,
        "words": words,
    }
    return "dialogue.flac", samples, entry


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
    return limited(kinds * np.float32(10 ** (_NOISE_DBFS / 20)))
