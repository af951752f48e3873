"""Choosing the place of a cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vad.cut import choose_cut, is_breath

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
    assert choose_cut(probabilities, len(probabilities)) == cut


@pytest.mark.parametrize(
    ("probabilities", "cut"),
    [
        pytest.param(SPEECH * 5 + GAP * 5 + SPEECH * 20, 7, id="a breath"),
        pytest.param(SPEECH * 5 + [0.6] * 5 + SPEECH * 20, 29, id="a dip that is none"),
        pytest.param(
            SPEECH * 5 + [0.6] * 5 + SPEECH * 10 + [0.8] * 5 + SPEECH * 3, 22, id="a shallower one in time"
        ),
        pytest.param(SPEECH * 5 + [0.2] * 5 + SPEECH * 10 + GAP * 5 + SPEECH * 3, 22, id="deeper in time"),
        pytest.param([0.4] * 30, 29, id="as deep all the time"),
    ],
)
def test_before_the_last_frames_only_a_breath_is_cut_at(probabilities: list[float], cut: int) -> None:
    assert choose_cut(probabilities, n_late=10) == cut
    assert is_breath(probabilities, cut) == (min(probabilities) < 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 40))
def test_the_cut_is_a_breath_or_one_of_the_last_frames(probabilities: list[float], n_late: int) -> None:
    cut = choose_cut(probabilities, n_late)
    assert max(0, len(probabilities) - n_late) <= cut < len(probabilities) or is_breath(probabilities, cut)


@given(
    st.lists(st.floats(0.5, 1), min_size=9, max_size=20), st.lists(st.floats(0.5, 1), min_size=9, max_size=20)
)
def test_a_silent_gap_between_words_is_always_found(before: list[float], after: list[float]) -> None:
    cut = choose_cut([*before, *[0.0] * 5, *after], 1)
    assert cut == len(before) + 2
