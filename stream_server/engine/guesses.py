"""What a row may say next, for its pass to check: one run of tokens, and single tokens beside it.

A run is fed behind what is known, and the pass predicts the token after each of its places. A branch is one
token that stands in the place of a token of the run, or behind the run: it attends to what stands before its
place and to itself, so that the pass predicts what follows where the run is left for it. Three kinds of
tokens are worth a branch: marks that close a sentence, for the end of the text then comes in the same pass;
what was predicted there before; and the probe, a token that no model says and that none was trained to
read. What is predicted after the probe has heard the audio that follows a token not known yet, and is the
token after it in two cases of five.

Whatever is guessed, what comes out is what greedy decoding finds: a guess costs places of a pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whisper.tokenizer import Tokenizer

_CLOSING_MARKS = (".", "?", "!", "...", "。", "？", "！")
_LEFT_OUT_MAX = 4
"""How far behind the place where a row departs from its guess it is found again: further on, the same token
is more often another word."""


@dataclass(frozen=True, slots=True)
class Cues:
    """The tokens of a vocabulary that are worth a guess without a draft."""

    full_stop: int
    question_mark: int
    marks: frozenset[int]
    """Tokens with which sentences end."""
    probe: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Cues":
        """Those of whisper's vocabulary."""
        encoded = {mark: tokenizer.encode(mark) for mark in _CLOSING_MARKS}
        marks = frozenset(tokens[0] for tokens in encoded.values() if len(tokens) == 1)
        return cls(encoded["."][0], encoded["?"][0], marks, tokenizer.sot_lm)

    def closing(self, draft: Sequence[int]) -> int:
        """The token before the end: the draft's, unless it broke off within a sentence."""
        return draft[-1] if draft and draft[-1] in self.marks else self.full_stop


@dataclass(frozen=True, slots=True)
class Branch:
    """One token beside a run."""

    place: int
    """How many tokens of the run stand before it."""
    token: int


def branches_of(
    run: Sequence[int], cues: Cues, closing: int, hint: int | None, *, is_draft: bool
) -> Iterator[Branch]:
    """The branches that are worth their places, the best ones first.

    Args:
        run: What is guessed.
        cues: Of the vocabulary.
        closing: The mark that most likely ends the text.
        hint: What else may come instead of the first token of the run.
        is_draft: The run is the hypothesis before, of which the end is in doubt; otherwise its beginning is.
    """
    places = [len(run) - 1, len(run)] if is_draft and run else [0, 1]
    other = cues.full_stop if closing == cues.question_mark else cues.question_mark
    for place in places:
        if place > len(run):
            return
        first = () if hint is None or place > 0 else (hint,)
        for token in dict.fromkeys((*first, closing, cues.probe, other)):
            if run[place : place + 1] != [token]:
                yield Branch(place, token)


def continuations(
    token: int, rest: Sequence[int], predicted: Sequence[int], probed: int, cues: Cues
) -> list[Sequence[int]]:
    """What may follow ``token``, which came instead of the first of ``rest``; the likeliest first.

    Args:
        token: Said last.
        rest: The run from there on.
        predicted: What comes after each of ``rest``. Though a token before was wrong, this has heard the
            audio and is right more often than the draft. If ``token`` stands a little further on in ``rest``,
            what is between was left out, and it is read from there.
        probed: What comes after the probe in the place of ``token``.
        cues: Of the vocabulary.
    """
    if not rest or (len(rest) == 1 and rest[0] in cues.marks):
        # After a mark that was wrong the end was predicted, or another sentence.
        return [[probed]]
    n_left_out = rest.index(token) if token in rest[:_LEFT_OUT_MAX] else 0
    ways = [predicted[n_left_out:], [probed]]
    return ways[::-1] if rest[0] in cues.marks else ways
