"""What comes out for a row equals ``whisper.decode`` of its window, whatever else is in the batch.

The reference is unmodified whisper, one window at a time; for a window fitted to T positions it is a
whisper whose audio context is T. Tokens may differ only where the reference's two best logits lie so
near that rounding decides: such rows are counted, and compared up to that token by their prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import models
import numpy as np
import pytest
import soundfile
import torch
import whisper
from torch import Tensor
from whisper.audio import log_mel_spectrogram
from whisper.decoding import SuppressBlank, SuppressTokens
from whisper.model import Whisper

from stream_server.engine.decoder import Decoded, DecodeOptions, GreedyDecoder
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper

pytestmark = pytest.mark.model

NEAR = 1e-3
LOGPROB_TOLERANCE = 1e-4
NO_SPEECH_TOLERANCE = 1e-5
FULL_SAMPLES = 480_000


@dataclass(frozen=True)
class Case:
    """A model, some windows of one length, what each is asked for, and what whisper says."""

    reference: Whisper
    decoder: GreedyDecoder
    mels: Tensor
    options: list[DecodeOptions]
    expected: list[whisper.DecodingResult]

    def decode(self, rows: Sequence[int]) -> list[Decoded]:
        return self.decoder.decode(self.mels[list(rows)], [self.options[i] for i in rows])


def make_case(model: Whisper, mels: Tensor, options: list[DecodeOptions]) -> Case:
    models.tokenizer_of(model)
    reference = models.fitted_reference(model, mels.shape[-1] // 2)
    expected = [_whisper_says(reference, mel, row) for mel, row in zip(mels, options, strict=True)]
    return Case(reference, GreedyDecoder(model, "en"), mels, options, expected)


def _whisper_says(reference: Whisper, mel: Tensor, row: DecodeOptions) -> whisper.DecodingResult:
    result = whisper.decode(reference, mel, _whisper_options(reference, row))
    assert isinstance(result, whisper.DecodingResult)
    return result


def _whisper_options(reference: Whisper, row: DecodeOptions) -> whisper.DecodingOptions:
    return whisper.DecodingOptions(
        task=row.task,
        # whisper does not detect the one language of an English model.
        language=row.language if reference.is_multilingual else "en",
        sample_len=row.tokens_max,
        without_timestamps=True,
        fp16=False,
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
    assert row.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=NO_SPEECH_TOLERANCE)
    if list(row.tokens) == expected.tokens:
        assert row.text == expected.text
        assert row.avg_logprob == pytest.approx(expected.avg_logprob, abs=LOGPROB_TOLERANCE)
        return False
    assert _margin(case, i, row.tokens) < NEAR, (row, expected)
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
            DecodeOptions(case.expected[i].language, case.options[i].task, case.options[i].tokens_max),
        ),
    )
    sequence = torch.tensor([[*task.initial_tokens, *theirs[:n_shared]]])
    logits = case.reference(case.mels[i : i + 1], sequence)[:, -1]
    for logit_filter in task.logit_filters:
        assert isinstance(logit_filter, SuppressBlank | SuppressTokens)
        logit_filter.apply(logits, sequence)
    best, second = logits[0].topk(2).values.tolist()
    return float(best - second)


# ---------------------------------------------------------------- random weights


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


@pytest.fixture(scope="module")
def multilingual() -> Whisper:
    return models.random_whisper(models.tiny(n_layer=2), seed=0)


@pytest.fixture(scope="module")
def english() -> Whisper:
    return models.random_whisper(models.tiny(n_layer=2, n_vocab=models.ENGLISH_VOCAB), seed=3)


@pytest.fixture(scope="module")
def fitted(multilingual: Whisper) -> Case:
    return make_case(multilingual, sounds(8, 48_000), MIXED)


@pytest.mark.parametrize("n_rows", range(1, 9))
def test_a_batch_of_fitted_windows_says_what_whisper_says_of_each(fitted: Case, n_rows: int) -> None:
    # The batch rotates, so that rows stand at all places beside all neighbours.
    rows = [(n_rows + i) % 8 for i in range(n_rows)]
    assert rows_near(fitted, rows, fitted.decode(rows)) <= 1


def test_the_cases_are_telling(fitted: Case) -> None:
    lengths = {len(result.tokens) for result in fitted.expected}
    texts = {result.text for result in fitted.expected}
    assert len(lengths) >= 4
    assert len(texts) >= 7
    assert any(
        len(result.tokens) < row.tokens_max for result, row in zip(fitted.expected, MIXED, strict=True)
    )


def test_one_batch_of_30_s_windows_says_what_whisper_says_of_each(multilingual: Whisper) -> None:
    case = make_case(multilingual, sounds(3, FULL_SAMPLES), MIXED[1:4])
    assert rows_near(case, range(3), case.decode(range(3))) <= 1


@pytest.mark.parametrize("n_samples", [8_000, 80_000, FULL_SAMPLES])
def test_an_english_model_says_what_whisper_says(english: Whisper, n_samples: int) -> None:
    n_rows = 2 if n_samples == FULL_SAMPLES else 8
    case = make_case(english, sounds(n_rows, n_samples), ENGLISH[:n_rows])
    assert rows_near(case, range(n_rows), case.decode(range(n_rows))) <= 1


def test_128_mels_and_the_language_added_last_say_what_whisper_says() -> None:
    model = models.random_whisper(models.large_v3(n_layer=1, n_head=6), seed=3)
    options = [DecodeOptions("yue", "transcribe", 6), DecodeOptions(None, "translate", 6), MIXED[1]]
    case = make_case(model, sounds(3, 32_000, n_mels=128), options)
    assert rows_near(case, range(3), case.decode(range(3))) == 0


# ---------------------------------------------------------------- one row and its neighbours


def test_a_row_alone_is_the_row_in_a_batch(fitted: Case) -> None:
    together = fitted.decode(range(8))
    for i, row in enumerate(together):
        (alone,) = fitted.decode([i])
        assert (alone.tokens, alone.text, alone.language) == (row.tokens, row.text, row.language)
        assert alone.avg_logprob == pytest.approx(row.avg_logprob, abs=LOGPROB_TOLERANCE)
        assert alone.no_speech_prob == pytest.approx(row.no_speech_prob, abs=NO_SPEECH_TOLERANCE)


def test_a_loud_and_talkative_neighbour_changes_nothing(fitted: Case) -> None:
    soft = 7
    for neighbour in range(7):
        assert rows_near(fitted, [soft, neighbour], fitted.decode([soft, neighbour])) == 0


def test_equal_windows_asked_for_differently_are_told_apart(fitted: Case) -> None:
    options = [DecodeOptions(code, "transcribe", 6) for code in ("de", "fr", "zh", "de")]
    rows = fitted.decoder.decode(fitted.mels[:1].expand(4, -1, -1), options)
    assert [row.language for row in rows] == ["de", "fr", "zh", "de"]
    assert rows[0].tokens == rows[3].tokens
    assert len({row.tokens for row in rows}) == 3


def test_the_language_is_detected_for_each_row_by_itself() -> None:
    model = models.random_whisper(models.tiny(n_layer=2), seed=3)
    case = make_case(model, sounds(6, 48_000), [DecodeOptions(None, "transcribe", 1)] * 6)
    assert len({result.language for result in case.expected}) >= 3
    assert rows_near(case, range(6), case.decode(range(6))) == 0


def test_no_row_says_more_tokens_than_it_may(fitted: Case) -> None:
    assert all(
        len(row.tokens) <= options.tokens_max
        for row, options in zip(fitted.decode(range(8)), MIXED, strict=True)
    )


def test_decoding_leaves_nothing_behind(fitted: Case) -> None:
    assert fitted.decode([2, 0]) == fitted.decode([2, 0])


# ---------------------------------------------------------------- the embedded model


@pytest.fixture(scope="module")
def speech() -> dict[int, list[Tensor]]:
    """Mels of the included recordings by their fitted length, samples."""
    from importlib import resources

    manifest = read_manifest(embedded_model())
    by_length: dict[int, list[Tensor]] = {}
    recordings = resources.files("stream_server") / "assets" / "recordings"
    for number in range(1, 13):
        samples, rate = soundfile.read(str(recordings / f"{number:02}.flac"), dtype="float32")
        assert rate == 16_000
        n_window = -(-(len(samples) + round(manifest.context_tail_s * rate)) // 8_000) * 8_000
        padded = whisper.pad_or_trim(samples, n_window)
        by_length.setdefault(n_window, []).append(log_mel_spectrogram(padded))
    return by_length


def test_the_embedded_model_says_of_the_recordings_what_whisper_says(
    speech: dict[int, list[Tensor]],
) -> None:
    model = load_whisper(embedded_model(), read_manifest(embedded_model()), torch.device("cpu"))
    n_near = 0
    for mels in speech.values():
        options = [DecodeOptions(None, "transcribe", 50)] * len(mels)
        case = make_case(model, torch.stack(mels), options)
        assert all(result.text.endswith((".", "?")) for result in case.expected)
        n_near += rows_near(case, range(len(mels)), case.decode(range(len(mels))))
    assert n_near == 0
