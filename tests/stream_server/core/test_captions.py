import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_server.core.captions import SegmentCaption
from stream_server.core.words import TOKEN


def show(*hypotheses: str) -> list[str]:
    """Each shown text, with a bar where its stable part ends, of a caption that trusts any two that agree."""
    return show_of(0.0, [(hypothesis, ()) for hypothesis in hypotheses])


def show_of(sure: float, hypotheses: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """The same, given each hypothesis with the probabilities of its tokens."""
    caption, shown = SegmentCaption(sure), []
    for hypothesis, probabilities in hypotheses:
        text, stable = caption.update(hypothesis, probabilities)
        shown.append(f"{text[:stable]}|{text[stable:]}")
    assert caption.revision == len(hypotheses)
    return shown


@pytest.mark.parametrize(
    ("hypotheses", "shown"),
    [
        (["hello"], ["|hello"]),
        (["hello", "hello world"], ["|hello", "hello| world"]),
        (["", "a", "a"], ["|", "|a", "a|"]),
        # A mark after a word says nothing against the word, but the word waits for it.
        (["Michael.", "Michael can you"], ["|Michael.", "Michael| can you"]),
        (["Michael.", "Michael, can you"], ["|Michael.", "|Michael, can you"]),
        (["a b.", "a b, c", "a b, c d"], ["|a b.", "a| b, c", "a b, c| d"]),
        (['a "b', 'a "c', 'a "c d'], ['|a "b', 'a| "c', 'a "c| d']),
        (["今日、", "今日。"], ["|今日、", "今|日。"]),
        (["it's 3.5", "it's 3.5 m"], ["|it's 3.5", "it's 3.5| m"]),
        (["a well-known", "a well-known man"], ["|a well-known", "a well-known| man"]),
        # A longer word is another word.
        (["can", "cannot"], ["|can", "|cannot"]),
        # What is stable stays, whatever a later hypothesis says.
        (
            ["one two", "one two three", "won two three four"],
            ["|one two", "one two| three", "one two| three four"],
        ),
        (["one two", "one two", "one"], ["|one two", "one two|", "one two|"]),
        (["one two", "one two", ""], ["|one two", "one two|", "one two|"]),
        (["a b", "a b", "a  b c"], ["|a b", "a b|", "a b| c"]),
        # Where the number of words is not what it was, words never run together.
        (["Hello", "Hello", '"Hello, world'], ["|Hello", "Hello|", "Hello| Hello, world"]),
        (["xyz", "xyz", "日abc"], ["|xyz", "xyz|", "xyz| abc"]),
        (["3", "3", "本.5"], ["|3", "3|", "3| .5"]),
        # A script without spaces goes by characters.
        (["今日は", "今日も"], ["|今日は", "今日|も"]),
        (["日本", "日本 and more"], ["|日本", "日本| and more"]),
        # What a person sees as one character is never split.
        (["e\u0301te\u0301", "e\u0301te\u0301 x"], ["|e\u0301te\u0301", "e\u0301te\u0301| x"]),
        (["हिन्दी", "हिन्दीय"], ["|हिन्दी", "|हिन्दीय"]),
        (["ที", "ที่"], ["|ที", "|ที่"]),
        (["👨‍👩‍👧 ok", "👨‍👩‍👧 ok"], ["|👨‍👩‍👧 ok", "👨‍👩‍👧 ok|"]),
    ],
)
def test_the_words_two_hypotheses_begin_with_are_stable(hypotheses: list[str], shown: list[str]) -> None:
    assert show(*hypotheses) == shown


@pytest.mark.parametrize(
    ("hypotheses", "shown"),
    [
        # Two are enough as far as the newer one is sure, whatever the older one was.
        ([("a b c", (0.1, 0.1, 0.1)), ("a b c", (0.9, 0.5, 0.4))], ["|a b c", "a b| c"]),
        ([("a b", (1, 1)), ("a b", (0.4, 1))], ["|a b", "|a b"]),
        # Four are always enough, if it is four in a row.
        ([("a b", (0.1, 0.1))] * 4, ["|a b", "|a b", "|a b", "a b|"]),
        (
            [("a b", ()), ("a b", ()), ("a c", ()), ("a c", ()), ("a c", ()), ("a c", ())],
            ["|a b", "|a b", "|a c", "a| c", "a| c", "a c|"],
        ),
        # Nobody knows how sure it is.
        ([("a", ())] * 4, ["|a", "|a", "|a", "a|"]),
        # A word waits for the mark that touches it, and so for how sure that is.
        ([("a. B", (1, 1, 1)), ("a. B", (1, 0.2, 1))], ["|a. B", "|a. B"]),
        ([("a, b", (1, 1, 1)), ("a, b", (1, 1, 0.2))], ["|a, b", "a,| b"]),
        # What was stable stays, though it is not sure any more.
        ([("a b", (1, 1)), ("a b", (1, 1)), ("a b c", (0, 0, 0))], ["|a b", "a b|", "a b| c"]),
        ([("日本", (1, 1)), ("日本", (1, 0.3))], ["|日本", "日|本"]),
    ],
)
def test_words_that_the_model_is_not_sure_of_wait_for_further_hypotheses(
    hypotheses: list[tuple[str, Sequence[float]]], shown: list[str]
) -> None:
    assert show_of(0.5, hypotheses) == shown


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("a b", "c d| e f"),
        ("A b.", "c d| e f"),
        # Behind what was stable, too.
        ("a b c d e", "|f"),
        # The final reads some words differently, and one more or less.
        ("a x", "c d| e f"),
        ("x b", "c d| e f"),
        ("a a b", "c d| e f"),
        ("b", "c d| e f"),
        # It says all of it, more, or something else.
        ("a b c d e f", "|"),
        ("a b c d e f g", "|"),
        ("v w x y", "|"),
        ("d", "|"),
    ],
)
def test_what_the_final_does_not_say_is_shown_of_the_next_segment(said: str, left: str) -> None:
    caption = SegmentCaption(0.5)
    caption.update("a b c d e")
    caption.update("a b c d e f", (1, 1, 1, 1, 0, 0))
    following = caption.behind(said)
    text, stable = following.shown
    assert f"{text[:stable]}|{text[stable:]}" == left
    assert following.revision == bool(text)


