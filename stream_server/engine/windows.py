"""From a job's samples to the log-mel window that the model reads."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.audio import log_mel_spectrogram

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.core.jobs import WINDOW_SAMPLES_MAX
from stream_server.engine.accelerator import upload
from stream_server.engine.manifest import Manifest

FIT_STEP_S = 0.5
"""Fitted windows are rounded up to this, so that windows of different lengths are encoded together."""
SHARED_STEP_S = 8.0
"""Windows of such a range are decoded together: filling up short ones costs less than another pass."""


def window_samples(n_samples: int, manifest: Manifest) -> int:
    """How long the window for this much audio is, in samples.

    ``full``: always 30 s. ``fit``: the audio and the model's tail, rounded up to 0.5 s, at most 30 s.
    """
    if manifest.audio_context == "full":
        return WINDOW_SAMPLES_MAX
    step = round(FIT_STEP_S * SAMPLE_RATE_HZ)
    wanted = n_samples + round(manifest.context_tail_s * SAMPLE_RATE_HZ)
    return min(WINDOW_SAMPLES_MAX, step * math.ceil(wanted / step))


def length_range(n_samples: int, manifest: Manifest) -> int:
    """In which range the window for this much audio is; those of one range are worth a pass together."""
    return math.ceil(window_samples(n_samples, manifest) / round(SHARED_STEP_S * SAMPLE_RATE_HZ))


def log_mel(pcm: bytes, n_window: int, n_mels: int, device: torch.device) -> Tensor:
    """float32 (n_mels, n_window / 160) of one window."""
    return log_mels([pcm], n_window, n_mels, device)[0]


def log_mels(windows: Sequence[bytes], n_window: int, n_mels: int, device: torch.device) -> Tensor:
    """float32 (B, n_mels, n_window / 160) of windows, int16 little-endian.

    Each row by itself: whisper's floor is the maximum over the whole tensor, so that in a batch a loud
    neighbour would change a transcript.
    """
    samples = upload(windows, n_window, device)
    return torch.stack([log_mel_spectrogram(row, n_mels) for row in samples])
