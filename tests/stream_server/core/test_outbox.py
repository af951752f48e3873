from driver import LIMITS
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.messages import (
    Final,
    Flushed,
    Lag,
    Numbered,
    Partial,
    ServerEvent,
    SessionId,
    SpeechStarted,
    Started,
)
from stream_server.core.outbox import Outbox

STARTED = Started(SessionId("s"), "fake", LIMITS, ())


def partial(segment: int, revision: int = 1) -> Partial:
    return Partial(segment, revision, 0, 512, "x", 0)


def final(segment: int) -> Final:
    return Final(segment, 0, 512, "x", "en", True)


def fill(*events: ServerEvent, outbox: Outbox | None = None) -> Outbox:
    outbox = Outbox(durable_max=256, wait_s_max=10.0) if outbox is None else outbox
    number = 0
    for event in events:
        is_durable = not isinstance(event, Partial | Lag)
        number += is_durable
        outbox.push(Numbered(event, number if is_durable else None), 0.0)
    return outbox


def drain(outbox: Outbox) -> list[ServerEvent]:
    events = []
    while (numbered := outbox.pop()) is not None:
        events.append(numbered.event)
    return events


def test_events_leave_in_the_order_in_which_they_came() -> None:
    events = [STARTED, SpeechStarted(0), partial(0), final(0), partial(1)]
    outbox = fill(*events[:3])
    assert len(outbox) == 3
    assert drain(outbox) == events[:3]
    assert outbox.pop() is None


def test_a_partial_replaces_a_waiting_partial_behind_whatever_came_between() -> None:
    outbox = fill(partial(0, 1), SpeechStarted(0), partial(0, 2))
    assert drain(outbox) == [SpeechStarted(0), partial(0, 2)]
    assert outbox.n_dropped == 1


def test_a_final_drops_the_partials_of_its_segment_and_no_others() -> None:
    assert drain(fill(partial(0), final(0))) == [final(0)]
    assert drain(fill(partial(1), final(0))) == [partial(1), final(0)]


def test_a_lag_replaces_a_lag() -> None:
    assert drain(fill(Lag(1), final(0), Lag(2))) == [final(0), Lag(2)]


def test_too_many_waiting_durable_events_are_overdue() -> None:
    outbox = Outbox(durable_max=3, wait_s_max=10.0)
    fill(final(0), final(1), final(2), partial(3), Lag(1), outbox=outbox)
    assert not outbox.is_overdue(0.0)
    outbox.push(Numbered(final(3), 4), 0.0)
    assert outbox.is_overdue(0.0)
    outbox.pop()
    assert not outbox.is_overdue(0.0)


def test_a_durable_event_that_waits_too_long_is_overdue() -> None:
    outbox = fill(final(0))
    assert not outbox.is_overdue(10.0)
    assert outbox.is_overdue(10.1)
    outbox.pop()
    assert not outbox.is_overdue(99.0)


def test_it_is_the_oldest_waiting_event_that_counts() -> None:
    outbox = fill(final(0))
    outbox.push(Numbered(final(1), 2), 9.0)
    assert outbox.is_overdue(10.1)
    outbox.pop()
    assert not outbox.is_overdue(10.1)


def test_partials_are_never_overdue() -> None:
    assert not fill(partial(0), Lag(3)).is_overdue(1e6)


def durable(numbered: list[Numbered]) -> list[Numbered]:
    return [one for one in numbered if one.number is not None]


events = st.one_of(
    st.builds(partial, st.integers(0, 3), st.integers(1, 3)),
    st.builds(final, st.integers(0, 3)),
    st.builds(Lag, st.integers(0, 9)),
    st.just(Flushed()),
    st.none(),  # the writer takes one
)


@given(st.lists(events, max_size=60))
def test_no_durable_event_is_lost_or_moved_and_at_most_one_partial_and_lag_wait(
    script: list[ServerEvent | None],
) -> None:
    outbox = Outbox(256, 10.0)
    pushed: list[Numbered] = []
    popped: list[Numbered] = []
    for number, event in enumerate(script):
        if event is None:
            taken = outbox.pop()
            popped += [taken] if taken is not None else []
        else:
            numbered = Numbered(event, None if isinstance(event, Partial | Lag) else number)
            pushed.append(numbered)
            outbox.push(numbered, 0.0)
    waiting = []
    while (taken := outbox.pop()) is not None:
        waiting.append(taken)
    popped += waiting
    assert sum(isinstance(numbered.event, Partial) for numbered in waiting) <= 1
    assert sum(isinstance(numbered.event, Lag) for numbered in waiting) <= 1
    assert durable(popped) == durable(pushed)
    assert len(popped) + outbox.n_dropped == len(pushed)