def test_what_was_stable_behind_a_final_stays_so() -> None:
    caption = SegmentCaption()
    caption.update("a b c d")
    caption.update("a b c d")
    following = caption.behind("a b")
    assert following.update("c d e") == ("c d e", 3)
    assert following.update("see d e f") == ("c d e f", 3)


def test_stable_counts_code_points() -> None:
    caption = SegmentCaption()
    caption.update("😀 one")
    # The emoji is two UTF-16 units and four bytes, and one code point.
    assert caption.update("😀 one") == ("😀 one", 5)


latin = ["a", "b", "hello", "don't", "3.5", "_", "ß", "I\u0307", "e\u0301", "\u0301", "\u00ad", "\n"]
marks = [
    " ",
    "  ",
    ".",
    ",",
    "...",
    "-",
    "'",
    '"',
    "\u200d",
    "😀",
    "👍🏽",
    "👨\u200d👩\u200d👧",
    "1\ufe0f\u20e3",
]
others = ["日", "本", "ひ", "ที่", "ក", "हिन्दी"]
pieces = st.sampled_from(latin + marks + others)
texts = st.lists(pieces, max_size=8).map("".join) | st.text(max_size=12)


@st.composite
def growing(draw: st.DrawFn) -> list[str]:
    """Hypotheses that mostly go on from one another, as those of a growing window do."""
    text, hypotheses = "", []
    for _ in range(draw(st.integers(1, 6))):
        keep = draw(st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0]))
        text = text[: int(len(text) * keep)] + draw(texts)
        hypotheses.append(text)
    return hypotheses


sureness = st.lists(st.floats(0, 1), min_size=24, max_size=24)


@settings(max_examples=300)
@given(growing() | st.lists(texts, max_size=6), st.floats(0, 1), sureness)
@example(["Hello", "Hello", '"Hello'], 0.0, [])
@example(["a.", "a.", "b.."], 0.0, [])
def test_what_is_stable_never_changes_never_shrinks_and_ends_at_a_token(
    hypotheses: list[str], sure: float, probabilities: list[float]
) -> None:
    caption = SegmentCaption(sure)
    stable_text = ""
    for hypothesis in hypotheses:
        text, stable = caption.update(hypothesis, probabilities)
        assert 0 <= stable <= len(text)
        assert text.startswith(stable_text)
        assert stable >= len(stable_text)
        stable_text = text[:stable]
        ends = {0, *(match.end() for match in TOKEN.finditer(text))}
        assert stable in ends
        if stable < len(text) and text[stable - 1 : stable].isalpha():
            assert not unicodedata.category(text[stable]).startswith("M")


@given(texts)
def test_a_hypothesis_said_twice_is_stable_to_its_last_token(hypothesis: str) -> None:
    caption = SegmentCaption()
    assert caption.update(hypothesis) == (hypothesis, 0)
    text, stable = caption.update(hypothesis)
    assert text == hypothesis
    assert not text[stable:].strip()
