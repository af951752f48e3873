"""Windows, what they are asked for, and what unmodified whisper says of each, one at a time.

For a window fitted to T positions the reference is a whisper whose audio context is T. Tokens may differ
only where the reference's two best logits lie so near that rounding decides.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import models
import numpy as np
import pytest
import torch
import whisper
from torch import Tensor
from whisper.audio import log_mel_spectrogram
from whisper.model import Whisper

from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.rows import Decoded, DecodeOptions

FULL_SAMPLES = 480_000


@dataclass(frozen=True)
class Tolerances:
    """How far numbers may lie from whisper's."""

    near: float
    """Between whisper's two best logits, or candidates of its beam search, where rounding decides."""
    logprob: float
    no_speech: float


EXACT = Tolerances(near=1e-3, logprob=1e-4, no_speech=1e-5)
"""float32 on a CPU."""
DEVICE = Tolerances(near=1e-2, logprob=1e-3, no_speech=1e-4)
"""float32 on an accelerator, whose products are added up in other orders for other shapes."""
HALF = Tolerances(near=0.25, logprob=0.03, no_speech=1e-2)
"""float16: eleven bits, and logits up to 30, which so lie 1/64 apart."""


@dataclass(frozen=True)
class Case:
    """A model, some windows of one length, what each is asked for, and what whisper says."""

    reference: Whisper
    decoder: BatchDecoder
    mels: Tensor
    options: list[DecodeOptions]
    expected: list[whisper.DecodingResult]
    tolerances: Tolerances = EXACT

    def decode(self, rows: Sequence[int]) -> list[Decoded]:
        return self.decoder.decode(self.mels[list(rows)], [self.options[i] for i in rows])


def make_case(model: Whisper, mels: Tensor, options: list[DecodeOptions]) -> Case:
    models.tokenizer_of(model)
    reference = models.fitted_reference(model, mels.shape[-1] // 2)
    expected = [_whisper_says(reference, mel, row) for mel, row in zip(mels, options, strict=True)]
    return Case(reference, BatchDecoder(model, "en"), mels, options, expected)


def _whisper_says(reference: Whisper, mel: Tensor, row: DecodeOptions) -> whisper.DecodingResult:
    with _numpy_left_alone():
        result = whisper.decode(reference, mel, _whisper_options(reference, row, mel.dtype))
    assert isinstance(result, whisper.DecodingResult)
    return result


@contextmanager
def _numpy_left_alone() -> Iterator[None]:
    with warnings.catch_warnings():
        # whisper's beam search sorts tensors with numpy, which torch does not support to its liking.
        warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)
        yield


def _whisper_options(reference: Whisper, row: DecodeOptions, dtype: torch.dtype) -> whisper.DecodingOptions:
    limit_s = row.initial_timestamp_s_max
    # whisper takes the step of timestamps from the audio context, which a fitted reference has cut.
    stretch = 1_500 / reference.dims.n_audio_ctx
    return whisper.DecodingOptions(
        task=row.task,
        # whisper does not detect the one language of an English model.
        language=row.language if reference.is_multilingual else "en",
        sample_len=row.tokens_max,
        prompt=list(row.prompt) or None,
        without_timestamps=not row.timestamps,
        max_initial_timestamp=None if limit_s is None else limit_s * stretch,
        fp16=dtype == torch.float16,
        beam_size=row.beam and row.beam.size,
        patience=row.beam and row.beam.patience,
        length_penalty=row.beam and row.beam.length_penalty,
    )


def sounds(n_rows: int, n_samples: int, n_mels: int = 80) -> Tensor:
    """float32 (n_rows, n_mels, n_samples / 160): tones, beats and noise, from very soft to clipped."""
    random = np.random.default_rng(n_samples + n_mels)
    times = np.arange(n_samples) / 16_000
    rows = []
    for i in range(n_rows):
        tone = np.sin(2 * np.pi * random.uniform(80, 2_000) * times)
        beat = np.sin(2 * np.pi * random.uniform(0.2, 4) * times) > random.uniform(-0.5, 0.5)
        sound = 10 ** (-i / 2) * (tone + random.normal(size=n_samples)) * beat
        rows.append(log_mel_spectrogram(np.clip(sound, -1, 1).astype(np.float32), n_mels))
    return torch.stack(rows)


def rows_near(case: Case, rows: Sequence[int], decoded: list[Decoded]) -> int:
    """Check every row; returns how many differ where whisper itself was undecided."""
    return sum(_is_near(case, i, row) for i, row in zip(rows, decoded, strict=True))


def _is_near(case: Case, i: int, row: Decoded) -> bool:
    expected = case.expected[i]
    assert row.language == expected.language
    assert row.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=case.tolerances.no_speech)
    if list(row.tokens) == expected.tokens:
        assert row.text == expected.text
        assert row.avg_logprob == pytest.approx(expected.avg_logprob, abs=case.tolerances.logprob)
        return False
    margin = _margin(case, i, row.tokens) if case.options[i].beam is None else _beam_margin(case, i)
    assert margin < case.tolerances.near, (margin, row, expected)
    return True


