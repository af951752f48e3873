"""The tokens that the corpus uses. The network trains with these rows only; export widens them to 51,864."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from whisper.tokenizer import Tokenizer, get_tokenizer

from . import corpus

N_WHISPER = 51_864
"""Rows of Whisper's English embedding."""
UNKNOWN = -1
"""Stands in ``whisper_ids`` for every token that the corpus does not use."""
N_TIMESTAMPS = 1501
"""<|0.00|> to <|30.00|> in steps of 0.02 s."""


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Return Whisper's English tokenizer."""
    with warnings.catch_warnings():
        # whisper leaves closing its vocabulary to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(multilingual=False)


@lru_cache(maxsize=200_000)
def encode_word(word: str) -> tuple[int, ...]:
    """Return Whisper's tokens of a written word with the space before it; words never share a token."""
    return tuple(tokenizer().encode(f" {word}"))


@dataclass(frozen=True)
class Vocabulary:
    """Rows of the trained embedding: text tokens first, then the special ones, then the timestamps.

    One row, *unknown*, stands for all tokens that the corpus does not use. Export copies it to each of them.
    """

    whisper_ids: tuple[int, ...]
    n_text: int

    @cached_property
    def rows(self) -> dict[int, int]:
        """Whisper's id → row."""
        return {whisper_id: row for row, whisper_id in enumerate(self.whisper_ids)}

    def __len__(self) -> int:
        return len(self.whisper_ids)

    @property
    def end(self) -> int:
        """Row of <|endoftext|>."""
        return self.rows[tokenizer().eot]

    @property
    def start(self) -> int:
        """Row of <|startoftranscript|>."""
        return self.rows[tokenizer().sot]

    @property
    def previous(self) -> int:
        """Row of <|startofprev|>."""
        return self.rows[tokenizer().sot_prev]

    @property
    def no_speech(self) -> int:
        """Row of <|nospeech|>."""
        return self.rows[tokenizer().no_speech]

    @property
    def no_timestamps(self) -> int:
        """Row of <|notimestamps|>."""
        return self.rows[tokenizer().no_timestamps]

    @property
    def unknown(self) -> int:
        """Row shared by all tokens that the corpus does not use."""
        return self.rows[UNKNOWN]

    @property
    def n_unused(self) -> int:
        """How many of Whisper's tokens share the row *unknown*."""
        return N_WHISPER - (len(self) - 1)

    def timestamp(self, seconds: float) -> int:
        """Return the row of the timestamp nearest to a time within the window."""
        step = min(max(round(seconds / 0.02), 0), N_TIMESTAMPS - 1)
        return self.rows[tokenizer().timestamp_begin] + step

    def encode(self, word: str) -> list[int]:
        """Return the rows of a written word."""
        return [self.rows[token] for token in encode_word(word)]

    def decode(self, rows: list[int]) -> str:
        """Return the text of rows, special ones left out."""
        return str(tokenizer().decode([self.whisper_ids[row] for row in rows if row < self.n_text]))


def build(work: Path) -> Vocabulary:
    """Return the vocabulary of the corpus; kept in ``vocabulary.json`` so that it never changes midway."""
    path = work / "vocabulary.json"
    if not path.exists():
        used = {t for sentence in corpus.read(work) for word, _ in sentence for t in encode_word(word)}
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(sorted(used)))
        os.replace(partial, path)
    return of_text_tokens(json.loads(path.read_text()))


def of_text_tokens(text: list[int]) -> Vocabulary:
    """Return the vocabulary of these text tokens (Whisper's ids) and all that Whisper's format needs."""
    t = tokenizer()
    special = [t.eot, t.sot, t.sot_prev, t.no_speech, t.no_timestamps, UNKNOWN]
    timestamps = range(t.timestamp_begin, t.timestamp_begin + N_TIMESTAMPS)
    return Vocabulary((*text, *special, *timestamps), len(text))
