"""Wrong words and characters, counted so that counts of many recordings can be added; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, slots=True)
class Counts:
    """Errors against a reference; an error is a substitution, a deletion or an insertion."""

    words: int = 0
    """Of the reference."""
    word_errors: int = 0
    characters: int = 0
    """Of the reference."""
    character_errors: int = 0
    invented_words: int = 0
    """Those of ``word_errors`` that were read where nobody speaks."""

    @property
    def wer(self) -> float | None:
        """Wrong words per word; None without words to compare with."""
        return self.word_errors / self.words if self.words else None

    @property
    def cer(self) -> float | None:
        """Wrong characters per character; None without any to compare with."""
        return self.character_errors / self.characters if self.characters else None


def count_errors(reference: str, hypothesis: str) -> Counts:
    """Compare two normalised texts; the reference has at least one word."""
    by_word = jiwer.process_words(reference, hypothesis)
    by_character = jiwer.process_characters(reference, hypothesis)
    return Counts(
        words=by_word.hits + by_word.substitutions + by_word.deletions,
        word_errors=by_word.substitutions + by_word.deletions + by_word.insertions,
        characters=by_character.hits + by_character.substitutions + by_character.deletions,
        character_errors=by_character.substitutions + by_character.deletions + by_character.insertions,
    )


def count_invented(hypothesis: str) -> Counts:
    """Count what was read, a normalised text, where nobody speaks: all of it is inserted."""
    n_words = len(hypothesis.split())
    return Counts(word_errors=n_words, character_errors=len(hypothesis), invented_words=n_words)


def pool(counts: Iterable[Counts]) -> Counts:
    """The sum: every word weighs the same, in whatever recording it stands."""
    total = Counts()
    for one in counts:
        total = Counts(
            total.words + one.words,
            total.word_errors + one.word_errors,
            total.characters + one.characters,
            total.character_errors + one.character_errors,
            total.invented_words + one.invented_words,
        )
    return total
