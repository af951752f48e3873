"""Cutting a stream into frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vad.audio import Int16Array
from vad.framing import Framer


def ramp(n_samples: int) -> Int16Array:
    """Samples that are all different within a frame, so that a misplaced one is seen."""
    return (np.arange(n_samples) % 30_011).astype(np.int16)


def drive(chunks: list[Int16Array]) -> tuple[Int16Array, Framer]:
    framer = Framer()
    frames = [framer.push(chunk) for chunk in chunks]
    return np.concatenate([*frames, framer.finish()]), framer


def padded(samples: Int16Array) -> Int16Array:
    return np.pad(samples, (0, -len(samples) % 512)).reshape(-1, 512)


@given(st.lists(st.one_of(st.integers(0, 8), st.integers(500, 530), st.integers(0, 3_000)), max_size=30))
def test_frames_depend_on_the_samples_and_not_on_chunk_borders(sizes: list[int]) -> None:
    samples = ramp(sum(sizes))
    frames, framer = drive(np.split(samples, np.cumsum(sizes)))
    np.testing.assert_array_equal(frames, padded(samples))
    assert framer.n_samples == len(samples)
    assert framer.n_frames == len(frames)


@given(st.lists(st.integers(0, 2_000), max_size=10))
def test_a_frame_is_returned_as_soon_as_it_is_complete(sizes: list[int]) -> None:
    framer = Framer()
    for size in sizes:
        framer.push(ramp(size))
        assert framer.n_frames == framer.n_samples // 512


def test_single_samples_make_the_same_frames_as_one_push() -> None:
    samples = ramp(3 * 512 + 7)
    frames, _ = drive([samples[i : i + 1] for i in range(len(samples))])
    np.testing.assert_array_equal(frames, padded(samples))


def test_ten_seconds_in_one_push_are_312_frames_and_a_half() -> None:
    framer = Framer()
    frames = framer.push(ramp(160_000))
    assert frames.shape == (312, 512)
    assert framer.finish().shape == (1, 512)


def test_the_callers_buffer_may_be_reused() -> None:
    framer, buffer = Framer(), ramp(700)
    first = framer.push(buffer)
    buffer[:] = -1
    second = framer.push(ramp(324))
    np.testing.assert_array_equal(first[0], ramp(512))
    np.testing.assert_array_equal(second[0][:188], ramp(700)[512:])


def test_frames_returned_earlier_never_change() -> None:
    framer = Framer()
    first = framer.push(ramp(512))
    framer.push(np.full(5_000, -1, dtype=np.int16))
    np.testing.assert_array_equal(first[0], ramp(512))


def test_read_only_samples_are_accepted() -> None:
    samples = np.frombuffer(ramp(600).tobytes(), dtype=np.int16)
    assert Framer().push(samples).shape == (1, 512)


def test_a_stream_that_ends_on_a_frames_border_has_no_padded_frame() -> None:
    framer = Framer()
    framer.push(ramp(1024))
    assert framer.finish().shape == (0, 512)


def test_an_empty_stream_has_no_frames() -> None:
    frames, _ = drive([])
    assert frames.shape == (0, 512)


def test_float_samples_are_refused() -> None:
    with pytest.raises(TypeError, match="int16, not float32"):
        Framer().push(np.zeros(512, dtype=np.float32))  # type: ignore[arg-type]  # the mistake under test


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one-dimensional, not 2"):
        Framer().push(np.zeros((512, 2), dtype=np.int16))


def test_nothing_may_follow_finish() -> None:
    framer = Framer()
    framer.finish()
    with pytest.raises(RuntimeError, match="push after finish"):
        framer.push(ramp(1))
    with pytest.raises(RuntimeError, match="already finished"):
        framer.finish()
