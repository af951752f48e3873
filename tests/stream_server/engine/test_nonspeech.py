"""Sounds without speech become no caption; ``make nonspeech`` does the same for hours."""

from pathlib import Path

import models
import numpy as np
import pytest
import readings
from nonspeech import KINDS, nonspeech, sounds
from offline_product import rules_of, transcribe_all

from stream_server.core.jobs import Batch
from stream_server.engine.transcriber import WhisperTranscriber
from vad.model import SileroVad

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def transcriber() -> WhisperTranscriber:
    return readings.embedded_transcriber()


def test_the_sounds_are_a_function_of_the_seed_and_of_all_kinds() -> None:
    assert np.array_equal(nonspeech(5, 20), nonspeech(5, 20))
    assert not np.array_equal(nonspeech(5, 20), nonspeech(6, 20))
    made = {kind for kind, _ in sounds(np.random.default_rng(0), 200)}
    assert made == {kind.__name__ for kind in KINDS}


def test_minutes_of_non_speech_become_no_caption_and_speech_among_them_does(
    transcriber: WhisperTranscriber, recordings: Path
) -> None:
    name, caption = next(iter(readings.read_as_one(recordings).items()))
    speech, pause = readings.load(recordings / name), readings.PAUSE
    streams = [nonspeech(seed, 15) for seed in range(10)]
    streams.append(np.concatenate([pause, speech, pause, nonspeech(99, 10)]))
    finals, _ = transcribe_all(streams, SileroVad(), transcriber)
    assert not any(final.text for said in finals[:-1] for final in said)
    assert [final.text for final in finals[-1] if final.text] == [caption]


def test_the_guard_stops_what_the_vad_lets_through(transcriber: WhisperTranscriber) -> None:
    windows = [sound[:64_000] for _, sound in sounds(np.random.default_rng(3), 120) if sound.any()]
    jobs = tuple(models.decode_job(window.astype("<i2").tobytes()) for window in windows[:16])
    results = transcriber.transcribe(Batch(jobs))
    assert not any(result.text for result in results)
    assert not any(result.tokens for result in results)
    assert sum(count for name, count in rules_of(results).items() if "dropped" in name) == len(jobs)
