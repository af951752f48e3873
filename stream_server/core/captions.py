"""Partials of one segment that grow instead of flickering.

LocalAgreement (Liu et al. 2020; Macháček et al. 2023): the words that successive hypotheses begin with are
held to be right. Two that agree are enough where the newer one is sure of the word; else four must: where
the audio ends within a word a model completes what it has not heard, twice if need be, but seldom with much
probability, and where it cannot make out a word it goes on guessing. Such words are *stable*: no later
partial of the segment shows other words in their place, even where a later hypothesis disagrees, in which
case its text is shown from the same number of words on. A final is what the engine says of the whole segment
and is not bound by partials, since those depend on load and a transcript must not.

Where running speech was cut, partials may have shown more than the final says: its words end at the seam
(``core.seams``), a second or more before the place that was heard. The next segment's caption begins with
the rest, so that nobody sees words go and come back: what was stable stays so, and the rest is a hypothesis
for the next one to agree with.

Punctuation counts apart from the word before it, see ``core.words``, but a word is not stable before the
punctuation that touches it is: "Michael" that becomes "Michael, can" has changed for whoever reads it.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from stream_server.core.words import TOKEN

HYPOTHESES_ENOUGH = 4
"""By default, to make a word stable that they are unsure of."""
SHIFT_WORDS_MAX = 2
"""A final and a partial of the same speech that differ by more words before a place say nothing of it."""


class SegmentCaption:
    """The caption of one open segment.

    Args:
        sure: The least probability of a word that two hypotheses make stable, 0 to 1.
        enough: So many hypotheses that agree make a word stable, however unsure they are of it.
    """

    def __init__(self, sure: float = 0.0, enough: int = HYPOTHESES_ENOUGH) -> None:
        self._sure = sure
        self._enough = enough
        self.revision = 0
        """Of the last partial; 0 before the first."""
        self._tokens: list[str] = []
        self._counts: list[int] = []
        """How many hypotheses in a row have begun with the text up to each token."""
        self._n_stable = 0
        self._stable_text = ""
        self._text = ""

    @property
    def shown(self) -> tuple[str, int]:
        """The text to show and how many of its leading code points are stable."""
        return self._text, len(self._stable_text)

    def behind(self, said: str) -> "SegmentCaption":
        """The caption of the next segment, with what this one shows behind the end of its final.

        Args:
            said: The final's text; may differ from what was shown before its end.
        """
        following = SegmentCaption(self._sure, self._enough)
        start = _end_of(said, self._text)
        if start is None:
            return following
        following.revision = 1
        following._text = self._text[start:]
        following._stable_text = self._stable_text[start:]
        following._tokens = TOKEN.findall(following._text)
        following._counts = [1] * len(following._tokens)
        following._n_stable = len(TOKEN.findall(following._stable_text))
        return following

    def update(self, hypothesis: str, probabilities: Sequence[float] = ()) -> tuple[str, int]:
        """Take the next hypothesis, in the order in which the windows grew.

        Args:
            hypothesis: What the model says of the segment so far.
            probabilities: Of each ``core.words.TOKEN`` in it, 0 to 1; empty if nobody knows.

        Returns:
            The text to show and how many of its leading code points are stable.
        """
        self.revision += 1
        self._text = self._follow(hypothesis, probabilities)
        return self.shown

    def _follow(self, hypothesis: str, probabilities: Sequence[float]) -> str:
        """The text to show when this hypothesis comes."""
        matches = list(TOKEN.finditer(hypothesis))
        tokens = [match.group() for match in matches]
        n_stable = self._n_stable
        agrees = hypothesis.startswith(self._stable_text) and tokens[:n_stable] == self._tokens[:n_stable]
        shown = tokens if agrees else self._tokens[:n_stable] + tokens[n_stable:]
        n_common = _common_prefix(self._tokens, shown)
        self._counts = [count + 1 for count in self._counts[:n_common]] + [1] * (len(shown) - n_common)
        self._tokens = shown
        if agrees:
            self._n_stable = max(n_stable, _whole(matches, self._n_agreed(probabilities)))
            self._stable_text = hypothesis[: matches[self._n_stable - 1].end()] if self._n_stable else ""
            return hypothesis
        tail = hypothesis[matches[n_stable - 1].end() :] if len(tokens) > n_stable else ""
        return _join(self._stable_text, tail)

    def _n_agreed(self, probabilities: Sequence[float]) -> int:
        """How many of the first tokens enough hypotheses agree on, the last of which was so sure of them."""
        for place, count in enumerate(self._counts):
            probability = probabilities[place] if place < len(probabilities) else 0.0
            if count == 1 or (count < self._enough and probability < self._sure):
                return place
        return len(self._counts)


def _end_of(said: str, text: str) -> int | None:
    """Where the word begins that follows what was said, in a text of the same speech; None if none does."""
    words = [match for match in TOKEN.finditer(text) if match.group()[0].isalnum()]
    told = [token.casefold() for token in TOKEN.findall(said) if token[0].isalnum()]
    heard = [match.group().casefold() for match in words]
    *blocks, _ = SequenceMatcher(None, told, heard, autojunk=False).get_matching_blocks()
    shift = blocks[-1].b - blocks[-1].a if blocks else None
    if shift is None or abs(shift) > SHIFT_WORDS_MAX or len(told) + shift >= len(words):
        return None
    # Words at the end of what was said that the text does not have stand for as many that it has.
    return words[len(told) + shift].start()


def _join(stable_text: str, tail: str) -> str:
    """Put a space between, where what is stable would otherwise run on into a longer word."""
    text = stable_text + tail
    runs_on = any(match.start() < len(stable_text) < match.end() for match in TOKEN.finditer(text))
    return f"{stable_text} {tail}" if runs_on else text


def _whole(matches: Sequence[re.Match[str]], n_tokens: int) -> int:
    """How many of the first tokens are left when they must not end beside punctuation that touches them."""
    while 0 < n_tokens < len(matches) and matches[n_tokens - 1].end() == matches[n_tokens].start():
        last, following = matches[n_tokens - 1].group(), matches[n_tokens].group()
        if last[0].isalnum() and following[0].isalnum():
            break  # Of a script without spaces.
        n_tokens -= 1
    return n_tokens


def _common_prefix(one: list[str], other: list[str]) -> int:
    n = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        n += 1
    return n
