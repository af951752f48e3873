import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_server.core.audio_window import BLOCK_SAMPLES, AudioWindow


def filled(n_samples: int) -> AudioWindow:
    window = AudioWindow()
    window.append(np.arange(n_samples, dtype=np.int16))
    return window


def test_samples_are_read_by_their_position_as_little_endian_bytes() -> None:
    assert filled(10).read(2, 4) == b"\x02\x00\x03\x00"


def test_what_was_read_stays_as_it_was_and_is_pickled_as_bytes() -> None:
    window = filled(10)
    read = window.read(4, 99)
    window.append(np.full(3 * BLOCK_SAMPLES, 7, dtype=np.int16))
    window.forget_before(window.end)
    expected = np.arange(4, 10, dtype="<i2").tobytes()
    assert (bytes(read), len(read)) == (expected, 12)
    assert read == expected
    assert hash(read) == hash(expected)
    assert read != "no audio"
    carried = pickle.loads(pickle.dumps(read))
    assert type(carried) is bytes
    assert carried == expected


@given(st.integers(0, 9_000), st.integers(0, 9_000))
def test_a_part_of_what_was_read_is_that_part_of_its_bytes(start: int, end: int) -> None:
    read = filled(9_000).read(100, 9_000)
    assert bytes(read[2 * start : 2 * end]) == bytes(read)[2 * start : 2 * end]
    assert len(read[2 * start : 2 * end]) == len(bytes(read)[2 * start : 2 * end])


def test_a_part_is_of_whole_samples() -> None:
    for span in (slice(1, 4), slice(0, 3), slice(0, 8, 2)):
        with pytest.raises(AssertionError):
            filled(10).read(0, 10)[span]


def test_what_is_read_costs_no_copy() -> None:
    window = filled(5 * 16_000)
    tracemalloc.start()
    try:
        read = window.read(0, window.end)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read) == 10 * 16_000
    assert size < 1_000


def test_what_is_kept_is_at_most_a_block_more_at_each_end() -> None:
    window = AudioWindow()
    for _ in range(100):
        window.append(np.zeros(1_600, dtype=np.int16))
        window.forget_before(window.end - 3_000)
        assert len(window._blocks) * BLOCK_SAMPLES <= 3_000 + 2 * BLOCK_SAMPLES


def test_an_end_beyond_what_was_received_is_clipped() -> None:
    assert filled(10).read(9, 99) == b"\x09\x00"


def test_what_is_forgotten_cannot_be_read_and_the_rest_keeps_its_positions() -> None:
    window = filled(10)
    window.forget_before(4)
    assert (window.start, window.end) == (4, 10)
    assert window.read(4, 5) == b"\x04\x00"
    with pytest.raises(AssertionError):
        window.read(3, 5)


def test_an_empty_range_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        filled(10).read(5, 5)


@pytest.mark.parametrize("position", [-3, 0, 2])
def test_forgetting_again_changes_nothing(position: int) -> None:
    window = filled(10)
    window.forget_before(2)
    window.forget_before(position)
    assert (window.start, window.end) == (2, 10)


def test_forgetting_more_than_there_is_forgets_what_there_is() -> None:
    window = filled(10)
    window.forget_before(99)
    assert (window.start, window.end) == (10, 10)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 30_000)), max_size=20))
@example([(5_000, 0)] * 8)
def test_any_appends_and_forgets_keep_the_stream(steps: list[tuple[int, int]]) -> None:
    window, stream = AudioWindow(), np.zeros(0, dtype=np.int16)
    for n_samples, position in steps:
        # Wraps around where the stream is longer than there are numbers.
        samples = np.arange(len(stream), len(stream) + n_samples).astype(np.int16)
        stream = np.concatenate([stream, samples])
        window.append(samples)
        window.forget_before(position)
        assert window.end == len(stream)
        if window.start < window.end:
            assert window.read(window.start, window.end) == stream[window.start :].tobytes()
