"""What the engine's process may expect of a model: the same tests over the fake and over Whisper."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import models
import numpy as np
import pytest
import soundfile
import torch
from whisper.decoding import DecodingOptions, DecodingResult, decode

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.engine.fake import FakeTranscriber, numbered_speech
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.text import normalise_english
from stream_server.engine.transcriber import Transcriber, WhisperTranscriber, warm_up
from stream_server.engine.windows import log_mel, window_samples

SILENCE = bytes(2 * 2 * 16_000)


@dataclass(frozen=True)
class Subject:
    """A transcriber, and speech of several lengths that it understands."""

    transcriber: Transcriber
    speech: list[bytes]
    texts: list[str]

    def texts_of(self, *pcm: bytes) -> list[str]:
        jobs = tuple(models.decode_job(samples) for samples in pcm)
        return [normalise_english(result.text) for result in self.transcriber.transcribe(Batch(jobs))]


def fake(_: Path) -> Subject:
    said = [range(60), range(100, 140), range(200, 300), range(300, 360), range(5)]
    speech = [numbered_speech(numbers).tobytes() for numbers in said]
    texts = [normalise_english(" ".join(map(str, numbers))) for numbers in said]
    return Subject(FakeTranscriber(), speech, texts)


def whisper(folder: Path) -> Subject:
    """The embedded model, and what unmodified whisper reads with its weights.

    Its manifest is changed so that its guard takes nothing away and prompts are not passed on.
    """
    shutil.copytree(embedded_model(), folder, dirs_exist_ok=True)
    fields = json.loads((folder / "manifest.json").read_text())
    fields |= {"prompts": False, "guard": {"logprob_min": -50.0, "logprob_floor": -50.0}}
    (folder / "manifest.json").write_text(json.dumps(fields))
    recordings = resources.files("stream_server") / "assets" / "recordings"
    speech = [
        soundfile.read(str(recordings / f"{name}.flac"), dtype="int16")[0].tobytes()
        for name in ("03", "10", "08", "05", "07")
    ]
    texts = [normalise_english(whisper_says(folder, pcm)) for pcm in speech]
    assert len(set(texts)) == len(texts)
    assert min(len(text.split()) for text in texts) >= 3
    return Subject(WhisperTranscriber(folder, "cpu"), speech, texts)


def whisper_says(folder: Path, pcm: bytes) -> str:
    """What ``whisper.decode`` reads of a window of the length that the engine gives it."""
    manifest = read_manifest(folder)
    n_window = window_samples(len(pcm) // 2, manifest)
    model = load_whisper(folder, manifest, torch.device("cpu"))
    reference = models.fitted_reference(model, n_window // 320)
    mel = log_mel(pcm, n_window, manifest.dims.n_mels, torch.device("cpu"))
    models.tokenizer_of(model)  # whisper leaves the file open that it reads first
    options = DecodingOptions(language="en", fp16=False, without_timestamps=True, sample_len=60)
    result = decode(reference, mel, options)
    assert isinstance(result, DecodingResult)
    return result.text


@pytest.fixture(
    scope="module",
    params=[pytest.param(fake, id="fake"), pytest.param(whisper, id="whisper", marks=pytest.mark.model)],
)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    made = request.param(tmp_path_factory.mktemp("model"))
    assert isinstance(made, Subject)
    return made


def address(item: DecodeJob | DecodeResult) -> tuple[object, ...]:
    return (item.session, item.segment, item.revision, item.final, item.start)


def test_the_facts_name_the_model_and_its_languages(subject: Subject) -> None:
    facts = subject.transcriber.facts
    assert facts.name
    assert "en" in facts.languages


def test_speech_becomes_its_text(subject: Subject) -> None:
    assert subject.texts_of(*subject.speech) == subject.texts


def test_each_job_has_one_result_with_its_address_in_its_place(subject: Subject) -> None:
    jobs = tuple(
        models.decode_job(
            pcm, session=f"s{i % 3}", segment=i, revision=7 - i, final=i % 2 == 0, start=512 * i
        )
        for i, pcm in enumerate(subject.speech)
    )
    results = subject.transcriber.transcribe(Batch(jobs))
    assert list(map(address, results)) == list(map(address, jobs))
    assert [result.end for result in results] == [job.start + len(job.pcm) // 2 for job in jobs]


def test_results_say_their_language_and_when_they_were_decoded(subject: Subject) -> None:
    job = models.decode_job(subject.speech[0], language="en", submitted_s=1.5)
    (result,) = subject.transcriber.transcribe(Batch((job,)))
    assert result.language == "en"
    assert result.hops.submitted_s == 1.5
    assert result.hops.decoded_s > 0.0
    assert result.avg_logprob <= 0.0
    assert 0.0 <= result.no_speech_prob <= 1.0


@pytest.mark.parametrize("n_rows", [2, 3, 5])
def test_a_transcript_does_not_depend_on_the_batch(subject: Subject, n_rows: int) -> None:
    for first in range(len(subject.speech)):
        rows = [(first + i) % len(subject.speech) for i in range(n_rows)]
        assert subject.texts_of(*(subject.speech[i] for i in rows)) == [subject.texts[i] for i in rows]


def loudest(n_samples: int) -> bytes:
    return np.where(np.arange(n_samples) // 20 % 2, 32_767, -32_768).astype("<i2").tobytes()


def test_a_loud_neighbour_of_the_same_length_changes_nothing(subject: Subject) -> None:
    pcm = subject.speech[0]
    assert subject.texts_of(loudest(len(pcm) // 2), pcm, SILENCE)[1] == subject.texts[0]


def test_soft_sounds_are_heard_alike_beside_silence_and_beside_noise(subject: Subject) -> None:
    soft = (np.frombuffer(subject.speech[0], dtype="<i2") // 64).astype("<i2")
    job = models.decode_job(soft.tobytes())
    (alone,) = subject.transcriber.transcribe(Batch((job,)))
    for neighbour in (loudest(len(soft)), bytes(2 * len(soft))):
        together, _ = subject.transcriber.transcribe(Batch((job, models.decode_job(neighbour))))
        assert together.text == alone.text
        assert together.avg_logprob == pytest.approx(alone.avg_logprob, abs=1e-4)
        assert together.no_speech_prob == pytest.approx(alone.no_speech_prob, abs=1e-5)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 160, 1_600, 8_000, 480_000])
def test_silence_of_any_length_is_answered_and_disturbs_nobody(subject: Subject, n_samples: int) -> None:
    texts = subject.texts_of(subject.speech[0], bytes(2 * n_samples), subject.speech[1])
    assert texts[::2] == subject.texts[:2]


@pytest.mark.parametrize("n_samples", [1, 1_600, 479_999, 480_000])
def test_noise_of_any_length_is_answered(subject: Subject, n_samples: int) -> None:
    noise = np.random.default_rng(1).integers(-20_000, 20_000, n_samples).astype("<i2").tobytes()
    assert len(subject.texts_of(noise)) == 1


def test_equal_windows_have_equal_transcripts(subject: Subject) -> None:
    assert subject.texts_of(*[subject.speech[2]] * 4) == [subject.texts[2]] * 4


def test_decoding_the_same_batch_again_says_the_same(subject: Subject) -> None:
    def strip(results: Sequence[DecodeResult]) -> list[tuple[object, ...]]:
        return [(result.text, result.avg_logprob, result.tokens) for result in results]

    batch = Batch(tuple(models.decode_job(pcm) for pcm in subject.speech[:3]))
    first = strip(subject.transcriber.transcribe(batch))
    assert strip(subject.transcriber.transcribe(batch)) == first


def test_warming_up_leaves_transcripts_as_they_are(subject: Subject) -> None:
    warm_up(subject.transcriber, batch_max=3)
    assert subject.texts_of(subject.speech[4]) == [subject.texts[4]]


def test_a_draft_changes_no_result(subject: Subject) -> None:
    plain = subject.transcriber.transcribe(Batch(tuple(models.decode_job(pcm) for pcm in subject.speech)))
    drafted = Batch(
        tuple(
            models.decode_job(pcm, draft=result.tokens[: 3 * i])
            for i, (pcm, result) in enumerate(zip(subject.speech, plain, strict=True))
        )
    )
    for result, expected in zip(subject.transcriber.transcribe(drafted), plain, strict=True):
        assert (result.text, result.tokens) == (expected.text, expected.tokens)
        assert result.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-4)


def test_a_job_that_cannot_be_read_is_told_so_and_its_neighbours_are_read(subject: Subject) -> None:
    good = [models.decode_job(pcm) for pcm in subject.speech[:2]]
    bad = [
        models.decode_job(b""),
        models.decode_job(bytes(2 * 31 * 16_000)),
        models.decode_job(subject.speech[0], language="xx"),
        dataclasses.replace(good[0], prompt="x" * 2_001),
    ]
    results = subject.transcriber.transcribe(Batch((bad[0], good[0], *bad[1:], good[1])))
    assert [result.problem is None for result in results] == [False, True, False, False, False, True]
    assert all(result.text == "" for result in results if result.problem)
    assert [normalise_english(results[i].text) for i in (1, 5)] == subject.texts[:2]
    only_bad = subject.transcriber.transcribe(Batch(tuple(bad)))
    assert all(result.problem for result in only_bad)


def test_a_prompt_changes_nothing_for_a_model_whose_manifest_promises_none(subject: Subject) -> None:
    job = dataclasses.replace(models.decode_job(subject.speech[1]), prompt="Let us talk of ships.")
    (result,) = subject.transcriber.transcribe(Batch((job,)))
    assert normalise_english(result.text) == subject.texts[1]
