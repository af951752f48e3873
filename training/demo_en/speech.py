"""The second step: espeak-ng and flite read the corpus, in shards; held-out sentences are read for tests.

Shard k depends on the corpus, the seed and k only. Existing shards are kept, so the step goes on where it
stopped, and training may begin on the first shards while later ones are still being read.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from . import corpus, heldout, synth_espeak, synth_festival, synth_flite
from .config import SpeechConfig
from .numerals import Chunk
from .progress import tracked
from .reading import Reading, spoken_words, written_times
from .store import Utterance, write_shard

ESPEAK_SHARE = 0.55
_TRAIN = "train"
_speakers: dict[str, Speakers] = {}


class Speakers:
    """All training voices in one process."""

    def __init__(self) -> None:
        self._espeak = synth_espeak.Espeak()
        self._flite = synth_flite.Flite()

    def read(self, chunks: list[Chunk], rng: np.random.Generator) -> tuple[Utterance, np.ndarray]:
        """Read a sentence with a random voice, rate and pitch; returns samples int16 (n,) at 16 kHz."""
        words = spoken_words(chunks)
        voice, reading = (
            self._espeaks(words, rng) if rng.random() < ESPEAK_SHARE else self._flites(words, rng)
        )
        times = written_times(chunks, reading.spoken_ms)
        written = [text for text, _ in chunks]
        return Utterance(voice, written, times, reading.phones), reading.samples

    def _espeaks(self, words: list[str], rng: np.random.Generator) -> tuple[str, Reading]:
        accent = str(rng.choice(synth_espeak.ACCENTS, p=synth_espeak.ACCENT_SHARES))
        variant = str(rng.choice(synth_espeak.VARIANTS))
        voice = f"{accent}+{variant}" if variant else accent
        rate, pitch, span = (int(rng.integers(*bounds)) for bounds in ((135, 215), (25, 75), (30, 70)))
        return f"espeak {voice}", self._espeak.read(words, voice, rate, pitch, span)

    def _flites(self, words: list[str], rng: np.random.Generator) -> tuple[str, Reading]:
        voice = str(rng.choice(synth_flite.VOICES, p=synth_flite.VOICE_SHARES))
        stretch = float(rng.uniform(0.8, 1.25))
        pitch_hz = synth_flite.USUAL_PITCH_HZ[voice] * float(rng.uniform(0.85, 1.2))
        return f"flite {voice}", self._flite.read(words, voice, stretch, pitch_hz)


def build(work: Path, config: SpeechConfig, processes: int = 2) -> None:
    """Read the held-out sentences and every shard of the corpus that is not there yet."""
    folder = work / "speech"
    sentences = corpus.read(work)
    n_shards = min(config.shards_max, -(-len(sentences) // config.sentences_per_shard))
    read_held_out(folder, config)
    missing = [k for k in range(n_shards) if not (folder / f"{_TRAIN}-{k:05d}.json").exists()]
    work_on = partial(_read_shard, work, config)
    # A process per shard: a synthesiser's reading depends a little on what it has read before. Spawned, since
    # espeak-ng and flite keep state that must not be shared by fork.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        done = pool.imap_unordered(work_on, missing)
        for _ in tracked(done, "speech", n_shards, n_shards - len(missing)):
            pass


def read_held_out(folder: Path, config: SpeechConfig) -> None:
    """Read the sentences of ``heldout`` with training voices and with festival's, once."""
    sentences = [*heldout.free_sentences(), *heldout.figure_sentences()]
    sets: dict[str, Callable[[list[Chunk], int], tuple[Utterance, np.ndarray]]] = {
        "free": partial(_read_known, config),
        "festival": _read_festival,
    }
    for name, read in sets.items():
        path = folder / f"test-{name}"
        if not path.with_suffix(".json").exists():
            numbered = list(enumerate(sentences))
            spoken = [read(s, k) for k, s in tracked(numbered, f"held-out: {name}", len(numbered))]
            write_shard(path, spoken)


def _read_known(config: SpeechConfig, chunks: list[Chunk], k: int) -> tuple[Utterance, np.ndarray]:
    return _speakers_here().read(chunks, np.random.default_rng([config.seed, 1, k]))


def _read_festival(chunks: list[Chunk], k: int) -> tuple[Utterance, np.ndarray]:
    voice = list(synth_festival.VOICES)[k % len(synth_festival.VOICES)]
    reading = synth_festival.read(spoken_words(chunks), voice)
    times = written_times(chunks, reading.spoken_ms)
    return Utterance(f"festival {voice}", [text for text, _ in chunks], times, []), reading.samples


def _read_shard(work: Path, config: SpeechConfig, k: int) -> int:
    rng = np.random.default_rng([config.seed, 0, k])
    first = k * config.sentences_per_shard
    sentences = _sentences_here(work)[first : first + config.sentences_per_shard]
    write_shard(work / "speech" / f"{_TRAIN}-{k:05d}", [_speakers_here().read(s, rng) for s in sentences])
    return k


def _speakers_here() -> Speakers:
    if "all" not in _speakers:
        _speakers["all"] = Speakers()
    return _speakers["all"]


_corpus_here: dict[Path, list[list[Chunk]]] = {}


def _sentences_here(work: Path) -> list[list[Chunk]]:
    if work not in _corpus_here:
        _corpus_here[work] = corpus.read(work)
    return _corpus_here[work]
