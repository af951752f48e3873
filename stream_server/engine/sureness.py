"""How sure a model is of each word of a text, from how sure it was of each token.

Tokens are bytes: one may hold a word and the space before it, a part of a word, or a part of a character.
"""

import codecs
import math
from collections.abc import Iterable, Sequence

from whisper.tokenizer import Tokenizer

from stream_server.core.words import TOKEN


def word_probabilities(
    text: str, tokens: Sequence[int], logprobs: Sequence[float], tokenizer: Tokenizer
) -> tuple[float, ...]:
    """The probability of the least likely token in each word and each run of punctuation.

    Args:
        text: What the tokens say, without the spaces around it.
        tokens: Timestamps among them say nothing.
        logprobs: Of each token; empty where nobody knows them.
        tokenizer: Of the model.

    Returns:
        One for each match of ``core.words.TOKEN`` in the text, 0 to 1; empty without ``logprobs``.
    """
    if not logprobs:
        return ()
    said = [
        (tokenizer.encoding.decode_single_token_bytes(token), logprob)
        for token, logprob in zip(tokens, logprobs, strict=True)
        if token < tokenizer.timestamp_begin
    ]
    whole, of_characters = _characters(said)
    n_leading = len(whole) - len(whole.lstrip())
    return tuple(
        math.exp(min(of_characters[n_leading + match.start() : n_leading + match.end()]))
        for match in TOKEN.finditer(text)
    )


def least_within(part: slice, text: str, probabilities: Sequence[float]) -> float | None:
    """How sure the model is of a part of a text; marks in it do not count.

    Args:
        part: Which code points.
        text: The whole.
        probabilities: Of the text, see ``word_probabilities``.

    Returns:
        The least probability of a word that reaches into the part; None if there is none, or nobody knows.
    """
    reaching = [
        probability
        for match, probability in zip(TOKEN.finditer(text), probabilities, strict=False)
        if match.group()[0].isalnum() and match.start() < part.stop and match.end() > part.start
    ]
    return min(reaching, default=None)


def _characters(pieces: Iterable[tuple[bytes, float]]) -> tuple[str, list[float]]:
    """What pieces of UTF-8 say, and for each character the logprob of the least likely piece of it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    said, of_characters = "", []
    least = 0.0
    """Of the tokens that hold the beginning of a character; 0 where no character has begun."""
    for piece, logprob in pieces:
        least = min(least, logprob)
        new = decoder.decode(piece)
        said += new
        of_characters += [least, *[logprob] * (len(new) - 1)] if new else []
        has_begun, _ = decoder.getstate()
        if new or not has_begun:
            least = logprob if has_begun else 0.0
    rest = decoder.decode(b"", final=True)
    return said + rest, of_characters + [least] * len(rest)
