from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.records.repeats import ALLOWED, KINDS_MAX, WINDOW_S, Repeats

REFUSED = AuditEvent(AuditAction.AUTHENTICATE, Outcome.DENIED, source="10.0.0.9", reason="expired")


def test_the_first_refusals_are_written_the_rest_is_counted() -> None:
    repeats = Repeats()
    written = [not repeats.is_repetition(REFUSED, 0.01 * i) for i in range(100)]
    assert written == [True] * ALLOWED + [False] * (100 - ALLOWED)
    assert repeats.due(WINDOW_S - 1) == []
    (summary,) = repeats.due(WINDOW_S)
    assert (summary.action, summary.source, summary.reason) == (
        AuditAction.LOG_SUPPRESS,
        "10.0.0.9",
        "expired",
    )
    assert summary.detail == {"of": "client.authenticate", "suppressed": 100 - ALLOWED}


def test_after_the_window_it_begins_again() -> None:
    repeats = Repeats()
    for _ in range(ALLOWED):
        repeats.is_repetition(REFUSED, 0.0)
    assert repeats.due(WINDOW_S) == []
    assert not repeats.is_repetition(REFUSED, WINDOW_S)


def test_what_succeeds_is_always_written() -> None:
    repeats = Repeats()
    success = replace(REFUSED, outcome=Outcome.SUCCESS)
    assert not any(repeats.is_repetition(success, 0.0) for _ in range(100))


def test_kinds_are_told_apart() -> None:
    repeats = Repeats()
    others = [
        REFUSED,
        replace(REFUSED, source="10.0.0.8"),
        replace(REFUSED, reason="unknown_authority"),
        replace(REFUSED, resource="path:/"),
        replace(REFUSED, action=AuditAction.AUTHORIZE),
    ]
    for _ in range(ALLOWED):
        assert not any(repeats.is_repetition(event, 0.0) for event in others)
    assert all(repeats.is_repetition(event, 0.0) for event in others)


def test_a_scan_from_many_addresses_takes_bounded_memory() -> None:
    repeats = Repeats()
    for i in range(KINDS_MAX + 500):
        repeats.is_repetition(replace(REFUSED, source=str(i)), 0.0)
        repeats.due(0.0)
    assert len(repeats._kinds) <= KINDS_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=200))
def test_no_refusal_is_lost(arrivals: list[tuple[str, float]]) -> None:
    repeats, now_s, n_written, n_counted = Repeats(), 0.0, 0, 0

    def collect(everything: bool) -> int:
        return sum(int(event.detail["suppressed"]) for event in repeats.due(now_s, everything=everything))

    for source, pause_s in arrivals:
        now_s += pause_s
        n_counted += collect(everything=False)
        n_written += not repeats.is_repetition(replace(REFUSED, source=source), now_s)
    assert n_written + n_counted + collect(everything=True) == len(arrivals)
