"""Whisper's log-mel spectrogram, row by row: its floor is a maximum over everything it is given."""

from __future__ import annotations

import torch
from whisper.audio import HOP_LENGTH, N_FFT, mel_filters


def log_mel(audio: torch.Tensor, n_mels: int = 80) -> torch.Tensor:
    """Return float32 (B, n_mels, N / 160) for float32 (B, N)."""
    window = torch.hann_window(N_FFT, device=audio.device)
    stft = torch.stft(audio, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    power = stft[..., :-1].abs() ** 2
    mel = torch.clamp(mel_filters(audio.device, n_mels) @ power, min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (mel + 4.0) / 4.0
