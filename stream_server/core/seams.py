"""Joins what two windows say where running speech was cut for its length.

The windows overlap there, unless nobody speaks at the cut, so that a word beside it is whole in at least one
of them. Rules:

1. The *seam* is a border of words by the left window's times. Words before it are the left window's, words
   behind it the right one's. It stands where fewest words of the overlap are likely to be wrong, as far as
   the left window knows: how sure it is of each of them, and which of them one of the windows may hear in
   part. Else it is near the middle. It is chosen from the left window alone: a final never waits for the
   segment after it, and says nothing that the next one would take back.
2. Which words of the right window stand behind the seam is told by the words that both say at about the same
   time, and where there are none by times: a word is where its middle is.
3. A window without words takes nothing from its neighbour. Left: the seam is where the right one begins.
   Right: the words that the left one heard behind the seam stand in for it.

So each word no longer than the overlap comes once, from a window that holds all of it. Times are good to
some 0.1 s; where both windows say the same words near the seam, they need not be better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from stream_server.core.finals import FinalQueue, PendingFinal
from stream_server.core.jobs import DecodeResult
from stream_server.core.messages import Word
from stream_server.core.words import TOKEN

NEAR_SAMPLES = 6_400
"""0.4 s: two windows' times of one word mostly differ by less, and a word is seldom said again so soon."""

EDGE_SAMPLES = 2_400
"""0.15 s: a word this near to the edge of a window may reach over it."""
WRONG = 0.2
"""How often a word is wrong that nothing is known of: what the right window will say, and the left one says
without telling how sure it is. Between 0.1 and 0.3 it makes no difference (``benchmarks.seams``)."""
WRONG_PER_SAMPLE = 3e-6
"""Times are less certain far from the middle; decides between borders that are else alike."""


