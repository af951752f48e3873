"""The first step: sentences, one JSON list of [written, spoken] chunks a line.

Blocks of sentences have a generator each, so an interrupted run goes on with the block that is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import heldout, lexicon, words
from .config import CorpusConfig
from .grammar import Grammar
from .numerals import Chunk
from .progress import tracked
from .words import WordClass

_BLOCK = 2_000


def build(work: Path, config: CorpusConfig) -> Path:
    """Write ``corpus.jsonl``: varied sentences in random order, no two alike, none of the held-out ones."""
    path = work / "corpus.jsonl"
    if path.exists():
        return path
    work.mkdir(parents=True, exist_ok=True)
    blocks = -(-config.n_sentences // _BLOCK)
    seen = {_key(s) for s in (*heldout.free_sentences(), *heldout.figure_sentences())}
    grammar = Grammar(word_classes(config))
    partial = path.with_suffix(".part")
    with partial.open("w") as file:
        for block in tracked(range(blocks), "corpus", total=blocks):
            n = min(_BLOCK, config.n_sentences - block * _BLOCK)
            for sentence in _block(grammar, config, block, n, seen):
                file.write(json.dumps(sentence, separators=(",", ":")) + "\n")
    os.replace(partial, path)
    return path


def read(work: Path) -> list[list[Chunk]]:
    """Return the sentences; the corpus step must have run."""
    with (work / "corpus.jsonl").open() as file:
        return [[(written, spoken) for written, spoken in json.loads(line)] for line in file]


def word_classes(config: CorpusConfig) -> dict[str, WordClass]:
    """Return the open word classes, from the frequency list or, for smoke runs, from a handful of words."""
    if config.n_words:
        return words.by_class(words.frequent_words(config.n_words))
    few = {
        "NN": "house river meeting", "NNS": "houses rivers", "VB": "see move", "VBZ": "sees moves",
        "VBD": "saw moved", "VBG": "seeing moving", "VBN": "seen moved", "JJ": "green old",
        "RB": "slowly often",
        "ANY": " ".join(lexicon.FUNCTION_WORDS[:60]),
    }  # fmt: skip
    return {tag: WordClass.of(dict.fromkeys(line.split(), 1.0)) for tag, line in few.items()}


def _block(
    grammar: Grammar, config: CorpusConfig, block: int, n: int, seen: set[str]
) -> Iterator[list[Chunk]]:
    """Yield n new sentences; after many repeats in a row (a small word list) repeats are let through."""
    rng = np.random.default_rng([config.seed, block])
    repeats = 0
    while n:
        sentence = _sentence(grammar, config, rng)
        if _key(sentence) in seen and repeats < 100:
            repeats += 1
            continue
        seen.add(_key(sentence))
        repeats, n = 0, n - 1
        yield sentence


def _sentence(grammar: Grammar, config: CorpusConfig, rng: np.random.Generator) -> list[Chunk]:
    kind = rng.random()
    if kind < config.share_short:
        return grammar.random_words(int(rng.integers(1, 4)), rng)
    if kind < config.share_short + config.share_random:
        return grammar.random_words(int(rng.integers(3, 13)), rng)
    if kind < config.share_short + config.share_random + config.share_template:
        return grammar.sentence("TEMPLATE", rng)
    return grammar.sentence("FREE", rng)


def _key(sentence: list[Chunk]) -> str:
    return " ".join(written for written, _ in sentence).lower()
