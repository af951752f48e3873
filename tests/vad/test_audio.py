"""Positions and scales of audio."""

import numpy as np
import pytest

from vad import audio


def test_a_frame_lasts_32_ms_exactly() -> None:
    assert audio.FRAME_MS == 32
    assert audio.FRAME_MS * audio.SAMPLE_RATE_HZ == 1000 * audio.FRAME_SAMPLES


def test_a_frame_starts_at_512_times_its_index() -> None:
    assert audio.frame_to_sample(3) == 1536
    assert audio.frame_to_ms(3) == 96
    assert audio.sample_to_seconds(24_000) == 1.5


@pytest.mark.parametrize(
    ("duration_ms", "within", "covering"), [(0, 0, 0), (31, 0, 1), (32, 1, 1), (33, 1, 2)]
)
def test_a_duration_is_rounded_to_the_side_asked_for(duration_ms: float, within: int, covering: int) -> None:
    assert audio.frames_within_ms(duration_ms) == within
    assert audio.frames_covering_ms(duration_ms) == covering


def test_int16_is_scaled_to_minus_one_inclusive_and_one_exclusive() -> None:
    scaled = audio.int16_to_float32(np.array([[-32_768, 0, 32_767]], dtype=np.int16))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[-1.0, 0.0, 32_767 / 32_768]]
