"""What ``benchmarks.seams`` counts."""

import numpy as np
import pytest

from benchmarks.seams import Seams, cuts_of, n_inside, seams
from stream_server.evaluation.word_latency import SpokenWord
from vad.config import SegmenterConfig
from vad.recording import segment_recording

WORDS = [SpokenWord(text, float(i), i + 1.0) for i, text in enumerate("One two, three four five six".split())]
CUT_S = [3.0]
"""Between three and four; one and six are not beside it."""


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ("one two three four five six", Seams(0, 0)),
        ("One two. Three, three four five six", Seams(0, 1)),
        ("one two three four four five six", Seams(0, 1)),
        ("one two four five six", Seams(1, 0)),
        ("one two five six", Seams(2, 0)),
        ("one one two three four five", Seams(0, 0)),
        # Other words are wrong, and not doubled.
        ("one two three or four five six", Seams(0, 0)),
        ("", Seams(2, 0)),
    ],
)
def test_words_lost_or_doubled_count_beside_cuts_only(heard: str, found: Seams) -> None:
    assert seams(WORDS, heard, CUT_S) == found


def test_a_cut_near_a_border_of_words_is_not_inside_one() -> None:
    assert n_inside([1.02, 1.98, 3.5, 9.0], WORDS) == 1


class _Speech:
    def score_stream(self, frames: np.ndarray) -> np.ndarray:
        return np.ones(len(frames), dtype=np.float32)


def test_only_segments_that_were_cut_for_their_length_have_a_cut() -> None:
    closed = segment_recording(np.zeros(12 * 16_000, dtype=np.int16), _Speech(), SegmenterConfig())
    assert len(cuts_of(closed)) == len(closed) - 1 == 2
