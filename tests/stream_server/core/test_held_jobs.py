"""What waits before the queue of an engine that has no room."""

from dataclasses import replace

from driver import World

from stream_server.core.held_jobs import HeldJobs
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId
from stream_server.core.scheduler import Scheduler
from stream_server.engine.fake import numbered_speech


def jobs() -> tuple[DecodeJob, DecodeJob]:
    """A partial and a final."""
    world = World().start()
    world.send(numbered_speech(range(40)))
    world.score()
    partial = world.jobs[-1]
    return partial, replace(partial, final=True)


def of(job: DecodeJob, session: str) -> DecodeJob:
    return replace(job, session=SessionId(session))


def test_while_finals_are_held_partials_go_on_and_no_early_one_is_taken() -> None:
    partial, final = jobs()
    scheduler = Scheduler(8, finals_max=1)
    held = HeldJobs(scheduler)
    for job in (final, of(final, "b"), of(partial, "c"), replace(of(partial, "d"), early=True)):
        held.submit(job)
    assert (len(held), len(scheduler)) == (1, 2), "one final and one partial wait, one final is held"
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.jobs == (final,)
    held.offer()
    held.submit(replace(of(partial, "e"), early=True))
    waiting = []
    while (batch := scheduler.next_batch()) is not None:
        waiting += [(job.session, job.early) for job in batch.jobs]
    assert waiting == [("b", False), ("e", True), ("c", False)]