@dataclass(frozen=True, slots=True)
class Seam:
    """Where one window's words end and those of the next begin."""

    at: int
    """Position in the session, samples; within the overlap."""
    shared: tuple[Word, ...]
    """The left window's words that reach into the overlap."""
    n_before: int
    """How many of them stand before the seam."""
    language: str | None
    """Of the left window."""

    @property
    def again(self) -> str:
        """The end of the text before the seam that the next window hears, too."""
        return "".join(word.text for word in self.shared[: self.n_before])

    def behind(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """The words behind the seam, given those of the right window."""
        kept = words[self._first_behind(words) :] if words else self.shared[self.n_before :]
        return _unspaced(kept)

    def _first_behind(self, words: Sequence[Word]) -> int:
        # The last word before the seam may end behind it, where a word is longer than the overlap.
        until = max([self.at, *(word.end for word in self.shared[: self.n_before])])
        by_time = next((i for i, word in enumerate(words) if _middle(word) >= until), len(words))
        common = _common(self.shared, words)
        if common is None:
            return by_time
        left, right, length = common
        if self.n_before < left:
            return min(by_time, right)
        if self.n_before > left + length:
            return max(by_time, right + length)
        return right + self.n_before - left


class Joins:
    """Where the windows of one session begin, and what is left of their readings as its finals leave."""

    def __init__(self) -> None:
        self.seam: Seam | None = None
        """Behind the last final that left; None if the next one begins an utterance or is not joined."""
        self._is_joined = False
        self._cut_at: int | None = None
        """Where the open segment was cut from the one before, samples."""

    def begin_utterance(self, *, is_joined: bool) -> None:
        """An utterance begins; its segments are joined or stand side by side."""
        self._is_joined = is_joined
        self._cut_at = None

    def final_start(self, segment_start: int) -> int:
        """Where the window of the open segment's final begins; a segment overlaps with the one before."""
        is_apart = self._cut_at is not None and not self._is_joined
        return self._cut_at if is_apart and self._cut_at is not None else segment_start

    def partial_start(self, segment_start: int, finals: FinalQueue) -> int | None:
        """Where that of a partial begins; None while the seam before it is not known.

        Args:
            segment_start: Of the open segment.
            finals: Those that have not left.
        """
        if self._cut_at is None or not self._is_joined:
            return self.final_start(segment_start)
        return None if len(finals) or self.seam is None else self.seam.at

    def needs_times(self, *, is_cut: bool) -> bool:
        """Whether the times of the open segment's words are needed, if it closes with or without a cut."""
        return self._is_joined and (self._cut_at is not None or is_cut)

    def close(self, segment: PendingFinal, *, is_cut: bool, next_start: int) -> None:
        """The open segment has closed.

        Args:
            segment: Is told where the next window begins, if they are to be joined.
            is_cut: Whether running speech goes on behind it.
            next_start: Where the next segment begins then.
        """
        self._cut_at = segment.end if is_cut else None
        if is_cut and self._is_joined:
            segment.next_start = next_start

    def join(self, segment: PendingFinal, result: DecodeResult) -> DecodeResult:
        """What is left of a segment's reading between the seams before and behind it."""
        before, self.seam = self.seam, None
        if before is None and segment.next_start is None:
            return result
        words, start, end, language = _words_of(result), result.start, result.end, result.language
        if before is not None:
            words, start = before.behind(words), before.at
            language = language if result.text else before.language
        if segment.next_start is not None:
            words, self.seam = split(words, segment.next_start, end, language)
            end = self.seam.at
        text = "".join(word.text for word in words)
        words = tuple(_within(word, start, end) for word in words)
        return replace(result, start=start, end=end, text=text, words=words, language=language)


def _within(word: Word, start: int, end: int) -> Word:
    """The word at a time that its final covers: by the other window's times it may be a little off."""
    first = min(max(word.start, start), end)
    return replace(word, start=first, end=max(first, min(word.end, end)))


def _words_of(result: DecodeResult) -> tuple[Word, ...]:
    """Its words; a text that the engine has no times for is one word of its window."""
    if result.words or not result.text:
        return result.words
    return (Word(result.text, result.start, result.end),)


def split(
    words: Sequence[Word], overlap_start: int, cut: int, language: str | None
) -> tuple[tuple[Word, ...], Seam]:
    """The words before the seam, and the seam.

    Args:
        words: The left window's, in order.
        overlap_start: Where the right window begins, samples.
        cut: Where the left one ends.
        language: Of the words.
    """
    n_before, at = _best_border(words, overlap_start, cut)
    first = next((i for i, word in enumerate(words) if word.end > overlap_start), len(words))
    # A word without length may stand where the overlap begins.
    first = min(first, n_before)
    return tuple(words[:n_before]), Seam(at, tuple(words[first:]), n_before - first, language)


def _best_border(words: Sequence[Word], overlap_start: int, cut: int) -> tuple[int, int]:
    """How many words stand before it, and where it is."""
    middle = (overlap_start + cut) // 2

    def n_wrong(n_before: int, at: int) -> float:
        left = (_left_wrong(word, cut) for word in words[:n_before] if word.end > overlap_start)
        right = (_right_wrong(word, overlap_start) for word in words[n_before:])
        return round(sum(left) + sum(right) + WRONG_PER_SAMPLE * abs(at - middle), 6)

    borders = [
        (n_wrong(n_before, at), n_before, at)
        for n_before, at in enumerate(_borders(words))
        if overlap_start <= at <= cut
    ]
    if borders:
        _, n_before, at = min(borders)
        return n_before, at
    # One word, or none, takes up the whole overlap. Only the left window can have heard its beginning.
    n_before = sum(word.start < middle for word in words)
    return n_before, min(cut, max([overlap_start, *(word.end for word in words[:n_before])]))


def _left_wrong(word: Word, cut: int) -> float:
    """How likely a word is wrong as the left window says it."""
    if word.end > cut - EDGE_SAMPLES:
        return 1.0
    return WRONG if word.probability is None else 1 - word.probability


def _right_wrong(word: Word, overlap_start: int) -> float:
    """How likely a word that the left window heard there will be wrong as the right one says it."""
    return 1.0 if word.start < overlap_start + EDGE_SAMPLES else WRONG


def _borders(words: Sequence[Word]) -> list[int]:
    """Before the first word, in the middle between any two, and behind the last."""
    if not words:
        return []
    inner = [(one.end + other.start) // 2 for one, other in pairwise(words)]
    return [words[0].start, *inner, words[-1].end]


def _common(left: Sequence[Word], right: Sequence[Word]) -> tuple[int, int, int] | None:
    """The run of equal words that agrees best in time: where it begins in both, and its length."""
    best: tuple[int, int, int] | None = None
    best_agreement = 0
    for i in range(len(left)):
        for j in range(len(right)):
            n_words = agreement = 0
            for one, other in zip(left[i:], right[j:], strict=False):
                apart = abs(_middle(one) - _middle(other))
                if apart >= NEAR_SAMPLES or not _said(one) or _said(one) != _said(other):
                    break
                n_words += 1
                # Not the number of words alone: of "no no no", a shifted run may be the longer one.
                agreement += NEAR_SAMPLES - apart
            if agreement > best_agreement:
                best, best_agreement = (i, j, n_words), agreement
    return best


def _said(word: Word) -> str:
    """The word without case and punctuation."""
    return "".join(token.casefold() for token in TOKEN.findall(word.text) if token[0].isalnum())


def _middle(word: Word) -> int:
    return (word.start + word.end) // 2


def _unspaced(words: Sequence[Word]) -> tuple[Word, ...]:
    """The same as a text of their own, which begins without a space."""
    return (replace(words[0], text=words[0].text.lstrip()), *words[1:]) if words else ()
