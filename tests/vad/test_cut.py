"""Choosing the place of a cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vad.cut import choose_cut

SPEECH = [0.95]
GAP = [0.1]


@pytest.mark.parametrize(
    ("probabilities", "cut"),
    [
        pytest.param([0.3], 0, id="one frame"),
        pytest.param(SPEECH * 20, 19, id="no dip: as late as possible"),
        pytest.param(SPEECH * 10 + GAP * 5 + SPEECH * 15, 12, id="the middle of a dip"),
        pytest.param(
            SPEECH * 8 + GAP * 3 + SPEECH * 8 + [0.0] + SPEECH * 10, 10, id="a run beats one lower frame"
        ),
        pytest.param(
            SPEECH * 5 + [0.4] * 5 + SPEECH * 5 + GAP * 5 + SPEECH * 5, 17, id="the deeper of two dips"
        ),
        pytest.param(
            SPEECH * 5 + GAP * 5 + SPEECH * 5 + GAP * 5 + SPEECH * 5, 17, id="the later of equal dips"
        ),
        pytest.param(GAP * 5 + SPEECH * 20, 2, id="a dip at the beginning"),
        pytest.param(SPEECH * 20 + GAP * 5, 24, id="a dip at the end"),
    ],
)
def test_the_cut_falls_into_the_deepest_dip(probabilities: list[float], cut: int) -> None:
    assert choose_cut(probabilities) == cut


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_cut_is_an_index_of_the_frames_given(probabilities: list[float]) -> None:
    assert 0 <= choose_cut(probabilities) < len(probabilities)


@given(
    st.lists(st.floats(0.5, 1), min_size=9, max_size=20), st.lists(st.floats(0.5, 1), min_size=9, max_size=20)
)
def test_a_silent_gap_between_words_is_always_found(before: list[float], after: list[float]) -> None:
    cut = choose_cut([*before, *[0.0] * 5, *after])
    assert cut == len(before) + 2
