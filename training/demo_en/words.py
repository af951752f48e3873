"""The most frequent English words, sorted into the word classes that the grammar needs.

Frequencies come from the package ``wordfreq`` (code Apache-2.0, data CC BY-SA 4.0), word classes from
``lemminflect`` (MIT); both serve only while the corpus is built and nothing of them is stored here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from . import lexicon

# Rare words must be heard often enough to be learned: frequencies are flattened, freq ** FLATTEN.
FLATTEN = 0.35
# Within the grammar the usual words come more often, as they do in speech.
FLATTEN_IN_CLASS = 0.6
_SPEAKABLE = re.compile(r"(?=.*[aeiouy])[a-z]{2,}(n't|'(s|re|ve|ll|d|m))?$")
_CAPITALISED = {
    w.lower(): w
    for w in (
        *lexicon.FIRST_NAMES,
        *lexicon.SURNAMES,
        *lexicon.PLACES,
        *lexicon.PEOPLES,
        *lexicon.DAYS,
        *lexicon.MONTHS,
    )
}
# Names that are first of all common words keep their small letter.
_COMMON_ALL_THE_SAME = frozenset(
    """
    mark rose grace frank jack bob king young white green brown baker cook bell ward wood price reed foster
    fisher carter turner walker hill cole moore cooper may march ford gray scott max dan sue west
    turkey china
    """.split()
)


class MissingPackage(RuntimeError):
    """A package that only the corpus step needs is not installed."""


@dataclass(frozen=True, slots=True)
class WordClass:
    """Words of one class and the probability of each; draws are seeded by the caller."""

    words: tuple[str, ...]
    cumulative: np.ndarray
    """float64 (n,), the last entry is 1."""

    @classmethod
    def of(cls, weighted: dict[str, float]) -> WordClass:
        """Make a class from word → weight; weights need not sum to one."""
        weights = np.array(list(weighted.values()), dtype=np.float64)
        return cls(tuple(weighted), np.cumsum(weights / weights.sum()))

    def draw(self, rng: np.random.Generator) -> str:
        """Return one word."""
        at = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        return self.words[min(at, len(self.words) - 1)]


def frequent_words(n: int) -> dict[str, float]:
    """Return the n most frequent speakable English words, cased, with flattened weights."""
    try:
        from wordfreq import top_n_list, word_frequency  # type: ignore[import-not-found]  # corpus step only
    except ImportError as error:
        raise MissingPackage("the corpus step needs: pip install -r training/requirements.txt") from error
    function_words = set(lexicon.FUNCTION_WORDS)
    chosen: dict[str, float] = {}
    for word in top_n_list("en", 4 * n):
        if word in lexicon.NOT_SPOKEN or not (word in function_words or _is_english(word)):
            continue
        chosen[_cased(word)] = word_frequency(word, "en") ** FLATTEN
        if len(chosen) == n:
            break
    return chosen


def by_class(words: dict[str, float]) -> dict[str, WordClass]:
    """Sort words into Penn Treebank classes (NN, NNS, VB, VBZ, VBD, VBG, VBN, JJ, RB), plus ANY for all."""
    classes: dict[str, dict[str, float]] = {"ANY": dict(words)}
    function_words = set(lexicon.FUNCTION_WORDS)
    for word, weight in words.items():
        if word in function_words or word[0].isupper():
            continue
        for tag in _tags(word):
            classes.setdefault(tag, {})[word] = weight ** (FLATTEN_IN_CLASS / FLATTEN)
    return {tag: WordClass.of(members) for tag, members in classes.items()}


def _cased(word: str) -> str:
    if word == "i" or word.startswith("i'"):
        return word.capitalize()
    return word if word in _COMMON_ALL_THE_SAME else _CAPITALISED.get(word, word)


def _is_english(word: str) -> bool:
    if word in _CAPITALISED:
        return True
    return bool(_SPEAKABLE.match(word)) and "'" not in word and bool(_lemmas(word))


def _lemmas(word: str) -> dict[str, tuple[str, ...]]:
    try:
        from lemminflect import getAllLemmas  # type: ignore[import-not-found]  # corpus step only
    except ImportError as error:
        raise MissingPackage("the corpus step needs: pip install -r training/requirements.txt") from error
    return dict(getAllLemmas(word))


def _tags(word: str) -> list[str]:
    """Return the classes a word may stand in, the less usual readings of frequent nouns included."""
    from lemminflect import getAllInflections

    found: list[str] = []
    for part, lemmas in _lemmas(word).items():
        for lemma in lemmas:
            for tag, forms in getAllInflections(lemma, upos=part).items():
                if word in forms and tag in _WANTED and not (tag == "NNS" and word == lemma):
                    found.append(tag)
    if "VBD" in found and word.endswith("ed"):  # a regular participle is listed as past tense only
        found.append("VBN")
    return list(dict.fromkeys(found))


_WANTED = frozenset({"NN", "NNS", "VB", "VBZ", "VBD", "VBG", "VBN", "JJ", "RB"})
