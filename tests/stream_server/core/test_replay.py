import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.messages import Numbered, SpeechStarted
from stream_server.core.replay import ReplayLog
from stream_server.errors import EventOutOfRange


def filled(n_max: int, n_events: int) -> ReplayLog:
    log = ReplayLog(n_max)
    for number in range(1, n_events + 1):
        log.keep(Numbered(SpeechStarted(number), number))
    return log


@given(st.integers(1, 20), st.integers(0, 40), st.integers(-3, 45))
def test_what_followed_an_event_comes_whole_or_not_at_all(n_max: int, n_events: int, event: int) -> None:
    log = filled(n_max, n_events)
    assert len(log) == min(n_max, n_events)
    assert log.last == n_events
    if max(0, n_events - n_max) <= event <= n_events:
        assert [kept.number for kept in log.after(event)] == list(range(event + 1, n_events + 1))
    else:
        with pytest.raises(EventOutOfRange, match=f"not after {event}"):
            log.after(event)


def test_a_gap_is_a_bug() -> None:
    log = filled(3, 2)
    for number in (2, 4):
        with pytest.raises(AssertionError, match="gaps"):
            log.keep(Numbered(SpeechStarted(0), number))
