from dataclasses import replace

import pytest
from load_runs import GOOD_RUN

from stream_server.evaluation.result import Percentiles
from stream_server.load.result import RunResult
from stream_server.load.verdict import (
    Bound,
    find_obstacle,
    is_planned_reached,
    planned_sessions,
)


def late(sessions: int, **p95_s: float) -> RunResult:
    """A run whose finals came too late, by hop."""
    hops = {name: Percentiles(9, value / 2, value, value) for name, value in p95_s.items()}
    return replace(GOOD_RUN, sessions=sessions, final=Percentiles(9, 0.5, 1.2, 2.0), hops=hops)


@pytest.mark.parametrize(("limit", "planned"), [(1, 1), (2, 1), (5, 4), (41, 32), (100, 80)])
def test_four_fifths_of_the_limit_are_planned_for_rounded_down_and_one_at_least(
    limit: int, planned: int
) -> None:
    assert planned_sessions(limit) == planned


@pytest.mark.parametrize(
    ("p95_s", "is_reached"), [pytest.param(0.7, True, id="ok/edge"), pytest.param(0.71, False, id="fail")]
)
def test_finals_should_come_within_seven_tenths_of_a_second_there(p95_s: float, is_reached: bool) -> None:
    run = replace(GOOD_RUN, final=Percentiles(9, 0.5, p95_s, 0.9))
    assert is_planned_reached(run) == is_reached


def test_a_run_that_lost_something_or_has_no_final_does_not_reach_it() -> None:
    assert not is_planned_reached(replace(GOOD_RUN, lost=1))
    assert not is_planned_reached(replace(GOOD_RUN, final=None))


@pytest.mark.parametrize(
    ("run", "bound"),
    [
        pytest.param(replace(GOOD_RUN, refused={"overloaded": 1}), Bound.REFUSED, id="refused"),
        pytest.param(replace(GOOD_RUN, failed={"internal_error": 1}), Bound.FAILED, id="failed"),
        pytest.param(replace(GOOD_RUN, doubled=1), Bound.FAILED, id="doubled"),
        pytest.param(replace(late(9, queue=0.8), client_lag_p99_s=0.06), Bound.CLIENTS, id="clients"),
        pytest.param(late(9, pause=2.0, vad=0.1, queue=0.8, decode=0.3), Bound.ENGINE, id="engine"),
        pytest.param(late(9, pause=2.0, vad=0.9, queue=0.8), Bound.GATEWAY, id="detector"),
        pytest.param(late(9, send=0.9, decode=0.8), Bound.GATEWAY, id="send"),
        pytest.param(late(9), Bound.ENGINE, id="a server that does not tell its hops"),
    ],
)
def test_what_limits_is_told_by_the_run_that_was_not_carried(run: RunResult, bound: Bound) -> None:
    found = find_obstacle([GOOD_RUN, run])
    assert found is not None
    assert (found.bound, found.run) == (bound, run)


def test_the_smallest_run_that_was_not_carried_tells_and_an_interrupted_one_nothing() -> None:
    found = find_obstacle(
        [late(32, send=0.9), GOOD_RUN, late(20, queue=0.9), replace(late(9), is_interrupted=True)]
    )
    assert found is not None
    assert (found.bound, found.run.sessions) == (Bound.ENGINE, 20)
    assert find_obstacle([GOOD_RUN]) is None
    assert find_obstacle([replace(GOOD_RUN, final=None, client_lag_p99_s=0.1)]) is None
