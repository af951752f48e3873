"""Each rule of the scheduler's docstring, then what holds for any order of jobs."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.jobs import DecodeJob, Hops
from stream_server.core.messages import SessionId, Task
from stream_server.core.scheduler import Scheduler
from stream_server.errors import Overloaded


def job(session: str, segment: int = 0, *, final: bool = False, revision: int = 1) -> DecodeJob:
    return DecodeJob(
        session=SessionId(session),
        segment=segment,
        revision=revision,
        final=final,
        start=0,
        pcm=b"\0\0",
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
    )


def final(session: str, segment: int = 0) -> DecodeJob:
    return job(session, segment, final=True)


def queue(*jobs: DecodeJob, batch_max: int = 8, finals_max: int = 100) -> Scheduler:
    scheduler = Scheduler(batch_max, finals_max)
    for one in jobs:
        scheduler.submit(one)
    return scheduler


def batches(scheduler: Scheduler) -> list[list[DecodeJob]]:
    taken = []
    while (batch := scheduler.next_batch()) is not None:
        taken.append(list(batch.jobs))
    return taken


def test_nothing_waiting_gives_no_batch() -> None:
    assert queue().next_batch() is None


def test_a_batch_holds_finals_while_any_wait_and_partials_otherwise() -> None:
    a, b, c = job("a"), final("b"), job("c")
    assert batches(queue(a, b, c)) == [[b], [a, c]]


def test_a_batch_is_not_longer_than_its_limit() -> None:
    finals = [final("a", segment) for segment in range(5)]
    partials = [job(name) for name in "uvw"]
    taken = batches(queue(*partials, *finals, batch_max=2))
    assert taken == [finals[:2], finals[2:4], finals[4:], partials[:2], partials[2:]]


def test_finals_leave_in_the_order_in_which_they_came() -> None:
    finals = [final("a", 0), final("b", 0), final("a", 1), final("c", 0)]
    assert batches(queue(*finals)) == [finals]


def test_a_newer_partial_of_a_session_takes_the_place_of_the_older() -> None:
    newer = job("a", revision=2)
    scheduler = queue(job("a"), job("b"), newer)
    assert len(scheduler) == 2
    assert scheduler.n_superseded == 1
    assert batches(scheduler) == [[newer, job("b")]]


@pytest.mark.parametrize(("segment", "stays"), [(0, False), (1, False), (2, True)])
def test_a_final_removes_its_sessions_partials_up_to_its_segment(segment: int, stays: bool) -> None:
    partial, other = job("a", segment), job("b", 0)
    scheduler = queue(partial, other, final("a", 1))
    assert batches(scheduler) == [[final("a", 1)], [partial, other] if stays else [other]]
    assert scheduler.n_superseded == (not stays)


def test_a_final_too_many_is_refused_and_none_is_shed() -> None:
    scheduler = queue(final("a"), final("b"), finals_max=2)
    scheduler.submit(job("c"))
    with pytest.raises(Overloaded, match="2 finals"):
        scheduler.submit(final("c"))
    assert batches(scheduler) == [[final("a"), final("b")], [job("c")]]
    scheduler.submit(final("c"))
    assert len(scheduler) == 1


def test_withdraw_removes_whatever_a_session_has_waiting() -> None:
    scheduler = queue(final("a"), final("b"), final("a", 1), job("a", 2), job("b", 1))
    scheduler.withdraw(SessionId("a"))
    scheduler.withdraw(SessionId("unknown"))
    assert batches(scheduler) == [[final("b")], [job("b", 1)]]


names = st.sampled_from("abc")
steps = st.one_of(
    st.builds(job, names, st.integers(0, 3)),
    st.builds(final, names, st.integers(0, 3)),
    names,  # withdraw
    st.none(),  # take a batch
)


@given(st.lists(steps, max_size=80), st.integers(1, 4), st.integers(1, 6))
def test_no_job_is_lost_except_by_the_rules(
    script: list[DecodeJob | str | None], batch_max: int, finals_max: int
) -> None:
    scheduler = Scheduler(batch_max, finals_max)
    waiting: list[DecodeJob] = []  # finals that must still come out, in order
    counts: Counter[str] = Counter()
    for step in [*script, *[None] * len(script)]:
        match step:
            case DecodeJob():
                if step.final and len(waiting) == finals_max:
                    with pytest.raises(Overloaded):
                        scheduler.submit(step)
                    continue
                scheduler.submit(step)
                counts["partials"] += not step.final
                waiting += [step] if step.final else []
            case str():
                before = len(scheduler)
                scheduler.withdraw(SessionId(step))
                kept = [one for one in waiting if one.session != step]
                counts["withdrawn partials"] += before - len(scheduler) - (len(waiting) - len(kept))
                waiting = kept
            case None:
                batch = scheduler.next_batch()
                if batch is None:
                    assert not waiting
                    continue
                assert 1 <= len(batch.jobs) <= batch_max
                finals = [one for one in batch.jobs if one.final]
                assert finals == waiting[: len(finals)]
                assert len(finals) in (0, len(batch.jobs))
                assert finals or not waiting
                waiting = waiting[len(finals) :]
                counts["decoded partials"] += len(batch.jobs) - len(finals)
    assert len(scheduler) == 0
    lost = counts["partials"] - counts["decoded partials"] - counts["withdrawn partials"]
    assert lost == scheduler.n_superseded


@given(st.lists(st.tuples(names, st.integers(0, 5)), max_size=40), st.integers(1, 3))
def test_no_session_waits_a_round_longer_than_another_for_its_partial(
    arrivals: list[tuple[str, int]], batch_max: int
) -> None:
    scheduler = Scheduler(batch_max, 1)
    for name, revision in arrivals:
        scheduler.submit(job(name, revision=revision))
    first = list(dict.fromkeys(name for name, _ in arrivals))
    taken = [one.session for batch in batches(scheduler) for one in batch]
    assert taken == first
