"""When an ack is due, at the edges."""

from stream_server.core.acks import AUDIO_S, INTERVAL_S, AckClock

RATE_HZ = 1_000
MUCH = int(AUDIO_S * RATE_HZ)


def test_an_ack_is_due_after_a_second_if_there_is_something_to_tell() -> None:
    clock = AckClock(10.0)
    assert not clock.is_due(0, RATE_HZ, 10.0 + INTERVAL_S)
    assert not clock.is_due(1, RATE_HZ, 10.0 + INTERVAL_S - 0.001)
    assert clock.is_due(1, RATE_HZ, 10.0 + INTERVAL_S)


def test_much_audio_is_acknowledged_at_once() -> None:
    clock = AckClock(10.0)
    assert not clock.is_due(MUCH - 1, RATE_HZ, 10.0)
    assert clock.is_due(MUCH, RATE_HZ, 10.0)


def test_what_was_told_is_not_told_again() -> None:
    clock = AckClock(10.0)
    clock.note(MUCH, 11.0)
    assert not clock.is_due(MUCH, RATE_HZ, 20.0)
    assert not clock.is_due(MUCH + 1, RATE_HZ, 11.5)
    assert clock.is_due(2 * MUCH, RATE_HZ, 11.5)
