"""Windows of several lengths share the passes of a batch, and each is read as if it were alone."""

import dataclasses
from collections.abc import Sequence

import models
import msgspec
import pytest
import soundfile
import torch
from parity import prompt_of, sounds
from torch import Tensor
from whisper.model import Whisper

from stream_server.core.jobs import Batch
from stream_server.core.messages import BeamSearch, Tier
from stream_server.engine.choice import ChosenModel, bucket_of
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.guard import Thresholds
from stream_server.engine.ladder import Ladder, Request
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.transcriber import WhisperTranscriber

pytestmark = pytest.mark.model

SAMPLES = (48_000, 8_000, 32_000, 48_000, 16_000, 8_000)
OPTIONS = [
    DecodeOptions("de", "transcribe", 12),
    DecodeOptions(None, "transcribe", 9, draft=()),
    DecodeOptions("en", "translate", 10, prompt_of(5), timestamps=True),
    DecodeOptions(None, "transcribe", 4, draft=(5, 6)),
    DecodeOptions("fr", "transcribe", 12, temperature=0.4, seed=3),
    DecodeOptions("en", "transcribe", 7, timestamps=True),
]
BEAMS = [
    dataclasses.replace(row, beam=BeamSearch(3), temperature=0.0) if i % 2 == 0 else row
    for i, row in enumerate(OPTIONS)
]
FAILING = Thresholds(logprob_min=0.0, logprob_floor=-100.0, chars_per_s_max=1e9, compression_ratio_max=1e9)


@pytest.fixture(scope="module")
def model() -> Whisper:
    model = models.random_whisper(models.tiny(n_layer=2), seed=0)
    models.tokenizer_of(model)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["on-host", "on-device"])
def decoder(model: Whisper, request: pytest.FixtureRequest) -> BatchDecoder:
    return BatchDecoder(model, None, chooses_on_device=request.param)


def windows(decoder: BatchDecoder) -> list[Tensor]:
    """The features (1, T, D) of each window."""
    return [decoder.encode(sounds(6, n_samples)[i : i + 1]) for i, n_samples in enumerate(SAMPLES)]


def filled_up(features: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """All of them as one, with noise behind the short ones: nobody must listen to it."""
    lengths = [one.shape[1] for one in features]
    torch.manual_seed(0)
    together = torch.randn(len(features), max(lengths), features[0].shape[2]) * 10
    for row, one in zip(together, features, strict=True):
        row[: one.shape[1]] = one[0]
    return together, lengths


def assert_same(together: Sequence[Decoded], alone: Sequence[Decoded]) -> None:
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert [row.language for row in together] == [row.language for row in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-5)


@pytest.mark.parametrize("options", [OPTIONS, BEAMS], ids=["greedy", "some-searched"])
def test_windows_of_several_lengths_are_read_as_if_alone(
    decoder: BatchDecoder, options: list[DecodeOptions]
) -> None:
    features = windows(decoder)
    alone = [decoder.decode_features(one, [asked])[0] for one, asked in zip(features, options, strict=True)]
    together, lengths = filled_up(features)
    assert_same(decoder.decode_features(together, options, lengths), alone)
    # The other way round, rows end and close up in another order.
    backwards = decoder.decode_features(together.flip(0), options[::-1], lengths[::-1])
    assert_same(backwards[::-1], alone)
    # And the same slots again, now without a mask.
    assert_same(decoder.decode_features(features[0], options[:1]), alone[:1])


def test_what_fills_up_a_window_would_be_heard_without_their_lengths(decoder: BatchDecoder) -> None:
    together, lengths = filled_up(windows(decoder))
    told = decoder.decode_features(together, OPTIONS, lengths)
    untold = decoder.decode_features(together, OPTIONS)
    assert [row.tokens for row in told] != [row.tokens for row in untold]


def test_rows_that_are_read_again_keep_their_lengths(decoder: BatchDecoder) -> None:
    features = windows(decoder)
    options = [dataclasses.replace(row, temperature=0.0) for row in OPTIONS]
    requests = [Request(asked, audio_s=3.0, prompt="", final=i % 3 > 0) for i, asked in enumerate(options)]
    ladder = Ladder(decoder, FAILING)
    alone = [ladder.read(one, [asked])[0] for one, asked in zip(features, requests, strict=True)]
    together, lengths = filled_up(features)
    read = ladder.read(together, requests, lengths)
    assert_same([one.decoded for one in read], [one.decoded for one in alone])
    assert [one.retried for one in read] == [one.retried for one in alone]
    assert any(one.retried for one in read)


def test_words_are_timed_as_if_alone(decoder: BatchDecoder) -> None:
    features = windows(decoder)
    together, lengths = filled_up(features)
    decoded = [
        dataclasses.replace(row, tokens=(*row.tokens, *prompt_of(4, seed=i)))
        for i, row in enumerate(decoder.decode_features(together, OPTIONS, lengths))
    ]
    timed = decoder.time_words(together, decoded, OPTIONS, lengths, lengths)
    assert len({len(words) for words in timed}) > 1
    for i, one in enumerate(features):
        (alone,) = decoder.time_words(one, [decoded[i]], [OPTIONS[i]], [lengths[i]])
        assert [word.text for word in timed[i]] == [word.text for word in alone]
        assert [word.start_s for word in timed[i]] == pytest.approx([w.start_s for w in alone], abs=0.021)


def test_jobs_of_several_lengths_share_their_passes() -> None:
    transcriber = WhisperTranscriber(embedded_model(), "cpu")
    recordings = embedded_model().parent / "recordings"
    jobs = []
    for name, seconds in (("03", 1.5), ("10", 2.0), ("08", 2.5), ("05", 3.0), ("07", 2.0)):
        samples = soundfile.read(str(recordings / f"{name}.flac"), dtype="int16")[0]
        jobs.append(models.decode_job(samples[: round(seconds * 16_000)].tobytes(), session=name))
    alone, n_alone = [], []
    for job in jobs:
        n_before = transcriber.n_passes
        alone += transcriber.transcribe(Batch((job,)))
        n_alone.append(transcriber.n_passes - n_before)
    n_before = transcriber.n_passes
    together = transcriber.transcribe(Batch(tuple(jobs)))
    assert [one.text for one in together] == [one.text for one in alone]
    assert len({one.text for one in alone}) == 5
    # Rows of a full batch have fewer branches, and so take a few passes more.
    assert transcriber.n_passes - n_before <= 2 * max(n_alone) < sum(n_alone)


def test_jobs_share_a_batch_if_their_windows_are_of_one_range() -> None:
    fitted = read_manifest(embedded_model())
    n_samples = [round(16_000 * (end_s - fitted.context_tail_s)) for end_s in (0.5, 5, 8, 8.1, 16, 29.9)]
    for manifest, buckets in (
        (fitted, [1, 1, 1, 2, 2, 4]),
        (msgspec.structs.replace(fitted, audio_context="full"), [4] * 6),
    ):
        bucket = bucket_of({Tier.LIVE: ChosenModel(embedded_model(), "", manifest)})
        assert [bucket(models.decode_job(bytes(2 * n))) for n in n_samples] == buckets
