"""All speech that has been read, as compact arrays, sorted by length for batches without waste."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .config import SAMPLE_RATE_HZ
from .store import Utterance, read_shard, shard_paths
from .vocabulary import Vocabulary, tokenizer

NO_SPAN = (-1.0, -1.0)


@dataclass(slots=True)
class Sample:
    """One utterance, ready for windows. Times in seconds from its first sample."""

    shard: int
    position: int
    seconds: float
    tokens: np.ndarray
    """int32 (n,), rows of the vocabulary"""
    token_s: np.ndarray
    """float32 (n, 2): start and end of what is heard, (-1, -1) for punctuation"""
    word_of: np.ndarray
    """int16 (n,), the word each token belongs to"""
    phones: np.ndarray
    """int16 (m,), -1 for phones outside the inventory"""
    phone_end_s: np.ndarray
    """float32 (m,)"""


@dataclass(slots=True)
class Dataset:
    """Training speech; ``refresh`` takes in shards that appeared since."""

    folder: Path
    vocabulary: Vocabulary
    phones: dict[str, int]
    samples: list[Sample] = field(default_factory=list)
    """In the order they were read."""
    by_length: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 (n,), indices into ``samples``, shortest first"""
    lengths_s: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """float32 (n,), in the order of ``by_length``"""
    _audio: list[np.ndarray] = field(default_factory=list)
    """Per shard, int16, mapped from disk"""
    _offsets: list[list[tuple[int, int]]] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        """Take in new shards and sort again."""
        new = [p for p in shard_paths(self.folder, "train") if p.name not in self._known]
        for path in new:
            shard = read_shard(path)
            for k, utterance in enumerate(shard.utterances):
                self.samples.append(self._sample(utterance, len(self._audio), k))
            self._audio.append(shard.samples)
            self._known.add(path.name)
            self._offsets.append([(u.first_sample, u.n_samples) for u in shard.utterances])
        if new:
            seconds = np.array([s.seconds for s in self.samples], dtype=np.float32)
            self.by_length = np.argsort(seconds, kind="stable")
            self.lengths_s = seconds[self.by_length]

    @property
    def hours(self) -> float:
        """Hours of speech taken in so far."""
        return float(self.lengths_s.sum()) / 3600

    def audio(self, sample: Sample) -> np.ndarray:
        """Return float32 (n,) in [-1, 1)."""
        first, n = self._offsets[sample.shard][sample.position]
        return self._audio[sample.shard][first : first + n].astype(np.float32) / 32768.0

    def _sample(self, utterance: Utterance, shard: int, position: int) -> Sample:
        tokens, spans, word_of = token_times(utterance, self.vocabulary)
        return Sample(
            shard,
            position,
            utterance.n_samples / SAMPLE_RATE_HZ,
            np.array(tokens, np.int32),
            np.array(spans, np.float32),
            np.array(word_of, np.int16),
            np.array([self.phones.get(phone, -1) for phone, _ in utterance.phones], np.int16),
            np.array([end / 1000 for _, end in utterance.phones], np.float32),
        )


def phone_inventory(folder: Path, shards: int = 20) -> dict[str, int]:
    """Return phone → class, from the first shards; rarer phones are ignored by the loss."""
    found: dict[str, int] = {}
    for path in shard_paths(folder, "train")[:shards]:
        for utterance in read_shard(path).utterances:
            for phone, _ in utterance.phones:
                found[phone] = found.get(phone, 0) + 1
    common = sorted(phone for phone, n in found.items() if n >= 5)
    return {phone: k for k, phone in enumerate(common)}


def token_times(
    utterance: Utterance, vocabulary: Vocabulary
) -> tuple[list[int], list[tuple[float, float]], list[int]]:
    """Return the tokens of an utterance, when each is heard (s), and its word.

    A word of several tokens is divided by their letters. A figure is not ("$62" is heard "sixty two
    dollars"): each of its tokens gets the whole word.
    """
    tokens: list[int] = []
    spans: list[tuple[float, float]] = []
    word_of: list[int] = []
    for k, (word, (start_ms, end_ms)) in enumerate(zip(utterance.written, utterance.word_ms, strict=True)):
        rows = vocabulary.encode(word)
        tokens += rows
        word_of += [k] * len(rows)
        letters = [_n_letters(vocabulary.whisper_ids[row]) for row in rows]
        spans += _divide(start_ms / 1000, end_ms / 1000, letters, any(c.isdigit() for c in word))
    return tokens, spans, word_of


def _n_letters(token: int) -> int:
    return sum(c.isalnum() for c in tokenizer().decode([token]))


def _divide(start_s: float, end_s: float, letters: list[int], is_figure: bool) -> list[tuple[float, float]]:
    total, before, spans = max(sum(letters), 1), 0, []
    for n in letters:
        if n == 0:
            spans.append(NO_SPAN)
        elif is_figure:
            spans.append((start_s, end_s))
        else:
            share = (end_s - start_s) / total
            spans.append((start_s + before * share, start_s + (before + n) * share))
        before += n
    return spans
