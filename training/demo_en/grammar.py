"""Expands the rules of ``rules.txt`` into sentences: lists of (written, spoken) chunks.

Pure but for the random generator, which is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import lexicon, numerals
from .numerals import Chunk
from .words import WordClass

RULES = Path(__file__).with_name("rules.txt")
_PUNCTUATION = frozenset(".,?!")
_SPECIAL: dict[str, Callable[[np.random.Generator], list[Chunk]]] = {
    "NUMBER": numerals.number,
    "YEAR": numerals.year,
    "PERCENT": numerals.percent,
    "MONEY": numerals.money,
    "CLOCK": numerals.clock,
    "DATE": numerals.date,
    "DIGITS": numerals.digits,
    "ACRONYM": numerals.acronym,
    "ORDINALNUMBER": lambda rng: [numerals.ordinal_of(int(rng.integers(1, 32)))],
}
_LISTS = {
    "FIRST": lexicon.FIRST_NAMES,
    "SURNAME": lexicon.SURNAMES,
    "PLACE": lexicon.PLACES,
    "PEOPLE": lexicon.PEOPLES,
    "DAY": lexicon.DAYS,
    "MONTH": lexicon.MONTHS,
}


class Grammar:
    """The parsed rules with their word classes; holds no state between sentences."""

    def __init__(self, classes: dict[str, WordClass]) -> None:
        """Take the open word classes, from ``words.by_class`` or a small list of one's own."""
        self._classes = classes
        self._rules = parse(RULES.read_text())

    def sentence(self, symbol: str, rng: np.random.Generator) -> list[Chunk]:
        """Expand a symbol and return a cased, punctuated sentence."""
        return finish(self._expand(symbol, rng))

    def random_words(self, n: int, rng: np.random.Generator) -> list[Chunk]:
        """Return n unrelated words, so that whoever reads them must listen and cannot guess."""
        chunks: list[Chunk] = []
        for k in range(n):
            word = self._classes["ANY"].draw(rng)
            chunks.append((word, word))
            if k < n - 1 and rng.random() < 0.06:
                chunks.append((",", ","))
        end = str(rng.choice([".", ".", ".", ".", ".", "?"]))
        return finish([*chunks, (end, end)])

    def _expand(self, symbol: str, rng: np.random.Generator) -> list[Chunk]:
        if symbol in _SPECIAL:
            return _SPECIAL[symbol](rng)
        if symbol in _LISTS:
            word = str(rng.choice(_LISTS[symbol]))
            return [(word, word)]
        if symbol in self._classes:
            word = self._classes[symbol].draw(rng)
            return [(word, word)]
        if symbol not in self._rules:
            return [(symbol, symbol)]
        expansions, cumulative = self._rules[symbol]
        chosen = expansions[int(np.searchsorted(cumulative, rng.random(), side="right"))]
        return [chunk for part in chosen for chunk in self._expand(part, rng)]


def parse(text: str) -> dict[str, tuple[list[list[str]], np.ndarray]]:
    """Read the rules below the opening comment: symbol → (expansions, their cumulative probabilities)."""
    rules: dict[str, tuple[list[list[str]], np.ndarray]] = {}
    _comment, *paragraphs = text.strip().split("\n\n")
    for paragraph in paragraphs:
        symbol, *lines = paragraph.split("\n")
        expansions, weights = [], []
        for line in lines:
            parts = line.split()
            has_weight = parts[0].isdigit()
            weights.append(float(parts[0]) if has_weight else 1.0)
            expansions.append(parts[has_weight:])
        share = np.cumsum(weights) / np.sum(weights)
        share[-1] = 1.0
        rules[symbol] = (expansions, share)
    return rules


def finish(chunks: list[Chunk]) -> list[Chunk]:
    """Attach punctuation, choose a or an, drop a possessive's stray mark, and open with a capital."""
    done: list[Chunk] = []
    for written, spoken in chunks:
        if written == "'":
            continue
        if done and done[-1][0] in ("a", "A") and spoken[0] in "aeio":
            done[-1] = (done[-1][0] + "n", done[-1][1] + "n")
        if written in _PUNCTUATION and done:
            before, said = done[-1]
            # "4 p.m." ends its sentence with the dot that it has.
            done[-1] = (before if before.endswith(written) else before + written, said + written)
        else:
            done.append((written, spoken))
    first_written, first_spoken = done[0]
    done[0] = (first_written[0].upper() + first_written[1:], first_spoken)
    return done
