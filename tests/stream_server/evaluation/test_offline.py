"""Recordings decoded as a session decodes them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_server.engine.fake import FakeTranscriber, numbered_speech, numbers_in, ranges_text, tag_frames
from stream_server.evaluation.offline import decode_stream, text_of
from vad.config import SegmenterConfig

SPOKEN = 700
"""Frames, 22 s: several cuts."""


class Speech:
    """Hears speech in every frame."""

    def score_stream(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones(len(frames), dtype=np.float32)


@pytest.mark.parametrize("overlap_ms", [0, 500, 1_000])
def test_every_number_is_read_once_with_windows_joined_and_side_by_side(overlap_ms: float) -> None:
    finals = decode_stream(
        numbered_speech(range(SPOKEN)),
        Speech(),
        FakeTranscriber(),
        segmenter=SegmenterConfig(overlap_ms=overlap_ms),
    )
    assert numbers_in(text_of(finals)) == list(range(SPOKEN))
    assert len(finals) > 3
    assert [final.start for final in finals[1:]] == [final.end for final in finals[:-1]]


def test_every_tag_is_read_once() -> None:
    quiet = np.zeros((SPOKEN, 512), dtype=np.int16)
    finals = decode_stream(tag_frames(quiet, 0).reshape(-1), Speech(), FakeTranscriber())
    assert text_of(finals) == ranges_text(range(SPOKEN))
    for final in finals:
        assert final.text == ranges_text(range(final.start // 512, final.end // 512))


def test_a_recording_without_speech_has_no_finals() -> None:
    class Silence(Speech):
        def score_stream(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.zeros(len(frames), dtype=np.float32)

    assert decode_stream(np.zeros(16_000, np.int16), Silence(), FakeTranscriber()) == []
