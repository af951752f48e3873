import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.client import FinalEvent, PartialEvent
from stream_server.evaluation.flicker import Flicker, measure_flicker, shown_texts


@pytest.mark.parametrize(
    ("shown", "changed", "final_words"),
    [
        pytest.param(["a b c"], 0, 3, id="ok/final-only"),
        pytest.param(["a", "a b", "a b c"], 0, 3, id="ok/words-added"),
        pytest.param(["a x", "a b"], 1, 2, id="ok/last-word-replaced"),
        pytest.param(["x b c", "a b c"], 3, 3, id="ok/all-behind-the-first-change"),
        pytest.param(["a b c", "a"], 2, 1, id="ok/words-gone"),
        pytest.param(["a x", "a y", "a b"], 2, 2, id="ok/changed-twice"),
        pytest.param(["Hello", "Hello."], 1, 1, id="ok/punctuation-is-seen"),
        pytest.param(["a b", ""], 2, 0, id="ok/empty-final"),
    ],
)
def test_changed_words_are_those_behind_the_common_beginning(
    shown: list[str], changed: int, final_words: int
) -> None:
    assert measure_flicker([shown]) == Flicker(changed, final_words)


def test_no_final_words_give_no_rate() -> None:
    assert measure_flicker([]).rate is None
    assert Flicker(1, 4).rate == 0.25


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_text_that_only_grows_never_flickers(words: list[str]) -> None:
    shown = [" ".join(words[:n]) for n in range(1, len(words) + 1)]
    assert measure_flicker([shown]) == Flicker(0, len(words))


@given(st.lists(st.lists(st.text("ab ", max_size=6), min_size=1, max_size=4), max_size=4))
def test_segments_add_up(texts: list[list[str]]) -> None:
    assert measure_flicker(texts) == sum((measure_flicker([shown]) for shown in texts), Flicker())


def test_texts_are_put_in_their_segments() -> None:
    partials = [
        PartialEvent(seq=i, segment=segment, revision=i, start=0.0, end=1.0, text=text, stable=0)
        for i, (segment, text) in enumerate([(0, "a"), (1, "b"), (0, "a c"), (2, "lost")])
    ]
    finals = [
        FinalEvent(
            seq=9, event=9, segment=i, start=0.0, end=1.0, text=text, language=None, utterance_end=True
        )
        for i, text in enumerate(["a c", "b d"])
    ]
    assert shown_texts(partials, finals) == [["a", "a c", "a c"], ["b", "b d"]]
