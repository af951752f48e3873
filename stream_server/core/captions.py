"""Partials of one segment that grow instead of flickering.

LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023): the words that two successive hypotheses
begin with are held to be right, but for the last words of the newer one: they stand where the audio ends,
and a model completes what it has not heard, twice if need be. They are *stable*: no later partial of the
segment shows other words in their place, even where a later hypothesis disagrees, in which case its text is
shown from the same number of words on. A final is what the engine says of the whole segment and is not
bound by partials, since those depend on load and a transcript must not.

Punctuation counts apart from the word before it, see ``core.words``, but a word is not stable before the
punctuation that touches it is: "Michael" that becomes "Michael, can" has changed for whoever reads it.
"""

import re
from collections.abc import Sequence

from stream_server.core.words import TOKEN


class SegmentCaption:
    """The caption of one open segment.

    Args:
        n_held: Words at the end of a hypothesis that do not become stable by it.
    """

    def __init__(self, n_held: int = 0) -> None:
        self._n_held = n_held
        self.revision = 0
        """Of the last partial; 0 before the first."""
        self._tokens: list[str] = []
        self._n_stable = 0
        self._stable_text = ""

    def update(self, hypothesis: str) -> tuple[str, int]:
        """Take the next hypothesis, in the order in which the windows grew.

        Returns:
            The text to show and how many of its leading code points are stable.
        """
        self.revision += 1
        matches = list(TOKEN.finditer(hypothesis))
        tokens = [match.group() for match in matches]
        if (
            hypothesis.startswith(self._stable_text)
            and tokens[: self._n_stable] == self._tokens[: self._n_stable]
        ):
            agreed = min(_common_prefix(self._tokens, tokens), _held_from(tokens, self._n_held))
            agreed = _whole(matches, agreed)
            self._n_stable = max(self._n_stable, agreed)
            self._tokens = tokens
            self._stable_text = hypothesis[: matches[self._n_stable - 1].end()] if self._n_stable else ""
            return hypothesis, len(self._stable_text)
        tail = hypothesis[matches[self._n_stable - 1].end() :] if len(tokens) > self._n_stable else ""
        self._tokens = self._tokens[: self._n_stable] + tokens[self._n_stable :]
        return _join(self._stable_text, tail), len(self._stable_text)


def _join(stable_text: str, tail: str) -> str:
    """Put a space between, where what is stable would otherwise run on into a longer word."""
    text = stable_text + tail
    runs_on = any(match.start() < len(stable_text) < match.end() for match in TOKEN.finditer(text))
    return f"{stable_text} {tail}" if runs_on else text


def _held_from(tokens: list[str], n_held: int) -> int:
    """How many tokens stand before the last ``n_held`` words."""
    words = [i for i, token in enumerate(tokens) if token[0].isalnum()]
    return words[-n_held] if 0 < n_held <= len(words) else 0 if n_held else len(tokens)


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
