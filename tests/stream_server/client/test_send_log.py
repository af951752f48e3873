"""What is said again after a lost connection: all that was lost, once, in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.client.send_log import Message, SendLog
from stream_server.dialects.schema import FinishMessage, FlushMessage

FLUSH, FINISH = FlushMessage(), FinishMessage()


def drain(log: SendLog, size: int = 4) -> list[Message]:
    messages = []
    while (message := log.next(size)) is not None:
        messages.append(message)
    return messages


def log_of(*items: Message, keeps: bool = True) -> SendLog:
    log = SendLog(2, 10, keeps=keeps)
    for item in items:
        match item:
            case FlushMessage():
                log.add_flush()
            case FinishMessage():
                log.add_finish()
            case _:
                log.add_audio(item)
    return log


def test_messages_come_in_order_and_no_longer_than_allowed() -> None:
    log = log_of(b"abcdef", FLUSH, b"gh", FLUSH, FLUSH, FINISH)
    assert drain(log) == [b"abcd", b"ef", FLUSH, b"gh", FLUSH, FLUSH, FINISH]
    assert log.is_sent
    assert log.next(4) is None


def test_a_resumed_stream_is_said_again_from_the_sample_and_the_flush_that_were_lost() -> None:
    log = log_of(b"abcdef", FLUSH, b"ghij", FLUSH, FINISH)
    drain(log)
    log.rewind(4, 1, closing=False)
    assert drain(log) == [b"ij", FLUSH, FINISH]
    with pytest.raises(ValueError, match="goes on at sample 2"):
        log.rewind(2, 1, closing=False)


def test_nothing_is_said_to_who_is_closing() -> None:
    log = log_of(b"abcdef", FLUSH, FINISH)
    log.rewind(1, 0, closing=True)
    assert drain(log) == []
    assert log.is_sent


def test_what_is_acknowledged_is_forgotten_and_what_was_not_sent_is_not() -> None:
    log = log_of(b"abcdefghij")
    assert log.is_full
    log.next(4)
    log.acknowledge(100)
    assert log.n_bytes == 6
    assert not log.is_full
    assert drain(log, 100) == [b"efghij"]


def test_half_a_sample_is_kept_until_it_is_whole() -> None:
    log = log_of(b"abc")
    drain(log)
    log.acknowledge(1)
    assert log.n_bytes == 1
    log.rewind(1, 0, closing=False)
    assert drain(log) == [b"c"]


def test_flushes_are_forgotten_when_answered_or_when_later_audio_is_acknowledged() -> None:
    log = log_of(FLUSH, FLUSH, b"ab", FLUSH)
    drain(log)
    log.answer_flush()
    assert len(log._flushes) == 2
    log.acknowledge(1)
    assert len(log._flushes) == 1
    log.answer_flush()
    log.answer_flush()
    assert len(log._flushes) == 0


def test_where_nothing_can_be_resumed_nothing_is_kept() -> None:
    log = log_of(b"abcdef", FLUSH, b"gh", keeps=False)
    assert drain(log) == [b"abcd", b"ef", FLUSH, b"gh"]
    assert log.n_bytes == 0
    assert len(log._flushes) == 0


@pytest.mark.parametrize(("samples", "flushes"), [(4, 0), (0, 2), (-1, 0)])
def test_a_server_that_has_more_than_was_said_is_found_out(samples: int, flushes: int) -> None:
    with pytest.raises(ValueError, match="what is kept is 0 to 3 and 0 to 1"):
        log_of(b"abcdef", FLUSH).rewind(samples, flushes, closing=False)


@given(
    st.lists(st.binary(max_size=9) | st.just("flush") | st.just("ack"), max_size=30),
    st.lists(st.integers(0, 12), max_size=6),
    st.integers(1, 7),
)
def test_a_server_with_a_bad_line_ends_up_with_what_was_said(
    said: list[bytes | str], arrivals: list[int], size: int
) -> None:
    log = SendLog(2, 1_000, keeps=True)
    heard, whole = bytearray(), 0
    flushes: list[int] = []
    expected, places = bytearray(), []
    lives = iter(arrivals)
    for item in [*said, "finish"]:
        match item:
            case "flush":
                log.add_flush()
                places.append(len(expected))
            case "finish":
                log.add_finish()
            case "ack":
                log.acknowledge(whole)
            case bytes():
                log.add_audio(item)
                expected += item
        life = next(lives, None)
        has_finished = False
        n_given = 0
        while (message := log.next(size)) is not None:
            n_given += 1
            if life is not None and n_given > life:
                # Lost, and with it all that follows: the next connection goes on at the last whole sample.
                del heard[2 * whole :]
                log.rewind(whole, len(flushes), closing=False)
                life = None
            elif isinstance(message, bytes):
                heard += message
                whole = len(heard) // 2
            elif isinstance(message, FlushMessage):
                flushes.append(len(heard))
            else:
                has_finished = True
    assert has_finished
    assert (bytes(heard), flushes) == (bytes(expected), places)
