"""How sure a model is of a word is how sure it is of its least likely token."""

import functools
import math

import models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper.tokenizer import Tokenizer

from stream_server.core.words import TOKEN
from stream_server.engine.sureness import least_within, word_probabilities


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return english()


@functools.cache
def english() -> Tokenizer:
    return models.tokenizer_of(models.random_whisper(models.shape(64, 2, n_layer=1, n_vocab=51_864), seed=1))


def of_pieces(tokenizer: Tokenizer, pieces: list[tuple[bytes, float]]) -> list[float]:
    """The probabilities for tokens of these bytes, each of which is one of the vocabulary."""
    tokens = [tokenizer.encoding.encode_single_token(piece) for piece, _ in pieces]
    text = tokenizer.decode(tokens).strip()
    return [round(p, 6) for p in word_probabilities(text, tokens, logprobs_of(pieces), tokenizer)]


def logprobs_of(pieces: list[tuple[bytes, float]]) -> list[float]:
    return [math.log(probability) for _, probability in pieces]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([(b" hello", 0.9), (b" world", 0.4)], [0.9, 0.4]),
        # A word of several tokens, and marks that count apart.
        ([(b" un", 0.9), (b"sure", 0.3), (b".", 0.7)], [0.3, 0.7]),
        ([(b" It", 0.9), (b"'s", 0.2), (b" so", 0.8)], [0.2, 0.8]),
        # The space before a word is its token's, but no part of the word.
        ([(b" ", 0.1), (b" a", 0.9)], [0.9]),
        # A character of several tokens, and one whose end is never said.
        ([(b" \xe6", 0.5), (b"\x97", 0.9), (b"\xa5", 0.8), (b" a", 0.6)], [0.5, 0.6]),
        ([(b" a", 0.9), (b"\xe6", 0.4), (b"\x97", 0.7)], [0.9, 0.4]),
        ([(b" a", 0.9), (b"\xe6", 0.4), (b" b", 0.7)], [0.9, 0.4, 0.7]),
    ],
    ids=str,
)
def test_each_word_has_the_probability_of_its_least_likely_token(
    tokenizer: Tokenizer, pieces: list[tuple[bytes, float]], expected: list[float]
) -> None:
    assert of_pieces(tokenizer, pieces) == expected


def test_timestamps_say_nothing(tokenizer: Tokenizer) -> None:
    begin = tokenizer.timestamp_begin
    tokens = [begin, *tokenizer.encode(" yes"), begin + 50]
    assert word_probabilities("yes", tokens, [math.log(0.2), 0.0, math.log(0.1)], tokenizer) == (1.0,)


def test_nobody_knows_after_a_search(tokenizer: Tokenizer) -> None:
    assert word_probabilities("yes", tokenizer.encode(" yes"), [], tokenizer) == ()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (slice(0, 1), 0.9),
        (slice(0, 4), 0.4),
        # Marks do not count, nor the space before a word.
        (slice(4, 6), None),
        (slice(5, 15), 0.3),
        # A part of a word is as sure as the whole.
        (slice(11, 15), 0.3),
    ],
    ids=str,
)
def test_a_part_of_a_text_is_as_sure_as_its_least_sure_word(part: slice, expected: float | None) -> None:
    assert least_within(part, "a bc, well-known", (0.9, 0.4, 0.1, 0.3)) == expected
    assert least_within(part, "a bc, well-known", ()) is None


@given(st.lists(st.tuples(st.integers(0, 50_255), st.floats(-20, 0)), max_size=12))
def test_there_is_one_for_each_word_of_any_tokens(said: list[tuple[int, float]]) -> None:
    tokenizer = english()
    tokens, logprobs = [token for token, _ in said], [logprob for _, logprob in said]
    text = tokenizer.decode(tokens).strip()
    found = word_probabilities(text, tokens, logprobs, tokenizer)
    assert len(found) == (len(TOKEN.findall(text)) if tokens else 0)
    lowest = math.exp(min(logprobs, default=0.0))
    assert all(lowest <= probability <= 1 for probability in found)
