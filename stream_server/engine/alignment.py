"""When each word was said: the path of a text through the audio that its cross-attention shows.

The method is whisper's (``whisper.timing.find_alignment``): the text is fed once more, the attention of the
model's alignment heads to the audio is normalised and smoothed, and dynamic time warping finds the path.
Punctuation then joins the word it stands at, as in ``whisper.timing.merge_punctuations``. What whisper does
afterwards to words at the ends of long sentences is left out: windows are segments that the VAD has cut.
Texts of a batch are fed together; each is aligned within its own audio.

Shapes: B rows, T audio positions (20 ms each), L tokens, H alignment heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

POSITION_S = 0.02
"""Length of an audio position."""
_SMOOTHING = 7
"""Width of the median filter over audio positions, as in whisper."""
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its time in the window."""

    text: str
    """With the space before it and its punctuation."""
    start_s: float
    end_s: float


def time_words(
    attention: Tensor, words: Sequence[str], n_tokens: Sequence[int], n_positions: int
) -> list[TimedWord]:
    """Find when the words of one row were said.

    Args:
        attention: float32 (H, L, T), scores before the softmax, of the places from which whisper reads the
            path: the prompt's, without the text before, then each token's, then the end's.
        words: The text in pieces, as whisper's tokenizer splits it; joined they are the text.
        n_tokens: Of each piece.
        n_positions: Audio positions of the window's own audio, without its padding.

    Returns:
        The words, punctuation joined; none if there is neither text nor audio.
    """
    if not words or n_positions == 0:
        return []
    n_prompt = attention.shape[1] - sum(n_tokens) - 1
    cost = _cost(attention[:, :, :n_positions], n_prompt)
    firsts = _first_positions(cost)
    # Where the token after the last one begins, the last word ends.
    bounds = [int(firsts[i]) * POSITION_S for i in np.cumsum([0, *n_tokens])]
    timed = [
        TimedWord(word, start, end) for word, start, end in zip(words, bounds[:-1], bounds[1:], strict=True)
    ]
    return _join_punctuation(timed)


def _cost(attention: Tensor, n_prompt: int) -> NDArray[np.float64]:
    """(L', T): how badly each token, the end included, goes with each position."""
    weights = attention.float().softmax(dim=-1)
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    weights = _smooth((weights - mean) / deviation)
    # The place that predicts a token is the one before it: the last of the prompt stands for the first.
    cost: NDArray[np.float64] = -weights.mean(dim=0)[n_prompt - 1 : -1].double().cpu().numpy()
    return cost


def _smooth(weights: Tensor) -> Tensor:
    """The median over ``_SMOOTHING`` positions, mirrored at the ends."""
    margin = _SMOOTHING // 2
    if weights.shape[-1] <= margin:
        return weights
    padded = F.pad(weights, (margin, margin), mode="reflect")
    return padded.unfold(-1, _SMOOTHING, 1).median(dim=-1).values


def _first_positions(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """(L,): the first position of each token on the cheapest monotone path through cost (L, T).

    Steps go to the next token, the next position, or both. The matrix is filled along its diagonals,
    whose places do not depend on each other; ties are decided as whisper decides them.
    """
    n_tokens, n_positions = cost.shape
    total = np.full((n_tokens + 1, n_positions + 1), np.inf)
    total[0, 0] = 0.0
    step = np.full((n_tokens + 1, n_positions + 1), 2, dtype=np.int8)
    step[1:, 0] = 1
    for diagonal in range(2, n_tokens + n_positions + 1):
        i = np.arange(max(1, diagonal - n_positions), min(n_tokens, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        takes_both = (both < down) & (both < right)
        takes_down = ~takes_both & (down < both) & (down < right)
        step[i, j] = np.where(takes_both, 0, np.where(takes_down, 1, 2))
        total[i, j] = cost[i - 1, j - 1] + np.where(takes_both, both, np.where(takes_down, down, right))
    firsts = np.zeros(n_tokens, dtype=np.intp)
    i, j = n_tokens, n_positions
    while i > 0 and j > 0:
        firsts[i - 1] = j - 1
        taken = step[i, j]
        i -= taken != 2
        j -= taken != 1
    return firsts


def _join_punctuation(words: list[TimedWord]) -> list[TimedWord]:
    """Opening marks join the word that follows, all others the word before; times are the word's."""
    joined: list[TimedWord] = []
    opening = ""
    for word in words:
        is_last = word is words[-1]
        if word.text.startswith(" ") and word.text.strip() in _PREPENDED and not is_last:
            opening += word.text
        elif joined and not opening and word.text in _APPENDED:
            before = joined[-1]
            joined[-1] = TimedWord(before.text + word.text, before.start_s, before.end_s)
        else:
            joined.append(TimedWord(opening + word.text, word.start_s, word.end_s))
            opening = ""
    return joined
