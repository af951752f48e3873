"""A batch of jobs in, a batch of texts out: Whisper behind the one method that the worker needs."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Protocol

import torch

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Task
from stream_server.core.settings import ModelFacts
from stream_server.engine.decoder import GreedyDecoder
from stream_server.engine.manifest import read_manifest
from stream_server.engine.model import choose_device, facts_of, load_whisper
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.windows import log_mel, window_samples

TOKENS_PER_S = 12
TOKENS_BASE = 16
"""Fast speech is about 5 tokens a second; more than 12 is a loop. Short windows get the base."""


class Transcriber(Protocol):
    """What the engine's process needs of a model."""

    facts: ModelFacts

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """One result for each job, in their order."""


class WhisperTranscriber:
    """Whisper weights from a model folder.

    Raises:
        ModelError: See ``load_whisper``.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._manifest = read_manifest(folder)
        self._device = choose_device(device)
        model = load_whisper(folder, self._manifest, self._device)
        # whisper's modules cast their float32 weights to the input's type; half precision on CPU is slow.
        self._dtype = torch.float16 if self._device.type == "cuda" else torch.float32
        self._decoder = GreedyDecoder(model, self._manifest.language)
        self.facts = facts_of(self._manifest)

    @property
    def n_passes(self) -> int:
        """Passes of the text decoder over a batch so far."""
        return self._decoder.n_passes

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """Decode a batch; jobs whose windows have one length share a pass."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, job in enumerate(batch.jobs):
            by_length[window_samples(job.n_samples, self._manifest)].append(i)
        decoded: dict[int, Decoded] = {}
        for n_window, members in by_length.items():
            rows = self._decode([batch.jobs[i] for i in members], n_window)
            decoded.update(zip(members, rows, strict=True))
        now_s = time.monotonic()
        return [_answer(job, decoded[i], now_s) for i, job in enumerate(batch.jobs)]

    def _decode(self, jobs: list[DecodeJob], n_window: int) -> list[Decoded]:
        n_mels = self._manifest.dims.n_mels
        mel = torch.stack([log_mel(job.pcm, n_window, n_mels, self._device) for job in jobs])
        return self._decoder.decode(mel.to(self._dtype), [self._options(job) for job in jobs])

    def _options(self, job: DecodeJob) -> DecodeOptions:
        cap = TOKENS_BASE + int(TOKENS_PER_S * job.n_samples / SAMPLE_RATE_HZ)
        tokens_max = min(cap, self._manifest.dims.n_text_ctx // 2)
        # Without a hypothesis, a guess at the end saves a pass and costs a place in each: on a CPU a batch
        # of 8 took 1.17 times as long.
        return DecodeOptions(job.language, job.task.value, tokens_max, draft=job.draft or None)


def _answer(job: DecodeJob, decoded: Decoded, now_s: float) -> DecodeResult:
    return job.answered(
        text=decoded.text,
        language=decoded.language,
        now_s=now_s,
        avg_logprob=decoded.avg_logprob,
        no_speech_prob=decoded.no_speech_prob,
        tokens=decoded.tokens,
    )


def warm_up(transcriber: Transcriber, batch_max: int) -> None:
    """Decode silence once alone and once in a full batch, so that no client pays for first calls."""
    job = DecodeJob(
        session=SessionId("warm-up"),
        segment=0,
        revision=1,
        final=True,
        start=0,
        pcm=bytes(2 * 2 * SAMPLE_RATE_HZ),
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
    )
    for n_jobs in (1, batch_max):
        transcriber.transcribe(Batch((job,) * n_jobs))
