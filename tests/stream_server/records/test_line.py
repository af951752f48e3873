from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.records.line import LineError, decode, digest, encode, entry_of

WHEN = datetime(2026, 11, 21, 6, 30, 15, 123_456, tzinfo=UTC)
EVENT = AuditEvent(
    AuditAction.AUTHORIZE,
    Outcome.DENIED,
    actor=Actor("spiffe://stream-server.local/source/a", "1f", "ab" * 32),
    source="10.0.0.7",
    resource="path:/v1/stream",
    reason="not_allowed",
    detail={"n": 3},
)


def line_of(event: AuditEvent) -> bytes:
    return encode(entry_of(event, seq=4, prev="00" * 32, host="caption-1", when=WHEN))


def test_a_line_is_canonical_json() -> None:
    assert line_of(EVENT) == (
        b'{"action":"client.authorize","actor":{"fp":"' + b"ab" * 32 + b'",'
        b'"id":"spiffe://stream-server.local/source/a","serial":"1f"},"detail":{"n":3},"host":"caption-1",'
        b'"object":"path:/v1/stream","outcome":"denied","prev":"' + b"00" * 32 + b'","reason":"not_allowed",'
        b'"seq":4,"session":null,"src":"10.0.0.7","ts":"2026-11-21T06:30:15.123+00:00","v":1}'
    )


def test_times_are_written_in_utc() -> None:
    east = WHEN.astimezone(timezone(timedelta(hours=8)))
    assert entry_of(EVENT, seq=0, prev="", host="", when=east).time == WHEN.replace(microsecond=123_000)


texts = st.text(max_size=20)
events = st.builds(
    AuditEvent,
    action=st.sampled_from(AuditAction),
    outcome=st.sampled_from(Outcome),
    actor=st.none() | st.builds(Actor, texts, texts, texts),
    source=st.none() | texts,
    resource=st.none() | texts,
    reason=st.none() | texts,
    session=st.none() | texts,
    detail=st.dictionaries(texts, texts | st.integers(-(2**53), 2**53), max_size=4),
)


@given(events)
def test_every_event_has_one_spelling_on_one_line(event: AuditEvent) -> None:
    line = line_of(event)
    assert encode(decode(line)) == line
    assert b"\n" not in line
    assert line.isascii()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b'"v":1', b'"v": 1'),
        lambda line: line.replace(b'"v":1', b'"v":2'),
        lambda line: line.replace(b'"seq":4', b'"seq":"4"'),
        lambda line: line.replace(b'"v":1', b'"v":1,"w":1'),
        lambda line: line.replace(b"2026-11-21T", b"2026-11-21t"),
        lambda line: line.replace(b"2026-11-21T", b"2026-13-21T"),
        lambda line: line + b" " * 20_000,
        lambda line: line[:-1],
        lambda line: b"\xff" + line,
        lambda line: b"",
    ],
)
def test_other_spellings_are_refused(damage) -> None:
    with pytest.raises(LineError):
        decode(damage(line_of(EVENT)))


def test_the_digest_is_of_the_line_alone() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
