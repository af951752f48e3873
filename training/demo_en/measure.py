"""Word error rates on held-out speech: the same sentences clean, in noise, over the telephone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import torch
from torch import Tensor
from whisper.decoding import DecodingOptions
from whisper.decoding import decode as whisper_decode
from whisper.model import Whisper
from whisper.normalizers import EnglishTextNormalizer

from . import augment
from .config import SAMPLE_RATE_HZ
from .features import log_mel
from .model import Trainee
from .store import read_shard
from .vocabulary import Vocabulary

_LEAD_S, _TAIL_S = 0.1, 0.3
_BATCH = 32
_TOKENS_MAX = 60


@dataclass(slots=True)
class HeldOutSet:
    """Recordings under one condition: float32 samples with what is said in them."""

    name: str
    audio: list[np.ndarray]
    texts: list[str]


def held_out_sets(folder: Path) -> list[HeldOutSet]:
    """Return the four sets of the issue: training voices clean, at 10 dB, by telephone; festival clean."""
    free, texts = _load(folder / "test-free")
    festival, festival_texts = _load(folder / "test-festival")
    rng = np.random.default_rng(10)
    noisy = [augment.add_noise(x, augment.noise(len(x), rng), 10.0) for x in free]
    return [
        HeldOutSet("clean", free, texts),
        HeldOutSet("noise_10db", noisy, texts),
        HeldOutSet("telephone", [augment.telephone(x) for x in free], texts),
        HeldOutSet("festival", festival, festival_texts),
    ]


def error_rate(references: list[str], hypotheses: list[str]) -> float:
    """Return the WER after Whisper's English normaliser."""
    normalise = _normaliser()
    pairs = [(normalise(r), normalise(h)) for r, h in zip(references, hypotheses, strict=True)]
    return float(jiwer.wer([r for r, _ in pairs], [h for _, h in pairs]))


@torch.inference_mode()
def transcribe(
    model: Trainee, vocabulary: Vocabulary, audio: list[np.ndarray], device: torch.device
) -> list[str]:
    """Return the greedy text of each recording, batches of similar length, context fitted."""
    order = sorted(range(len(audio)), key=lambda k: len(audio[k]))
    texts = [""] * len(audio)
    for first in range(0, len(order), _BATCH):
        chosen = order[first : first + _BATCH]
        features = model.encode(log_mel(_padded([audio[k] for k in chosen]).to(device)))
        for k, rows in zip(chosen, greedy(model, vocabulary, features), strict=True):
            texts[k] = vocabulary.decode(rows).strip()
    return texts


def transcribe_with_whisper(model: Whisper, audio: list[np.ndarray], timed: bool) -> list[str]:
    """Return what unmodified ``whisper.decode`` reads in windows padded to 30 s."""
    options = DecodingOptions(language="en", fp16=False, without_timestamps=not timed, sample_len=_TOKENS_MAX)
    texts: list[str] = []
    for first in range(0, len(audio), _BATCH):
        mel = log_mel(_padded(audio[first : first + _BATCH], seconds=30.0))
        texts += [result.text for result in whisper_decode(model, mel, options)]
    return texts


def greedy(model: Trainee, v: Vocabulary, features: Tensor, tokens_max: int = _TOKENS_MAX) -> list[list[int]]:
    """Return the most probable text rows, without timestamps, for features (B, T, width)."""
    n = len(features)
    tokens = torch.tensor([[v.start, v.no_timestamps]] * n, device=features.device)
    ended = torch.zeros(n, dtype=torch.bool, device=features.device)
    for _ in range(tokens_max):
        hidden, _ = model.decode(tokens, features)
        # Text and, right behind it, <|endoftext|>: what follows is never written without timestamps.
        following = model.logits(hidden[:, -1])[:, : v.n_text + 1].argmax(dim=-1)
        following = torch.where(ended, v.end, following)
        ended |= following == v.end
        tokens = torch.cat([tokens, following.unsqueeze(1)], dim=1)
        if bool(ended.all()):
            break
    return [[t for t in row if t < v.n_text] for row in tokens[:, 2:].tolist()]


def measure(
    model: Trainee, vocabulary: Vocabulary, sets: list[HeldOutSet], device: torch.device
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Return the WER of each set, and the first set's references with what was understood."""
    rates: dict[str, float] = {}
    shown: list[tuple[str, str]] = []
    for test in sets:
        texts = transcribe(model, vocabulary, test.audio, device)
        rates[test.name] = error_rate(test.texts, texts)
        shown = shown or list(zip(test.texts, texts, strict=True))
    return rates, shown


@cache
def _normaliser() -> EnglishTextNormalizer:
    with warnings.catch_warnings():
        # whisper leaves closing its table of spellings to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return EnglishTextNormalizer()


def _load(path: Path) -> tuple[list[np.ndarray], list[str]]:
    shard = read_shard(path)
    return [shard.audio(k) for k in range(len(shard.utterances))], [u.text for u in shard.utterances]


def _padded(audio: list[np.ndarray], seconds: float = 0.0) -> Tensor:
    """Return float32 (B, n), n a multiple of one encoder position and at least ``seconds`` long."""
    lead, tail = round(_LEAD_S * SAMPLE_RATE_HZ), round(_TAIL_S * SAMPLE_RATE_HZ)
    longest = max(max(map(len, audio)) + lead + tail, round(seconds * SAMPLE_RATE_HZ))
    n = -(-longest // 320) * 320
    batch = np.zeros((len(audio), n), np.float32)
    for k, samples in enumerate(audio):
        batch[k, lead : lead + len(samples)] = samples
    return torch.from_numpy(batch)
