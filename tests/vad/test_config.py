"""Settings of the segmenter, and the pause that shrinks with age."""

import math
from typing import Any

import pytest

from vad.config import SegmenterConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"enter_threshold": 0.0}, "enter_threshold must be between 0.01 and 1, not 0"),
        ({"enter_threshold": 1.1}, "enter_threshold must be between 0.01 and 1, not 1.1"),
        ({"exit_threshold": 0.6}, "exit_threshold must be between 0.01 and 0.5, not 0.6"),
        ({"pause_ms": 10}, "pause_ms must be between 64 and 5000, not 10"),
        ({"pause_ms_min": 481}, "pause_ms_min must be between 64 and 480, not 481"),
        ({"pre_roll_ms": 501}, "pre_roll_ms must be between 0 and 500, not 501"),
        ({"fade_ms": 501}, "fade_ms must be between 0 and 500, not 501"),
        ({"post_roll_ms": -1}, "post_roll_ms must be between 0 and 1000, not -1"),
        ({"segment_s_min": 0.9}, "segment_s_min must be between 1 and 29, not 0.9"),
        ({"segment_s_max": 2.5}, "segment_s_max must be between 3 and 30, not 2.5"),
        ({"overlap_ms": 1_801}, "overlap_ms must be between 0 and 1800, not 1801"),
        ({"pause_ms": math.nan}, "pause_ms must be between 64 and 5000, not nan"),
        ({"segment_s_max": math.inf}, "segment_s_max must be between 3 and 30, not inf"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SegmenterConfig(**values)


def test_equal_thresholds_and_pauses_are_allowed() -> None:
    config = SegmenterConfig(enter_threshold=0.5, exit_threshold=0.5, pause_ms=320, pause_ms_min=320)
    assert set(config.pause_frames_by_age()) == {10}


def test_the_pause_shrinks_in_a_line_from_2_to_5_seconds_of_age() -> None:
    pauses = SegmenterConfig(pause_ms=480, pause_ms_min=320).pause_frames_by_age()
    assert len(pauses) == 157
    assert pauses[0] == pauses[62] == 15
    assert pauses[109] == math.ceil((480 - 160 * (109 * 32 - 2000) / 3000) / 32)
    assert pauses[156] == 11, "4.992 s is not yet 5 s, and a pause is never rounded down"
    assert list(pauses) == sorted(pauses, reverse=True)
