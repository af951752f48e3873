"""The numbers that go in come out: what the equations of other tests stand on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.engine.fake import (
    FakeVad,
    numbered_frame,
    numbered_speech,
    numbers_in,
    ranges_text,
    read_numbers,
    read_tags,
    silence,
    tag_frames,
)
from vad.audio import int16_to_float32
from vad.states import VadStates

numbers = st.lists(st.integers(0, 99_999_999), max_size=20)


@given(numbers)
def test_numbers_survive(said: list[int]) -> None:
    assert read_numbers(numbered_speech(said)) == said


@given(numbers, st.integers(3, 511))
def test_a_last_frame_cut_short_still_says_its_number(said: list[int], n_left: int) -> None:
    cut = np.concatenate([numbered_speech(said), numbered_frame(42)[:n_left]])
    assert read_numbers(cut) == [*said, 42]


@pytest.mark.parametrize("n_samples", [0, 1, 2])
def test_less_than_a_number_says_nothing(n_samples: int) -> None:
    assert read_numbers(numbered_frame(42)[:n_samples]) == []


def test_silence_between_numbers_says_nothing() -> None:
    audio = np.concatenate([silence(3), numbered_frame(1), silence(2), numbered_frame(2), silence(1)])
    assert read_numbers(audio) == [1, 2]


def test_a_transcript_is_read_back_whatever_stands_between() -> None:
    assert numbers_in("7 12 400") == [7, 12, 400]
    assert numbers_in("") == []


def test_the_fake_vad_hears_numbers_and_nothing_else() -> None:
    tone = np.full(512, 9_000, dtype=np.int16)
    frames = np.stack([numbered_frame(0), silence(1), numbered_frame(99_999_999), tone])
    states = VadStates()
    slots = np.array([states.open() for _ in frames], dtype=np.intp)
    scores = FakeVad().score(int16_to_float32(frames), slots, states)
    assert scores.dtype == np.float32
    assert scores.tolist() == [1, 0, 1, 0]


def test_the_fake_vad_refuses_a_slot_that_is_not_open_as_the_network_does() -> None:
    with pytest.raises(ValueError, match="not open"):
        FakeVad().score(np.zeros((1, 512), np.float32), np.zeros(1, np.intp), VadStates())


@given(first=st.integers(0, 2**24 - 40), n_frames=st.integers(0, 39), stray=st.integers(0, 511))
def test_tags_are_read_as_they_were_written_and_nobody_hears_them(
    first: int, n_frames: int, stray: int
) -> None:
    frames = np.random.default_rng(first).integers(-32_768, 32_767, (n_frames, 512)).astype(np.int16)
    tagged = tag_frames(frames, first)
    assert np.abs(tagged.astype(int) - frames).max(initial=0) <= 1
    window = np.concatenate([tagged.reshape(-1), np.zeros(stray, dtype=np.int16)])
    assert read_tags(window) == list(range(first, first + n_frames))


def test_ranges_name_every_run() -> None:
    assert ranges_text([]) == ""
    assert ranges_text([3, 4, 5, 9, 8, 9]) == "3-5 9-9 8-9"


def test_ranges_are_half_a_second_long_and_end_at_the_same_numbers_in_any_window() -> None:
    assert ranges_text(range(3, 40)) == "3-15 16-31 32-39"
