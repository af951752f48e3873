"""Words are timed as whisper times them, row by row."""

import dataclasses
import warnings
from importlib import resources

import models
import numpy as np
import pytest
import soundfile
import torch
import whisper.timing
from hypothesis import given
from hypothesis import strategies as st
from parity import prompt_of, sounds
from torch import Tensor
from whisper.model import Whisper
from whisper.timing import WordTiming
from whisper.tokenizer import get_tokenizer

from stream_server.core.jobs import Batch
from stream_server.engine.alignment import TimedWord, _first_positions
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.engine.windows import log_mel

pytestmark = pytest.mark.model

TOLERANCE_S = 0.021
"""One position: whisper adds the path's costs up in single precision, we in double."""
EXACT_SHARE_MIN = 0.98
"""Of the words' bounds; the others are one position off."""


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Let numba compile whisper's path search outside of what is timed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whisper.timing.dtw_cpu(np.zeros((2, 2)))


def reference_of(model: Whisper, mels: Tensor) -> Whisper:
    models.tokenizer_of(model)
    reference = models.fitted_reference(model, mels.shape[-1] // 2)
    reference.register_buffer("alignment_heads", model.alignment_heads, persistent=False)
    return reference


def whisper_says(model: Whisper, mel: Tensor, row: Decoded, task: str, n_positions: int) -> list[WordTiming]:
    tokenizer = get_tokenizer(
        model.is_multilingual, num_languages=model.num_languages, language=row.language, task=task
    )
    text = [token for token in row.tokens if token < tokenizer.eot]
    timings: list[WordTiming] = whisper.timing.find_alignment(model, tokenizer, text, mel, 2 * n_positions)
    whisper.timing.merge_punctuations(timings, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
    return [timing for timing in timings if timing.word]


def assert_timed_alike(ours: list[list[TimedWord]], theirs: list[list[WordTiming]]) -> None:
    n_bounds = n_exact = 0
    for mine, expected in zip(ours, theirs, strict=True):
        assert [word.text for word in mine] == [timing.word for timing in expected]
        for word, timing in zip(mine, expected, strict=True):
            for a, b in ((word.start_s, timing.start), (word.end_s, timing.end)):
                assert a == pytest.approx(b, abs=TOLERANCE_S)
                n_exact += a == pytest.approx(b, abs=1e-6)
                n_bounds += 1
    assert n_bounds > 20
    assert n_exact >= EXACT_SHARE_MIN * n_bounds


def test_random_weights_time_words_as_whisper_does() -> None:
    model = models.random_whisper(models.tiny(n_layer=2), seed=0)
    # Heads of both layers; the embedded model's are those that whisper takes where none are named.
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[[0, 1, 1], [1, 0, 5]] = True
    model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    decoder = BatchDecoder(model, None)
    mels = sounds(6, 48_000)
    features = decoder.encode(mels)
    languages = ["de", "zh", "en", None, "ja", "fr"]
    options = [
        DecodeOptions(
            languages[i], ["transcribe", "translate"][i == 5], 8, prompt_of(5 * i), timestamps=i == 2
        )
        for i in range(6)
    ]
    # Texts of several lengths, of whole and half characters, marks and timestamps.
    decoded = [
        dataclasses.replace(row, tokens=(*row.tokens, *prompt_of(3 + 4 * i, seed=i), 13))
        for i, row in enumerate(decoder.decode_features(features, options))
    ]
    n_positions = [150, 149, 120, 60, 150, 30]
    timed = decoder.time_words(features, decoded, options, n_positions)
    reference = reference_of(model, mels)
    theirs = [whisper_says(reference, mels[i], decoded[i], options[i].task, n_positions[i]) for i in range(6)]
    assert_timed_alike(timed, theirs)
    for i in range(6):
        alone = decoder.time_words(
            features[i : i + 1], decoded[i : i + 1], options[i : i + 1], n_positions[i : i + 1]
        )
        assert [word.text for word in alone[0]] == [word.text for word in timed[i]]
        for one, other in zip(alone[0], timed[i], strict=True):
            assert one.start_s == pytest.approx(other.start_s, abs=TOLERANCE_S)


def recording(name: str) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    path = resources.files("stream_server") / "assets" / "recordings" / f"{name}.flac"
    return soundfile.read(str(path), dtype="int16")[0]


def test_words_of_the_recordings_come_in_order_inside_the_window_and_in_the_sessions_samples() -> None:
    transcriber = WhisperTranscriber(embedded_model(), "cpu")
    windows = [recording(f"{number:02}") for number in range(1, 4)]
    jobs = [
        dataclasses.replace(models.decode_job(window.tobytes(), start=80_000 * i), word_times=i != 1)
        for i, window in enumerate(windows)
    ]
    jobs.append(dataclasses.replace(models.decode_job(bytes(64_000)), word_times=True))
    results = transcriber.transcribe(Batch(tuple(jobs)))
    assert [bool(result.words) for result in results[:3]] == [True, False, True]
    assert bool(results[3].words) == bool(results[3].text)  # a model may read something into silence
    for result in results:
        if not result.words:
            continue
        assert "".join(word.text for word in result.words) == result.text
        bounds = [bound for word in result.words for bound in (word.start, word.end)]
        assert bounds == sorted(bounds)
        assert result.start <= bounds[0]
        assert bounds[-1] <= result.end
        assert len({word.start for word in result.words}) > len(result.words) / 2
    plain = transcriber.transcribe(Batch(tuple(dataclasses.replace(job, word_times=False) for job in jobs)))
    assert [result.tokens for result in plain] == [result.tokens for result in results]


def test_the_embedded_model_times_words_as_whisper_does() -> None:
    manifest = read_manifest(embedded_model())
    model = load_whisper(embedded_model(), manifest, torch.device("cpu"))
    decoder = BatchDecoder(model, manifest.language)
    speech = [recording(name)[:56_000].tobytes() for name in ("03", "05", "07")]
    mels = torch.stack([log_mel(pcm, 56_000, 80, torch.device("cpu")) for pcm in speech])
    features = decoder.encode(mels)
    options = [DecodeOptions(None, "transcribe", 40)] * 3
    decoded = decoder.decode_features(features, options)
    timed = decoder.time_words(features, decoded, options, [175, 160, 100])
    reference = reference_of(model, mels)
    theirs = [
        whisper_says(reference, mels[i], decoded[i], "transcribe", n) for i, n in enumerate([175, 160, 100])
    ]
    assert_timed_alike(timed, theirs)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
def test_the_path_is_whispers(n_tokens: int, n_positions: int, seed: int, has_ties: bool) -> None:
    cost = np.random.default_rng(seed).normal(size=(n_tokens, n_positions))
    if has_ties:
        cost = np.round(cost)
    text, time = whisper.timing.dtw_cpu(cost)
    expected = [time[text == token][0] for token in range(n_tokens)]
    assert _first_positions(cost).tolist() == expected
