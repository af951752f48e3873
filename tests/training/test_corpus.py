"""Sentences: figures are spoken as people read them, punctuation and capitals are in their place."""

import numpy as np
import pytest

from training.demo_en import corpus, heldout, numerals
from training.demo_en.config import smoke_corpus
from training.demo_en.grammar import RULES, Grammar, finish, parse


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (817, "eight hundred seventeen"),
        (1200, "one thousand two hundred"),
        (90_000, "ninety thousand"),
    ],
)
def test_numbers_are_spelled_as_they_are_read(n, words):
    assert numerals.spell(n) == words


@pytest.mark.parametrize(
    ("n", "chunk"),
    [
        (1, ("1st", "first")),
        (2, ("2nd", "second")),
        (11, ("11th", "eleventh")),
        (12, ("12th", "twelfth")),
        (20, ("20th", "twentieth")),
        (23, ("23rd", "twenty third")),
    ],
)
def test_ordinals_carry_the_right_suffix(n, chunk):
    assert numerals.ordinal_of(n) == chunk


@pytest.mark.parametrize(
    ("chunks", "text", "spoken"),
    [
        ([("a", "a"), ("apple", "apple"), (".", ".")], "An apple.", "an apple."),
        ([("at", "at"), ("p.m.", "p m"), (".", ".")], "At p.m.", "at p m."),
        ([("the", "the"), ("dogs", "dogs"), ("'", "'"), ("?", "?")], "The dogs?", "the dogs?"),
    ],
)
def test_a_sentence_is_finished(chunks, text, spoken):
    done = finish(chunks)
    assert " ".join(written for written, _ in done) == text
    assert " ".join(said for _, said in done) == spoken


def test_every_symbol_in_the_rules_has_an_expansion():
    grammar = Grammar(corpus.word_classes(smoke_corpus()))
    rng = np.random.default_rng(0)
    symbols = {part for expansions, _ in parse(RULES.read_text()).values() for e in expansions for part in e}
    for symbol in sorted(s for s in symbols if s.isupper() and s not in ("I", "ID")):
        assert [w for w, _ in grammar.sentence(symbol, rng)] != [symbol]


def test_the_same_seed_gives_the_same_corpus_and_no_held_out_sentence(tmp_path):
    first = corpus.build(tmp_path / "a", smoke_corpus()).read_text()
    assert first == corpus.build(tmp_path / "b", smoke_corpus()).read_text()
    sentences = {" ".join(w for w, _ in s) for s in corpus.read(tmp_path / "a")}
    assert len(corpus.read(tmp_path / "a")) == smoke_corpus().n_sentences
    assert sentences.isdisjoint(" ".join(w for w, _ in s) for s in heldout.free_sentences())