def _margin(case: Case, i: int, tokens: Sequence[int]) -> float:
    """How far apart whisper's two best logits lie where ``tokens`` leave its own."""
    tokenizer = models.tokenizer_of(case.reference)
    eot = tokenizer.eot
    theirs = [*case.expected[i].tokens, eot]
    n_shared = next(n for n, (a, b) in enumerate(zip([*tokens, eot], theirs, strict=False)) if a != b)
    task = whisper.decoding.DecodingTask(
        case.reference,
        _whisper_options(
            case.reference,
            dataclasses.replace(case.options[i], language=case.expected[i].language),
            case.mels.dtype,
        ),
    )
    sequence = torch.tensor([[*task.initial_tokens, *theirs[:n_shared]]], device=case.mels.device)
    logits = case.reference(case.mels[i : i + 1], sequence)[:, -1]
    for logit_filter in task.logit_filters:
        logit_filter.apply(logits, sequence)
    best, second = logits[0].topk(2).values.tolist()
    return float(best - second)


class _Watched(whisper.decoding.BeamSearchDecoder):
    """whisper's beam search, and how narrowly it decided what lives on."""

    def __init__(self, plain: whisper.decoding.BeamSearchDecoder) -> None:
        super().__init__(plain.beam_size, plain.eot, plain.inference, plain.patience)
        self.margin = float("inf")

    def update(self, tokens: Tensor, logits: Tensor, sum_logprobs: Tensor) -> tuple[Tensor, bool]:
        offers = logits.log_softmax(dim=-1).topk(self.beam_size + 1)
        totals = {}
        for row, total in enumerate(sum_logprobs.tolist()):
            prefix = tuple(tokens[row].tolist())
            pairs = zip(offers.indices[row].tolist(), offers.values[row].tolist(), strict=True)
            totals.update({(*prefix, token): total + logprob for token, logprob in pairs})
        ranked = sorted(totals.items(), key=lambda item: item[1], reverse=True)
        alive = [i for i, (sequence, _) in enumerate(ranked) if sequence[-1] != self.eot][: self.beam_size]
        last = alive[-1]
        if last + 1 < len(ranked):
            self.margin = min(self.margin, ranked[last][1] - ranked[last + 1][1])
        # An end counts if it ranks before the last that lives on.
        if last > 0 and ranked[last - 1][0][-1] == self.eot:
            self.margin = min(self.margin, ranked[last - 1][1] - ranked[last][1])
        return super().update(tokens, logits, sum_logprobs)


def _beam_margin(case: Case, i: int) -> float:
    """How far apart, in log-probability, whisper's nearest two candidates were where it had to choose."""
    options = dataclasses.replace(case.options[i], language=case.expected[i].language)
    task = whisper.decoding.DecodingTask(
        case.reference, _whisper_options(case.reference, options, case.mels.dtype)
    )
    task.decoder = watched = _Watched(task.decoder)
    ranker = task.sequence_ranker
    found: list[float] = []

    def rank(tokens: list[list[Tensor]], sums: list[list[float]]) -> list[int]:
        lengths = [len(sequence) for sequence in tokens[0]]
        alpha = ranker.length_penalty
        penalties = lengths if alpha is None else [((5 + n) / 6) ** alpha for n in lengths]
        scores = sorted(total / penalty for total, penalty in zip(sums[0], penalties, strict=True))
        found.extend(b - a for a, b in zip(scores[-2:-1], scores[-1:], strict=True))
        return ranker.rank(tokens, sums)

    task.sequence_ranker = SimpleNamespace(rank=rank)
    with _numpy_left_alone():
        task.run(case.mels[i : i + 1])
    return min([watched.margin, *found])


def prompt_of(n_tokens: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed + n_tokens).integers(0, 50_000, n_tokens).tolist())


RICH = [
    DecodeOptions("de", "transcribe", 12, prompt_of(5)),
    DecodeOptions(None, "translate", 9, prompt_of(1), timestamps=True),
    DecodeOptions(None, "transcribe", 12, timestamps=True, initial_timestamp_s_max=None),
    DecodeOptions("fr", "transcribe", 6),
    DecodeOptions("en", "transcribe", 12, prompt_of(223)),
    DecodeOptions("en", "translate", 7, prompt_of(224), timestamps=True, initial_timestamp_s_max=0.1),
    DecodeOptions(None, "transcribe", 12, prompt_of(40)),
    DecodeOptions("zh", "transcribe", 12, prompt_of(400)),
]


MIXED = [
    DecodeOptions(None, "transcribe", 12),
    DecodeOptions("de", "transcribe", 12),
    DecodeOptions(None, "translate", 3),
    DecodeOptions("yo", "translate", 12),
    DecodeOptions("en", "transcribe", 1),
    DecodeOptions(None, "transcribe", 7),
    DecodeOptions("fr", "transcribe", 12),
    DecodeOptions("zh", "translate", 5),
]
ENGLISH = [DecodeOptions([None, "en"][i % 2], "transcribe", 3 + i) for i in range(8)]
