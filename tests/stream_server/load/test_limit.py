from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.load.limit import LimitSearch


def search(capacity: int, first: int, most: int = 20_000) -> tuple[int, list[int]]:
    looking, asked = LimitSearch(first, most), []
    while looking.limit is None:
        assert len(asked) < 60
        asked.append(looking.next)
        looking.note(looking.next <= capacity)
    return looking.limit, asked


@given(capacity=st.integers(0, 20_000), first=st.integers(1, 500))
def test_a_steady_limit_is_found_within_a_twentieth_and_carried_three_times(
    capacity: int, first: int
) -> None:
    found, asked = search(capacity, first)
    assert found <= capacity
    assert capacity - found <= max(1, found * 0.05 + 1)
    if found:
        assert asked.count(found) == 3


@given(capacity=st.integers(0, 20_000), first=st.integers(1, 500))
def test_how_many_runs_are_left_is_known_once_one_has_failed(capacity: int, first: int) -> None:
    looking, told = LimitSearch(first, 20_000), []
    while looking.limit is None:
        told.append(looking.n_left)
        looking.note(looking.next <= capacity)
    really = range(len(told), 0, -1)
    assert all(n is None or n >= left for n, left in zip(told, really, strict=True))
    known = [n for n in told if n is not None]
    assert all(later < earlier for earlier, later in pairwise(known))
    assert told[: len(told) - len(known)] == [None] * (len(told) - len(known))


def test_nothing_beyond_the_most_is_asked_for() -> None:
    found, asked = search(10_000, 8, most=50)
    assert found == 50
    assert max(asked) == 50


def test_a_number_that_holds_only_once_is_not_the_limit() -> None:
    looking = LimitSearch(20, 1_000)
    outcomes = iter([True, False, False, False, False])  # 20 yes, 40 no, 30 no, 25 no, 22 no
    for outcome in outcomes:
        looking.note(outcome)
    while looking.next != 20:
        looking.note(False)
    looking.note(True)
    looking.note(False)  # the third run with 20 fails
    assert looking.limit is None
    assert looking.next < 20
    while looking.limit is None:
        looking.note(looking.next <= 15)
    assert looking.limit <= 15


@pytest.mark.parametrize("first", [0, 21])
def test_a_first_run_out_of_range_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match="1 to 20"):
        LimitSearch(first, 20)


def test_only_a_number_that_was_carried_before_is_confirmed() -> None:
    looking, confirmed = LimitSearch(8, 1_000), []
    while looking.limit is None:
        confirmed.append((looking.next, looking.is_confirmation))
        looking.note(looking.next <= 20)
    assert confirmed == [
        (8, False),
        (16, False),
        (32, False),
        (24, False),
        (20, False),
        (22, False),
        (21, False),
        (20, True),
        (20, True),
    ]
