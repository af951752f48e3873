import dataclasses
import pickle

import pytest

from stream_server.core.hops import Hops
from stream_server.core.jobs import (
    PROMPT_CHARS_MAX,
    WINDOW_SAMPLES_MAX,
    Batch,
    DecodeJob,
    GuardRule,
    Word,
)
from stream_server.core.messages import BeamSearch, SessionId, Task

JOB = DecodeJob(
    session=SessionId("s"),
    segment=3,
    revision=2,
    final=True,
    start=512,
    pcm=bytes(2 * 100),
    language="de",
    task=Task.TRANSLATE,
    tier="live",
    hops=Hops(received_s=1.0, submitted_s=2.0, batched_s=3.0),
    draft=(4321, 5),
    prompt="before",
)


def test_an_answer_keeps_what_addresses_the_job() -> None:
    result = JOB.answered(text="hello", language="en", now_s=4.0, avg_logprob=-0.5, tokens=(7, 8))
    assert (result.session, result.segment, result.revision, result.final) == ("s", 3, 2, True)
    assert (result.start, result.end) == (512, 612)
    assert (result.text, result.language, result.avg_logprob, result.tokens) == (
        "hello",
        "en",
        -0.5,
        (7, 8),
    )
    assert result.hops == Hops(received_s=1.0, submitted_s=2.0, batched_s=3.0, decoded_s=4.0)


def test_jobs_and_results_survive_the_way_to_another_process() -> None:
    batch = Batch((JOB,))
    assert pickle.loads(pickle.dumps(batch)) == batch
    word = Word(" hello", 512, 600)
    result = JOB.answered(
        text="hello",
        language=None,
        now_s=4.0,
        words=(word,),
        retried=(GuardRule.RATE,),
        dropped=GuardRule.PHRASE,
    )
    assert pickle.loads(pickle.dumps(result)) == result


def test_neither_speech_nor_text_is_in_what_is_printed() -> None:
    assert "pcm" not in repr(JOB)
    assert "4321" not in repr(JOB)
    assert "before" not in repr(JOB)
    assert "hello" not in repr(Word(" hello", 0, 1))
    printed = repr(JOB.answered(text="hello", language="en", now_s=4.0, tokens=(8765,)))
    assert "hello" not in printed
    assert "8765" not in printed


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({}, None, id="ok"),
        pytest.param({"pcm": b"\1\0"}, None, id="ok/one sample"),
        pytest.param({"pcm": bytes(2 * WINDOW_SAMPLES_MAX)}, None, id="ok/30 s"),
        pytest.param({"language": None}, None, id="ok/language to be detected"),
        pytest.param({"prompt": "x" * PROMPT_CHARS_MAX}, None, id="ok/longest prompt"),
        pytest.param({"pcm": b""}, "the window is empty", id="fail/empty"),
        pytest.param({"pcm": bytes(3)}, "3 bytes are not whole int16 samples", id="fail/half a sample"),
        pytest.param({"pcm": bytes(2 * WINDOW_SAMPLES_MAX + 2)}, "longer than 30 s", id="fail/over 30 s"),
        pytest.param({"pcm": bytes(2 * 31 * 16_000)}, "window of 31.0 s is longer", id="fail/31 s"),
        pytest.param({"language": "xx"}, "does not read the language", id="fail/language"),
        pytest.param({"prompt": "x" * (PROMPT_CHARS_MAX + 1)}, "prompt of 2001 characters", id="fail/prompt"),
    ],
)
def test_what_a_model_cannot_read_is_named(changes: dict[str, object], problem: str | None) -> None:
    job = dataclasses.replace(JOB, **changes)  # type: ignore[arg-type]  of any field
    found = job.problem({"de", "en"})
    assert found is None if problem is None else problem in str(found)


EARLY = dataclasses.replace(JOB, final=False, early=True, revision=3, draft=(), hops=Hops(1.0, 1.0, 1.5))


def test_an_early_job_foretells_the_final_of_its_window_whenever_that_is_asked_for() -> None:
    assert EARLY.foretells(JOB)
    assert not JOB.foretells(JOB), "it is no early job"
    assert not dataclasses.replace(EARLY, early=False).foretells(JOB), "partials are not read as finals are"


@pytest.mark.parametrize(
    "changes",
    [
        {"session": SessionId("t")},
        {"segment": 4},
        {"start": 511},
        {"pcm": bytes(2 * 101)},
        {"language": None},
        {"task": Task.TRANSCRIBE},
        {"tier": "files"},
        {"prompt": "other"},
        {"word_times": True},
        {"generation": 1},
        {"beam": BeamSearch(2)},
        {"n_segments": 2},
        {"final": False},
    ],
)
def test_a_final_that_is_read_in_any_other_way_is_not_foretold(changes: dict[str, object]) -> None:
    assert not EARLY.foretells(dataclasses.replace(JOB, **changes))  # type: ignore[arg-type]  of any field


def test_a_final_that_adopts_an_early_text_was_asked_for_when_it_was_and_decoded_when_that_was() -> None:
    read = EARLY.answered(text="hello", language="de", now_s=1.75, tokens=(7,))
    late = dataclasses.replace(JOB, hops=Hops(received_s=1.0, heard_s=2.0, submitted_s=2.5))
    final = late.adopt(read)
    assert (final.final, final.early, final.revision, final.text, final.tokens) == (
        True,
        True,
        2,
        "hello",
        (7,),
    )
    assert final.hops == Hops(1.0, 2.0, 2.5, 0.0, 0.0, 1.75)
