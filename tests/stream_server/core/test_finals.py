"""Finals leave in the order of their segments, and marks where they were put."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.finals import FinalQueue, Mark, PendingFinal
from stream_server.core.hops import Hops
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Task

JOB = DecodeJob(
    session=SessionId("s"),
    segment=0,
    revision=0,
    final=True,
    start=0,
    pcm=bytes(2),
    language=None,
    task=Task.TRANSCRIBE,
    tier="live",
    hops=Hops(),
)


def result(segment: int) -> DecodeResult:
    job = dataclasses.replace(JOB, segment=segment, start=segment)
    return job.answered(text=str(segment), language="en", now_s=0.0)


@given(st.data())
def test_whatever_order_texts_come_in_they_leave_in_order_with_the_marks_between(data: st.DataObject) -> None:
    n_marks = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=8), label="marks before each")
    n_segments = len(n_marks) - 1
    queue = FinalQueue()
    expected: list[int | None] = []
    for segment, n in enumerate(n_marks):
        for _ in range(n):
            queue.mark(segment)
            expected.append(None)
        if segment < n_segments:
            queue.append(PendingFinal(segment, segment, segment + 1, utterance_end=True))
            expected.append(segment)
    left: list[int | None] = []

    def pop() -> None:
        for ready in queue.pop_ready():
            left.append(None if isinstance(ready, Mark) else ready[0].segment)

    pop()
    for segment in data.draw(st.permutations(range(n_segments)), label="results"):
        queue.resolve(result(segment))
        pop()
        assert left == expected[: len(left)]
        assert queue.start == next((s for s in range(n_segments) if s not in left), None)
    assert left == expected
    assert (len(queue), queue.n_marks) == (0, 0)


@pytest.mark.parametrize("segment", [0, 2])
def test_a_text_that_nobody_awaits_is_a_bug(segment: int) -> None:
    queue = FinalQueue()
    queue.append(PendingFinal(0, 0, 1, utterance_end=True))
    queue.append(PendingFinal(1, 1, 2, utterance_end=True))
    queue.resolve(result(0))
    with pytest.raises(AssertionError, match=f"segment {segment}"):
        queue.resolve(result(segment))
