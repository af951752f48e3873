"""The default settings on real audio: the included recordings, and human speech where there is any."""

import json
import sys
from pathlib import Path

import pytest

from vad.cli import read_recording
from vad.events import CloseReason, SegmentClosed
from vad.model import SileroVad
from vad.recording import segment_recording

pytestmark = pytest.mark.model

FRAME_S = 0.032
TOLERANCE_S = 0.1


@pytest.fixture(scope="module")
def utterances(recordings: Path) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the utterances of ``dialogue.flac``, as they were put together."""
    manifest = json.loads((recordings / "manifest.json").read_text())
    return [(entry["start"], entry["end"]) for entry in manifest["dialogue"]["utterances"]]


@pytest.fixture(scope="module")
def segments(network: SileroVad, recordings: Path) -> list[SegmentClosed]:
    return segment_recording(read_recording(recordings / "dialogue.flac"), network)


def overlapping(segments: list[SegmentClosed], start_s: float, end_s: float) -> list[SegmentClosed]:
    return [s for s in segments if s.start_frame * FRAME_S < end_s and start_s < s.end_frame * FRAME_S]


def test_the_dialogue_has_an_utterance_end_for_every_utterance(
    segments: list[SegmentClosed], utterances: list[tuple[float, float]]
) -> None:
    assert sum(segment.utterance_end for segment in segments) == len(utterances)


def test_every_utterance_of_the_dialogue_is_covered_by_segments_of_its_own(
    segments: list[SegmentClosed], utterances: list[tuple[float, float]]
) -> None:
    found = [overlapping(segments, *utterance) for utterance in utterances]
    assert [segment for group in found for segment in group] == segments, "no segment serves two utterances"
    for (start_s, end_s), group in zip(utterances, found, strict=True):
        before_s = start_s - group[0].start_frame * FRAME_S
        after_s = group[-1].end_frame * FRAME_S - end_s
        sys.stdout.write(f"{start_s:7.3f}-{end_s:7.3f} s: {before_s:+.3f} s before, {after_s:+.3f} s after\n")
        assert before_s > -TOLERANCE_S
        assert after_s > -TOLERANCE_S
        assert [segment.utterance_end for segment in group] == [False] * (len(group) - 1) + [True]


def test_the_dialogue_is_ended_by_pauses_and_not_cut(segments: list[SegmentClosed]) -> None:
    assert {segment.reason for segment in segments} == {CloseReason.PAUSE}


@pytest.mark.parametrize("number", range(1, 13))
def test_a_recorded_sentence_is_one_segment(network: SileroVad, recordings: Path, number: int) -> None:
    samples = read_recording(recordings / f"{number:02}.flac")
    (segment,) = segment_recording(samples, network)
    assert segment.utterance_end


def test_a_speech_with_long_pauses_is_covered_by_short_segments(
    network: SileroVad, human_speech: Path
) -> None:
    segments = segment_recording(read_recording(human_speech / "jfk.flac"), network)
    # The speaker talks from 0.35 to 2.2, 3.3 to 4.4, 5.4 to 7.7 and 8.2 to 10.5 s.
    for start_s, end_s in [(0.4, 2.2), (3.3, 4.4), (5.4, 7.6), (8.2, 10.4)]:
        covered = sum(
            max(0.0, min(end_s, s.end_frame * FRAME_S) - max(start_s, s.start_frame * FRAME_S))
            for s in segments
        )
        assert covered == pytest.approx(end_s - start_s, abs=TOLERANCE_S)
    assert all(s.end_frame - s.start_frame <= 156 for s in segments)


@pytest.mark.parametrize("name", ["librispeech-6930-75918-0000", "librispeech-7902-96591-0000"])
def test_a_read_sentence_is_one_utterance(network: SileroVad, human_speech: Path, name: str) -> None:
    (segment,) = segment_recording(read_recording(human_speech / f"{name}.flac"), network)
    assert segment.utterance_end
