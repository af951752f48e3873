"""A bucket gives its burst, then its rate, and never more."""

from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.bucket import Bucket


@given(
    burst=st.integers(1, 50),
    per_s=st.floats(0.1, 1e4),
    steps_s=st.lists(st.floats(0, 10), max_size=100),
)
def test_no_more_is_taken_than_burst_and_rate_allow(burst: int, per_s: float, steps_s: list[float]) -> None:
    bucket = Bucket(burst, per_s)
    now_s, n_taken = 0.0, 0
    for step_s in steps_s:
        now_s += step_s
        n_taken += bucket.take(now_s)
        assert n_taken <= burst + now_s * per_s + 1e-6


@given(burst=st.integers(1, 5), per_s=st.floats(0.1, 1e4))
def test_after_the_wait_that_it_names_there_is_one(burst: int, per_s: float) -> None:
    bucket = Bucket(burst, per_s)
    now_s = 0.0
    for _ in range(20):
        now_s += bucket.wait_s(now_s) * (1 + 1e-9)
        assert bucket.take(now_s)
