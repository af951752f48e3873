"""The normaliser that error rates are computed after."""

import pytest

from stream_server.engine.text import normalise_english


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("", ""),
        ("!?,", ""),
        ("Who is going to open the office?", "who is going to open the office"),
        ("Who's   going?", "who is going"),
        ("The COLOUR of it", "the color of it"),
        ("twenty one minutes", "21 minutes"),
        ("It costs $20.", "it costs $20"),
        ("Mr. Smith won't", "mister smith will not"),
        ("uh, hmm, yes", "yes"),
    ],
)
def test_the_same_words_have_one_form(text: str, normalised: str) -> None:
    assert normalise_english(text) == normalised


def test_a_normalised_text_stays_as_it_is() -> None:
    once = normalise_english("We're meeting on the twenty-first, aren't we?")
    assert normalise_english(once) == once
