"""How long windows are, and that their mel is whisper's."""

from pathlib import Path
from typing import Any

import models
import msgspec
import numpy as np
import pytest
import torch
from whisper.audio import log_mel_spectrogram, pad_or_trim

from stream_server.core.jobs import WINDOW_SAMPLES_MAX
from stream_server.engine.manifest import Manifest, embedded_model, read_manifest
from stream_server.engine.windows import log_mel, window_samples

CPU = torch.device("cpu")


def changed(manifest: Manifest, **fields: Any) -> Manifest:
    return msgspec.structs.replace(manifest, **fields)


FIT = changed(read_manifest(embedded_model()), audio_context="fit", context_tail_s=0.2)


@pytest.mark.parametrize(
    ("audio_s", "window_s"),
    [
        (1 / 16_000, 0.5),
        (0.1, 0.5),
        (0.3, 0.5),
        (0.3 + 1 / 16_000, 1.0),
        (0.5, 1.0),
        (2.0, 2.5),
        (2.8, 3.0),
        (3.0, 3.5),
        (5.0, 5.5),
        (29.3, 29.5),
        (29.8, 30.0),
        (29.9, 30.0),
        (30.0, 30.0),
        (31.0, 30.0),
    ],
)
def test_a_fitted_window_is_the_audio_and_the_tail_rounded_up(audio_s: float, window_s: float) -> None:
    assert window_samples(round(audio_s * 16_000), FIT) == window_s * 16_000


def test_without_a_tail_audio_of_a_whole_step_is_its_own_window() -> None:
    assert window_samples(8_000, changed(FIT, context_tail_s=0.0)) == 8_000
    assert window_samples(8_001, changed(FIT, context_tail_s=0.0)) == 16_000


@pytest.mark.parametrize("n_samples", [1, 1_600, 48_000, WINDOW_SAMPLES_MAX, WINDOW_SAMPLES_MAX + 16_000])
def test_a_full_window_is_30_s_whatever_the_audio(n_samples: int) -> None:
    assert window_samples(n_samples, changed(FIT, audio_context="full")) == 480_000


def test_a_manifest_that_says_nothing_of_its_context_gets_full_windows(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    models.write_manifest(tmp_path, models.tiny())
    assert window_samples(16_000, read_manifest(tmp_path)) == 480_000


def noise(n_samples: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.random.default_rng(7).integers(-9_000, 9_000, n_samples).astype("<i2")


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize(
    ("n_samples", "n_window"), [(1, 8_000), (1_600, 8_000), (40_000, 48_000), (480_000, 480_000)]
)
def test_the_mel_is_whispers_of_the_padded_audio(n_samples: int, n_window: int, n_mels: int) -> None:
    samples = noise(n_samples)
    expected = log_mel_spectrogram(pad_or_trim(samples.astype(np.float32) / 32768, n_window), n_mels)
    mel = log_mel(samples.tobytes(), n_window, n_mels, CPU)
    assert mel.dtype == torch.float32
    assert mel.shape == (n_mels, n_window // 160)
    assert torch.equal(mel, expected)


def test_the_mel_of_a_full_window_is_what_transcribe_would_read() -> None:
    samples = noise(32_000)
    expected = log_mel_spectrogram(torch.from_numpy(samples.astype(np.float32) / 32768), padding=480_000)
    torch.testing.assert_close(log_mel(samples.tobytes(), 480_000, 80, CPU), expected[:, :3_000])


def test_audio_longer_than_the_window_is_cut() -> None:
    samples = noise(WINDOW_SAMPLES_MAX + 16_000)
    cut = log_mel(samples.tobytes(), WINDOW_SAMPLES_MAX, 80, CPU)
    assert torch.equal(cut, log_mel(samples[:WINDOW_SAMPLES_MAX].tobytes(), WINDOW_SAMPLES_MAX, 80, CPU))
