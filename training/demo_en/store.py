"""Shards of speech on disk: one array of samples and one list of utterances each.

A shard is written whole or not at all, so whoever reads while another writes sees complete shards only.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(slots=True)
class Utterance:
    """One sentence read by one voice. Times are in milliseconds from its first sample."""

    voice: str
    written: list[str]
    """The words as they are written, punctuation attached."""
    word_ms: list[tuple[int, int]]
    """Start and end of each written word."""
    phones: list[tuple[str, int]]
    """Phone and its end; the first starts at 0, silence is 'espeak:_' or 'arpa:pau'."""
    first_sample: int = 0
    n_samples: int = 0

    @property
    def text(self) -> str:
        """The sentence."""
        return " ".join(self.written)


@dataclass(slots=True)
class Shard:
    """Utterances and their samples, int16 at 16 kHz, mapped from disk."""

    utterances: list[Utterance]
    samples: np.ndarray

    def audio(self, k: int) -> np.ndarray:
        """Return utterance k as float32 (n,) in [-1, 1)."""
        u = self.utterances[k]
        return self.samples[u.first_sample : u.first_sample + u.n_samples].astype(np.float32) / 32768.0


def write_shard(path: Path, spoken: list[tuple[Utterance, np.ndarray]]) -> None:
    """Write ``path``.npy and ``path``.json; the latter last, because it declares the shard complete."""
    at = 0
    for utterance, samples in spoken:
        utterance.first_sample, utterance.n_samples = at, len(samples)
        at += len(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".npy.part")
    with partial.open("wb") as file:
        np.save(file, np.concatenate([samples for _, samples in spoken]).astype(np.int16))
    os.replace(partial, path.with_suffix(".npy"))
    partial = path.with_suffix(".json.part")
    partial.write_text(json.dumps([asdict(u) for u, _ in spoken], separators=(",", ":")))
    os.replace(partial, path.with_suffix(".json"))


def read_shard(path: Path) -> Shard:
    """Map a shard; ``path`` with or without its suffix."""
    rows = json.loads(path.with_suffix(".json").read_text())
    utterances = [
        Utterance(
            voice=row["voice"],
            written=row["written"],
            word_ms=[(a, b) for a, b in row["word_ms"]],
            phones=[(phone, end) for phone, end in row["phones"]],
            first_sample=row["first_sample"],
            n_samples=row["n_samples"],
        )
        for row in rows
    ]
    return Shard(utterances, np.load(path.with_suffix(".npy"), mmap_mode="r"))


def shard_paths(folder: Path, prefix: str) -> list[Path]:
    """Return the complete shards of a kind, in order."""
    return sorted(path.with_suffix("") for path in folder.glob(f"{prefix}-*.json"))
