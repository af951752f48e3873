"""How much of what a reader has seen is taken back; pure.

The texts of a segment are its partials in the order they came, then its final. When one text replaces
another, the words that both begin with stay; every word of the old text after those is changed, since
it is drawn anew, moved or gone. Words are compared as they are shown, with case and punctuation: a
reader sees those change too. Words that are only added change nothing.

Flicker is the number of changed words per word of the finals: the *normalized erasure* of Arivazhagan
et al., "Re-translation versus Streaming for Simultaneous Translation" (IWSLT 2020), section 3.3.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from stream_server.dialects.schema import FinalEvent, PartialEvent


@dataclass(frozen=True, slots=True)
class Flicker:
    """Words changed, and what they are compared with; adds up over recordings."""

    changed: int = 0
    final_words: int = 0

    @property
    def rate(self) -> float | None:
        """Changed words per word of the finals; None where the finals have none."""
        return self.changed / self.final_words if self.final_words else None

    def __add__(self, other: "Flicker") -> "Flicker":
        """The sum."""
        return Flicker(self.changed + other.changed, self.final_words + other.final_words)


def measure_flicker(texts: Sequence[Sequence[str]]) -> Flicker:
    """Count changed words.

    Args:
        texts: For each segment its partials in the order they were shown, then its final.
    """
    changed = sum(_changed(old.split(), new.split()) for shown in texts for old, new in pairwise(shown))
    return Flicker(changed, sum(len(shown[-1].split()) for shown in texts if shown))


def _changed(old: Sequence[str], new: Sequence[str]) -> int:
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    return len(old) - kept


def shown_texts(partials: Sequence[PartialEvent], finals: Sequence[FinalEvent]) -> list[list[str]]:
    """The texts of each segment that has a final, as ``measure_flicker`` takes them."""
    by_segment: dict[int, list[str]] = defaultdict(list)
    for partial in partials:
        by_segment[partial.segment].append(partial.text)
    return [[*by_segment[final.segment], final.text] for final in finals]
