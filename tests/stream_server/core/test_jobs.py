import pickle

from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import SessionId, Task

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
    result = JOB.answered(text="hello", language=None, now_s=4.0)
    assert pickle.loads(pickle.dumps(result)) == result


def test_neither_speech_nor_text_is_in_what_is_printed() -> None:
    assert "pcm" not in repr(JOB)
    assert "4321" not in repr(JOB)
    printed = repr(JOB.answered(text="hello", language="en", now_s=4.0, tokens=(8765,)))
    assert "hello" not in printed
    assert "8765" not in printed
