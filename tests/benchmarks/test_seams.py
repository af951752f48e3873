"""What ``benchmarks.seams`` counts."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.seams import EDGE_S, Run, Seams, between_words, cuts_of, n_inside, recorded, seams
from stream_server.client.latency import Utterance
from stream_server.core.messages import Final
from stream_server.evaluation.references import Reference
from stream_server.evaluation.word_latency import SpokenWord

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


def test_only_finals_that_do_not_end_an_utterance_have_a_cut() -> None:
    finals = [
        Final(0, 0, 40_000, "one", "en", utterance_end=False),
        Final(1, 40_000, 80_000, "two", "en", utterance_end=True),
    ]
    assert cuts_of(finals) == [2.5]


def test_a_clean_cut_is_at_the_border_of_words_nearest_to_a_cut() -> None:
    run = Run(np.arange(6 * 16_000).astype(np.int16), (), tuple(WORDS), "")
    assert [len(window) / 16_000 for window in between_words(run, [2.9, 3.2, 4.6])] == [3.0, 2.0, 1.0]


def test_an_utterance_of_a_recording_goes_no_further_than_the_next_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(6 * 16_000, np.int16), 16_000, subtype="PCM_16")
    timed = (Utterance(1.0, 2.0, "one"), Utterance(2.0, 3.0, "two"), Utterance(4.0, 5.0, "three"))
    said = recorded(Reference("long.wav", tmp_path / "long.wav", "one two three", timed, {}, tuple(WORDS)))
    lengths = [len(samples) / 16_000 for samples in said.utterances]
    assert lengths == [1 + EDGE_S, 1 + EDGE_S, 1 + 2 * EDGE_S]
