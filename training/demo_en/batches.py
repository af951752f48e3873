"""The batch of a step, a function of (speech read so far, configuration, step) and nothing else.

So an interrupted training goes on with the batch that would have come, without any state of a loader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from . import targets, windows
from .config import FRAME_S, SAMPLE_RATE_HZ, Stage, TrainConfig
from .dataset import Dataset, Sample
from .targets import IGNORE, Row
from .windows import Window

_FRAME_SAMPLES = round(FRAME_S * SAMPLE_RATE_HZ)
_FULL_WINDOW_S = 30.0
_SPREAD_S = 0.25
"""Utterances of one batch differ in length by about this much."""
_PROMPT_TOKENS_MAX = 120


@dataclass(slots=True)
class Batch:
    """One step's tensors; B rows, T encoder positions, L tokens, S sampled frames."""

    audio: torch.Tensor
    """float32 (B, 320 T)"""
    inputs: torch.Tensor
    """int64 (B, L)"""
    targets: torch.Tensor
    """int64 (B, L), IGNORE where nothing is asked"""
    spans: torch.Tensor
    """float32 (B, L, 2), positions of the encoder; negative where nothing is heard"""
    phones: torch.Tensor
    """int64 (B, T), IGNORE where unknown"""
    token_frames: torch.Tensor
    """int64 (S, 3): row, position, token heard there"""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def make(dataset: Dataset, config: TrainConfig, step: int) -> Batch:
    """Return the batch of a step."""
    rng = np.random.default_rng([config.seed, step])
    stage = config.stage_at(step)
    dice = rng.random()
    if dice < stage.p_full_window:
        groups, pad_s = _running(dataset, config, rng, _FULL_WINDOW_S), _FULL_WINDOW_S
    elif dice < stage.p_full_window + stage.p_running:
        groups, pad_s = _running(dataset, config, rng, float(rng.uniform(6.0, 14.0))), 0.0
    else:
        groups, pad_s = [[sample] for sample in _alike(dataset, config, stage, rng)], 0.0
    made = [_window(dataset, group, stage, rng) for group in groups]
    if pad_s:
        made = [_clipped(window, pad_s) for window in made]
    rows = [targets.make(w, _prompt(dataset, stage, rng), stage, dataset.vocabulary, rng) for w in made]
    return collate(made, rows, rng, pad_s)


def collate(made: list[Window], rows: list[Row], rng: np.random.Generator, pad_s: float = 0.0) -> Batch:
    """Pad windows and rows to common lengths; audio with zeros, as the engine does."""
    longest = max(len(window.samples) for window in made) + int(rng.integers(0, SAMPLE_RATE_HZ // 3))
    n_frames = -(-max(longest, round(pad_s * SAMPLE_RATE_HZ)) // _FRAME_SAMPLES)
    n_frames = min(n_frames, round(_FULL_WINDOW_S / FRAME_S))
    n_tokens = max(len(row.inputs) for row in rows)
    audio = np.zeros((len(made), n_frames * _FRAME_SAMPLES), np.float32)
    inputs = np.zeros((len(made), n_tokens), np.int64)
    wanted = np.full((len(made), n_tokens), IGNORE, np.int64)
    spans = np.full((len(made), n_tokens, 2), -1.0, np.float32)
    phones = np.stack([targets.phone_frames(window, n_frames) for window in made])
    for k, (window, row) in enumerate(zip(made, rows, strict=True)):
        audio[k, : len(window.samples)] = window.samples[: audio.shape[1]]
        inputs[k, : len(row.inputs)] = row.inputs
        wanted[k, : len(row.targets)] = row.targets
        spans[k, : len(row.spans)] = row.spans
    spans = np.where(spans < 0, -1.0, spans / FRAME_S).astype(np.float32)
    frames = _token_frames(wanted, spans, n_frames, rng)
    return Batch(*map(torch.from_numpy, (audio, inputs, wanted, spans, phones, frames)))


def _token_frames(
    wanted: np.ndarray, spans: np.ndarray, n_frames: int, rng: np.random.Generator, per_token: int = 1
) -> np.ndarray:
    """Draw positions within each heard token: int64 (S, 3) of row, position, token."""
    row, at = np.nonzero((spans[..., 0] >= 0) & (wanted != IGNORE))
    row, at = np.repeat(row, per_token), np.repeat(at, per_token)
    start, end = spans[row, at, 0], spans[row, at, 1]
    position = np.clip((start + (end - start) * rng.random(len(row))).astype(np.int64), 0, n_frames - 1)
    return np.stack([row, position, wanted[row, at]], axis=1).astype(np.int64)


def _alike(dataset: Dataset, config: TrainConfig, stage: Stage, rng: np.random.Generator) -> list[Sample]:
    """Choose utterances of about the same length, as many as fill the batch."""
    n = max(int(np.searchsorted(dataset.lengths_s, stage.seconds_max)), min(8, len(dataset.lengths_s)))
    centre = dataset.lengths_s[rng.integers(n)]
    low, high = np.searchsorted(dataset.lengths_s[:n], [centre - _SPREAD_S, centre + _SPREAD_S])
    low, high = max(0, min(low, n - 8)), max(high, min(n, low + 8))
    size = int(np.clip(config.batch_audio_s / (centre + 0.8), 4, config.batch_max))
    return [dataset.samples[k] for k in dataset.by_length[rng.integers(low, high, size=size)]]


def _running(
    dataset: Dataset, config: TrainConfig, rng: np.random.Generator, room_s: float
) -> list[list[Sample]]:
    """Choose groups of utterances that follow each other within ``room_s``."""
    groups = []
    for _ in range(int(np.clip(config.batch_audio_s * 1.5 / room_s, 4, config.batch_max))):
        wanted_s, total_s = float(rng.uniform(1.0, room_s - 3.0)), 0.0
        group: list[Sample] = []
        while not group or total_s < wanted_s:
            sample = _any(dataset, rng)
            if group and total_s + sample.seconds + 2.0 > room_s - 2.0:
                break
            group.append(sample)
            total_s += sample.seconds * 1.14 + 0.9
        groups.append(group)
    return groups


def _window(dataset: Dataset, group: list[Sample], stage: Stage, rng: np.random.Generator) -> Window:
    if rng.random() < stage.p_no_speech:
        return windows.without_speech(sum(sample.seconds for sample in group), rng)
    return windows.make(dataset, group, stage, rng, lambda: _any(dataset, rng))


def _clipped(window: Window, seconds: float) -> Window:
    window.samples = window.samples[: round(seconds * SAMPLE_RATE_HZ)]
    return window


def _prompt(dataset: Dataset, stage: Stage, rng: np.random.Generator) -> np.ndarray | None:
    """Return tokens of some previous text: whole utterances, or the end of one."""
    if rng.random() >= stage.p_prompt:
        return None
    texts = [_any(dataset, rng).tokens for _ in range(int(rng.integers(1, 8)))]
    return np.concatenate(texts)[-int(rng.integers(1, _PROMPT_TOKENS_MAX)) :]


def _any(dataset: Dataset, rng: np.random.Generator) -> Sample:
    return dataset.samples[int(rng.integers(len(dataset.samples)))]
