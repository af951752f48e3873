"""Which frames are one too many: none of a stream, soon those of a flood."""

import pytest

from stream_server.core.frame_budget import SMALL_BYTES, FrameBudget


def taken(n_bytes: int, n_frames: int, per_s: float, *, is_control: bool = False) -> int:
    """How many frames are let through before the first that is not."""
    budget = FrameBudget()
    for i in range(n_frames):
        if not budget.take(n_bytes, i / per_s, is_control=is_control):
            return i
    return n_frames


def test_audio_is_never_too_much_however_fast_it_comes() -> None:
    assert taken(SMALL_BYTES, 100_000, per_s=1e6) == 100_000


@pytest.mark.parametrize("n_bytes", [0, 1, SMALL_BYTES - 1])
def test_small_frames_are_too_many_after_a_burst(n_bytes: int) -> None:
    assert taken(n_bytes, 10_000, per_s=1e9) == 4_000
    assert taken(n_bytes, 100_000, per_s=99) == 100_000


def test_pings_and_pongs_have_a_bucket_of_their_own() -> None:
    assert taken(0, 1_000, per_s=1e9, is_control=True) == 100
    assert taken(125, 10_000, per_s=9.9, is_control=True) == 10_000
    budget = FrameBudget()
    assert sum(budget.take(0, 0.0, is_control=True) for _ in range(1_000)) == 100
    assert budget.take(1, 0.0, is_control=False)


def test_what_was_used_up_comes_back_with_time() -> None:
    budget = FrameBudget()
    while budget.take(0, 0.0, is_control=True):
        pass
    assert not budget.take(0, 0.05, is_control=True)
    assert budget.take(0, 1.0, is_control=True)
    assert sum(budget.take(0, 3_600.0, is_control=True) for _ in range(1_000)) == 100
