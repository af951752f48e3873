"""Partials of one segment that grow instead of flickering.

LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023): the words that two successive hypotheses
begin with are held to be right. They are *stable*: no later partial of the segment shows other
words in their place, even where a later hypothesis disagrees, in which case its text is shown from
the same number of words on. A final is what the engine says of the whole segment and is not bound
by partials, since those depend on load and a transcript must not.

Punctuation counts apart from the word before it, see ``core.words``: "Michael." and "Michael, can" agree
on the word.
"""

from stream_server.core.words import TOKEN


class SegmentCaption:
    """The caption of one open segment."""

    def __init__(self) -> None:
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
            self._n_stable = _common_prefix(self._tokens, tokens)
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


def _common_prefix(one: list[str], other: list[str]) -> int:
    n = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        n += 1
    return n
