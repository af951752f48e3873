"""How long after a word was spoken it is first shown; pure.

Partial latency of a word: arrival of the first partial or final that shows it, minus the word's end in
the reference. Which words a text shows is found by aligning it with the reference words of the time it
covers, so that a "the" of another sentence is not taken for this one. Words are compared without case
and punctuation. A word that is never shown as it was said has no latency; error rates count it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from stream_server.client.latency import Arrival
from stream_server.dialects.schema import FinalEvent, PartialEvent


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of the reference, and when it was said."""

    text: str
    start_s: float
    end_s: float


Shown = Arrival[PartialEvent] | Arrival[FinalEvent]


def word_latencies_s(words: Sequence[SpokenWord], shown: Iterable[Shown]) -> list[float | None]:
    """Latency of each word, None where it was never shown.

    Args:
        words: In the order they were said.
        shown: In any order; times as for ``words``.
    """
    plain = [plain_word(word.text) for word in words]
    first_s: list[float | None] = [None] * len(words)
    for one in sorted(shown, key=lambda arrival: arrival.at_s):
        begin, end = _covered(words, one.event.start, one.event.end)
        texts = [plain_word(text) for text in one.event.text.split()]
        for block in SequenceMatcher(None, plain[begin:end], texts, autojunk=False).get_matching_blocks():
            for i in range(begin + block.a, begin + block.a + block.size):
                first_s[i] = one.at_s if first_s[i] is None else first_s[i]
    return [None if at_s is None else at_s - word.end_s for word, at_s in zip(words, first_s, strict=True)]


def _covered(words: Sequence[SpokenWord], start_s: float, end_s: float) -> tuple[int, int]:
    """The range of the words of which at least a part lies in a window."""
    inside = [i for i, word in enumerate(words) if word.start_s < end_s and word.end_s > start_s]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def plain_word(word: str) -> str:
    """A word without case and punctuation; empty for punctuation alone."""
    return re.sub(r"[^\w']", "", word.casefold())
