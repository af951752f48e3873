"""What ``benchmarks.seams`` counts."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.seams import EDGE_S, Misread, Seams, cuts_of, filled, misread, n_inside, recorded, runs, seams
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


@pytest.mark.parametrize(
    ("heard", "near", "elsewhere"),
    [
        ("one two three four five six", Misread(2), Misread(4)),
        ("one two tree five", Misread(2, changed=1, lost=1), Misread(4, lost=1)),
        # Words that were not said count with the one before them, and before the first with that.
        ("oh one two three and so four five six", Misread(2, added=2), Misread(4, added=1)),
        ("", Misread(2, lost=2), Misread(4, lost=4)),
    ],
)
def test_wrong_words_are_parted_by_their_distance_from_seams(
    heard: str, near: Misread, elsewhere: Misread
) -> None:
    assert misread(WORDS, heard, CUT_S) == (near, elsewhere)


def test_parts_of_what_is_misread_add_up() -> None:
    both = Misread(2, changed=1) + Misread(2, lost=1, added=1)
    assert (both, both.share) == (Misread(4, 1, 1, 1), 0.75)


def test_windows_are_filled_with_whole_utterances() -> None:
    said = [(0, 20), (25, 45), (45, 60), (70, 180), (180, 190)]
    assert filled(said, 60) == [(0, 60), (70, 180), (180, 190)]


def test_an_utterance_of_a_recording_goes_no_further_than_the_next_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(6 * 16_000, np.int16), 16_000, subtype="PCM_16")
    timed = (Utterance(1.0, 2.0, "one"), Utterance(2.0, 3.0, "two"), Utterance(4.0, 5.0, "three"))
    said = recorded(Reference("long.wav", tmp_path / "long.wav", "one two three", timed, {}, tuple(WORDS)))
    lengths = [(end - start) / 16_000 for start, end in said.utterances]
    assert lengths == [1 + EDGE_S, 1 + EDGE_S, 1 + 2 * EDGE_S]


def test_utterances_put_end_to_end_are_found_again(tmp_path: Path) -> None:
    samples = np.arange(32_000, dtype=np.int16)
    soundfile.write(tmp_path / "one.wav", samples, 16_000, subtype="PCM_16")
    word = SpokenWord("one", 0.5, 1.5)
    said = Reference("one.wav", tmp_path / "one.wav", "one", (Utterance(0.5, 1.5, "one"),), {}, (word,))
    [run] = runs([said, said])
    assert [run.samples[start:end].tolist() for start, end in run.utterances] == [
        samples[7_200:24_800].tolist()
    ] * 2
