"""What comes out for a row equals ``whisper.decode`` of its window, whatever else is in the batch.

The reference is unmodified whisper, one window at a time; for a window fitted to T positions it is a
whisper whose audio context is T. Tokens may differ only where the reference's two best logits lie so
near that rounding decides: such rows are counted, and compared up to that token by their prefix.
"""

import models
import pytest
import soundfile
import torch
import whisper
from parity import (
    ENGLISH,
    EXACT,
    FULL_SAMPLES,
    MIXED,
    RICH,
    Case,
    make_case,
    prompt_of,
    rows_near,
    sounds,
)
from torch import Tensor
from whisper.audio import log_mel_spectrogram
from whisper.model import Whisper

from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.rows import DecodeOptions

pytestmark = pytest.mark.model

# ---------------------------------------------------------------- random weights


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
        assert alone.avg_logprob == pytest.approx(row.avg_logprob, abs=EXACT.logprob)
        assert alone.no_speech_prob == pytest.approx(row.no_speech_prob, abs=EXACT.no_speech)


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


# ---------------------------------------------------------------- prompts and timestamps


@pytest.fixture(scope="module")
def rich(multilingual: Whisper) -> Case:
    return make_case(multilingual, sounds(8, 40_000), RICH)


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 8])
def test_rows_with_prompts_and_timestamps_share_a_batch(rich: Case, n_rows: int) -> None:
    n_near = 0
    for first in range(8):
        rows = [(first + i) % 8 for i in range(n_rows)]
        n_near += rows_near(rich, rows, rich.decode(rows))
    assert n_near <= 1


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_row_ends_where_the_context_of_the_text_ends(timestamps: bool) -> None:
    model = models.random_whisper(models.tiny(n_layer=1), seed=1)
    # Without an end of its own, a row that may say everything runs into the wall.
    model.decoder.ln.bias.data.zero_()
    options = [DecodeOptions("en", "transcribe", 224, prompt_of(n), timestamps) for n in (300, 0, 218)]
    case = make_case(model, sounds(3, 8_000), options)
    decoded = case.decode(range(3))
    assert rows_near(case, range(3), decoded) <= 1
    if not timestamps:
        assert [len(row.tokens) for row in decoded] == [448 + 1 - 228, 224, 224]


@pytest.mark.parametrize("seed", range(3))
def test_timestamps_follow_whispers_rules(seed: int) -> None:
    model = models.random_whisper(models.tiny(n_layer=1), seed=seed)
    # Timestamps of these weights are about as likely as text.
    model.decoder.token_embedding.weight.data[models.tokenizer_of(model).timestamp_begin :] *= 1.3
    limits_s = [1.0, None, 0.02, 0.5]
    options = [
        DecodeOptions("en", "transcribe", 24, timestamps=True, initial_timestamp_s_max=limit_s)
        for limit_s in limits_s
    ]
    case = make_case(model, sounds(4, 24_000), options)
    assert rows_near(case, range(4), case.decode(range(4))) <= 1
    begin = models.tokenizer_of(model).timestamp_begin
    assert all(token >= begin for row in case.expected for token in row.tokens[:1])


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
