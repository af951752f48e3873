"""A batch of jobs in, a batch of texts out: Whisper behind the one method that the worker needs."""

import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Task, Tier, Word
from stream_server.core.settings import ModelFacts
from stream_server.engine.accelerator import is_accelerator, lower_precision
from stream_server.engine.access import NO_ACCESS, ModelAccess
from stream_server.engine.alignment import POSITION_S, TimedWord
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.ladder import Ladder, Reading, Request
from stream_server.engine.manifest import read_manifest
from stream_server.engine.model import choose_device, facts_of, load_whisper
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.sureness import least_within
from stream_server.engine.windows import log_mels, window_samples

POSITION_SAMPLES = round(POSITION_S * SAMPLE_RATE_HZ)
TOKENS_PER_S = 12
TOKENS_BASE = 16
"""Fast speech is about 5 tokens a second; more than 12 is a loop. Short windows get the base."""


class Transcriber(Protocol):
    """What the engine's process needs of a model."""

    facts: ModelFacts
    n_bytes: int
    """Memory that the weights take."""

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """One result for each job, in their order."""


class WhisperTranscriber:
    """Whisper weights from a model folder.

    Raises:
        ModelError: See ``load_whisper``.
    """

    def __init__(self, folder: Path, device: str, access: ModelAccess = NO_ACCESS) -> None:
        self._manifest = read_manifest(folder, access.trust)
        self._device = choose_device(device)
        model = load_whisper(folder, self._manifest, self._device, access)
        # Half precision on a CPU is slow.
        self._dtype = torch.float16 if is_accelerator(self._device) else torch.float32
        if self._dtype != torch.float32:
            lower_precision(model, self._dtype)
        self._decoder = BatchDecoder(model, self._manifest.language)
        self._ladder = Ladder(self._decoder, self._manifest.guard)
        self.facts = facts_of(self._manifest)
        self.n_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())

    @property
    def n_passes(self) -> int:
        """Passes of the text decoder over a batch so far."""
        return self._decoder.n_passes

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """Decode a batch; windows of one length are encoded together, and all are decoded together."""
        problems = [job.problem(self.facts.languages) for job in batch.jobs]
        pairs = list(zip(batch.jobs, problems, strict=True))
        read = [job for job, problem in pairs if problem is None]
        answers = iter(self._decode(read) if read else [])
        now_s = time.monotonic()
        return [
            next(answers)
            if problem is None
            else job.answered(text="", language=None, now_s=now_s, problem=problem)
            for job, problem in pairs
        ]

    def _decode(self, jobs: list[DecodeJob]) -> list[DecodeResult]:
        features, lengths = self._encode(jobs)
        requests = [self._request(job) for job in jobs]
        readings = self._ladder.read(features, requests, lengths)
        words = self._time_words(features, lengths, jobs, requests, readings)
        now_s = time.monotonic()
        return [
            _answer(job, reading, words.get(i, ()), now_s)
            for i, (job, reading) in enumerate(zip(jobs, readings, strict=True))
        ]

    def _encode(self, jobs: list[DecodeJob]) -> tuple[Tensor, list[int]]:
        """Audio features (B, T, D), zeros behind those of short windows, and each window's positions."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, job in enumerate(jobs):
            by_length[window_samples(job.n_samples, self._manifest)].append(i)
        n_mels = self._manifest.dims.n_mels
        parts = []
        for n_window, members in by_length.items():
            mel = log_mels([bytes(jobs[i].pcm) for i in members], n_window, n_mels, self._device)
            parts.append((members, self._decoder.encode(mel.to(self._dtype))))
        if len(parts) == 1:
            features = parts[0][1]
            return features, [features.shape[1]] * len(jobs)
        lengths = [0] * len(jobs)
        n_positions = max(part.shape[1] for _, part in parts)
        features = parts[0][1].new_zeros(len(jobs), n_positions, parts[0][1].shape[2])
        for members, part in parts:
            features[members, : part.shape[1]] = part
            for i in members:
                lengths[i] = part.shape[1]
        return features, lengths

    def _time_words(
        self,
        features: Tensor,
        lengths: list[int],
        jobs: list[DecodeJob],
        requests: list[Request],
        readings: list[Reading],
    ) -> dict[int, tuple[Word, ...]]:
        """Words by the place of their job, of the jobs that ask for them and have a text."""
        rows = [i for i, job in enumerate(jobs) if job.word_times and readings[i].decoded.text]
        if not rows:
            return {}
        timed = self._decoder.time_words(
            features[rows],
            [readings[i].decoded for i in rows],
            [requests[i].options for i in rows],
            [min(lengths[i], jobs[i].n_samples // POSITION_SAMPLES) for i in rows],
            [lengths[i] for i in rows],
        )
        return {i: _words(jobs[i], words, readings[i].decoded) for i, words in zip(rows, timed, strict=True)}

    def _request(self, job: DecodeJob) -> Request:
        cap = TOKENS_BASE + int(TOKENS_PER_S * job.n_samples / SAMPLE_RATE_HZ)
        prompt = job.prompt if self._manifest.prompts else ""
        options = DecodeOptions(
            language=job.language,
            task=job.task.value,
            tokens_max=min(cap, self._manifest.dims.n_text_ctx // 2),
            prompt=self._decoder.tokens_of(prompt),
            draft=job.draft,
            # Of the audio, so that the same audio has the same transcript in any session.
            seed=zlib.crc32(bytes(job.pcm)),
            beam=job.beam,
        )
        return Request(options, job.n_samples / SAMPLE_RATE_HZ, prompt, job.final or job.early)


def _words(job: DecodeJob, timed: Sequence[TimedWord], decoded: Decoded) -> tuple[Word, ...]:
    """Words whose texts joined are what was said, which begins without a space and may end within a token."""
    words: list[Word] = []
    at = 0
    for word in timed:
        said = (word.text if words else word.text.lstrip())[: len(decoded.text) - at]
        if said:
            start, end = (job.start + round(bound * SAMPLE_RATE_HZ) for bound in (word.start_s, word.end_s))
            here = slice(at, at + len(said))
            words.append(Word(said, start, end, least_within(here, decoded.text, decoded.word_probabilities)))
            at = here.stop
    return tuple(words)


def _answer(job: DecodeJob, reading: Reading, words: tuple[Word, ...], now_s: float) -> DecodeResult:
    decoded = reading.decoded
    return job.answered(
        text=decoded.text,
        language=decoded.language,
        now_s=now_s,
        avg_logprob=decoded.avg_logprob,
        no_speech_prob=decoded.no_speech_prob,
        tokens=decoded.tokens,
        words=words,
        word_probabilities=decoded.word_probabilities,
        temperature=reading.temperature,
        retried=reading.retried,
        dropped=reading.dropped,
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
        tier=Tier.LIVE,
        hops=Hops(),
    )
    for n_jobs in (1, batch_max):
        transcriber.transcribe(Batch((job,) * n_jobs))
