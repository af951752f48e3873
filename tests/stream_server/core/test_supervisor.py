"""Each rule of the supervisor's docstring, then what holds whatever a worker does and whenever it dies."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from driver import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Task, Tier
from stream_server.core.orders import (
    Death,
    Decode,
    GaveUp,
    KillWorker,
    Order,
    Restarting,
    Results,
    StartWorker,
    Undecodable,
)
from stream_server.core.scheduler import Scheduler
from stream_server.core.supervisor import (
    CANARIES_PER_ROW,
    GOING_S,
    PAUSE_S,
    PAUSE_S_MAX,
    Patience,
    Supervisor,
)
from stream_server.engine.fake import numbered_speech

CANARY_S = 0.5


def job(session: str, segment: int = 0, *, final: bool = True, revision: int = 1) -> DecodeJob:
    return DecodeJob(
        session=SessionId(session),
        segment=segment,
        revision=revision,
        final=final,
        start=0,
        pcm=numbered_speech([segment]).tobytes(),
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
    )


CANARY = job("canary", 42, final=False)


class World:
    """A supervisor, its clock, and a worker that does what it is told to, when it is told to.

    Whatever the supervisor orders goes through ``_take``, which checks what holds always: the worker has
    one thing to do at a time, and a free one never stands beside a waiting job.
    """

    def __init__(self, patience: Patience | None = None, *, batch_max: int = 4) -> None:
        self.now_s = 1_000.0
        self.scheduler = Scheduler(batch_max, 1_000)
        self.supervisor = Supervisor(self.scheduler, [CANARY], patience or Patience())
        self.is_running = False
        self.is_loaded = False
        self.is_killed = False
        self.task: Batch | None = None
        self.batches: list[list[DecodeJob]] = []
        self.results: list[DecodeResult] = []
        self.undecodable: list[DecodeJob] = []
        self.restarts: list[Restarting] = []
        self.end: GaveUp | None = None
        self._take(self.supervisor.start(self.now_s))

    def _take(self, orders: list[Order]) -> None:
        for order in orders:
            assert self.end is None, "an order after the end"
            match order:
                case StartWorker():
                    assert not self.is_running
                    self.is_running, self.is_loaded, self.is_killed, self.task = True, False, False, None
                case Decode(batch):
                    assert self.is_loaded
                    assert not self.is_killed
                    assert self.task is None, "a second batch before the answer to the first"
                    self.task = batch
                    if batch.jobs != (CANARY,):
                        self.batches.append([replace(one, hops=Hops()) for one in batch.jobs])
                case KillWorker():
                    assert self.is_running
                    self.is_killed = True
                case Results(results):
                    self.results += results
                case Undecodable(one):
                    self.undecodable.append(one)
                case Restarting():
                    self.restarts.append(order)
                case GaveUp():
                    self.end = order
        is_free = self.is_running and self.is_loaded and not self.is_killed and self.task is None
        assert not (is_free and len(self.scheduler)), "a free worker beside a waiting job"

    # ------------------------------------------------------------ the worker

    def load(self) -> "World":
        """The worker has loaded and answers its first canary."""
        self.is_loaded = True
        self._take(self.supervisor.ready({Tier.LIVE: 4}, self.now_s))
        return self.answer()

    def answer(self, text: str | None = None, *, batch_max: int = 4, after_s: float = CANARY_S) -> "World":
        assert self.task is not None
        self.now_s += after_s
        jobs, self.task = self.task.jobs, None
        results = [answer(one, self.now_s, text) for one in jobs]
        self._take(self.supervisor.answered(results, batch_max, self.now_s))
        return self

    def die(self, death: Death = Death.KILLED, exit_code: int | None = -9) -> "World":
        self.is_running, self.task = False, None
        self._take(self.supervisor.ended(death, exit_code, self.now_s))
        return self

    def wait(self, seconds: float) -> "World":
        self.now_s += seconds
        self._take(self.supervisor.tick(self.now_s))
        return self

    def wait_until_due(self) -> "World":
        assert self.supervisor.due_s is not None
        return self.wait(max(0.0, self.supervisor.due_s - self.now_s))

    def restart(self) -> "World":
        """The worker dies and the next one is ready."""
        return self.die().wait_until_due().load()

    # ------------------------------------------------------------ the sessions

    def submit(self, *jobs: DecodeJob) -> "World":
        for one in jobs:
            self._take(self.supervisor.submit(one, self.now_s))
        return self

    @property
    def decoded(self) -> list[tuple[str, int]]:
        return [(result.session, result.segment) for result in self.results]


def ready(patience: Patience | None = None, **options: int) -> World:
    return World(patience, **options).load()


# ---------------------------------------------------------------- 1: one thing at a time


def test_a_free_worker_gets_a_job_at_once_and_alone() -> None:
    world = ready().submit(job("a"))
    assert world.batches == [[job("a")]]


def test_jobs_that_come_while_the_worker_is_busy_go_together_when_it_is_free() -> None:
    world = ready().submit(job("a"), job("b"), job("c")).answer()
    assert world.batches == [[job("a")], [job("b"), job("c")]]
    assert world.decoded == [("a", 0)]


def test_jobs_leave_the_queue_with_the_time_at_which_they_left() -> None:
    world = ready().submit(job("a"))
    assert world.task is not None
    assert world.task.jobs[0].hops.batched_s == world.now_s


def test_the_worker_tells_how_many_jobs_it_takes() -> None:
    world = ready().submit(job("x"), *(job(name) for name in "abcd")).answer(batch_max=2)
    assert [len(batch) for batch in world.batches] == [1, 2]


# ---------------------------------------------------------------- 2: the canary


def test_a_worker_gets_no_job_before_it_has_answered_the_canary() -> None:
    world = World().submit(job("a"))
    world.is_loaded = True
    world._take(world.supervisor.ready({Tier.LIVE: 4}, world.now_s))
    assert (world.batches, world.supervisor.is_ready) == ([], False)
    world.answer()
    assert (world.batches, world.supervisor.is_ready) == ([[job("a")]], True)
    assert world.supervisor.canary_s == {Tier.LIVE: CANARY_S}


def test_another_answer_than_the_first_ends_the_worker() -> None:
    world = ready().wait_until_due().answer("something else")
    assert world.is_killed
    assert not world.supervisor.is_ready
    world.die()
    assert world.restarts[0].death is Death.WRONG_ANSWER


def test_a_later_worker_is_measured_by_the_answer_of_the_first() -> None:
    world = ready().submit(job("a")).die().wait_until_due()
    world.is_loaded = True
    world._take(world.supervisor.ready({Tier.LIVE: 4}, world.now_s))
    assert not world.supervisor.is_ready
    world.answer("something else")
    assert world.is_killed
    assert world.decoded == []


TWO = [CANARY, replace(CANARY, tier=Tier.FILES)]


def two_models() -> Supervisor:
    """A supervisor of two models, its worker loaded."""
    supervisor = Supervisor(Scheduler(4, 100), TWO, Patience(heartbeat_s=20.0))
    supervisor.start(0.0)
    supervisor.ready(dict.fromkeys((Tier.LIVE, Tier.FILES), 4), 1.0)
    return supervisor


def reply(supervisor: Supervisor, canary: DecodeJob, now_s: float, text: str | None = None) -> list[Order]:
    return supervisor.answered([answer(canary, now_s, text)], 4, now_s)


def test_every_model_answers_its_canary_before_any_job() -> None:
    supervisor = two_models()
    assert supervisor.submit(job("a"), 1.0) == []
    assert reply(supervisor, TWO[0], 2.0) == [Decode(Batch((TWO[1],)))]
    assert not supervisor.is_ready
    [order] = reply(supervisor, TWO[1], 5.0)
    assert isinstance(order, Decode)
    assert order.batch.jobs[0].session == "a"
    assert supervisor.canary_s == {Tier.LIVE: 1.0, Tier.FILES: 3.0}


def test_models_are_checked_in_turn_and_each_against_its_own_answer() -> None:
    supervisor = two_models()
    reply(supervisor, TWO[0], 2.0, "one")
    reply(supervisor, TWO[1], 2.0, "two")
    for canary, text in ((TWO[0], "one"), (TWO[1], "two"), (TWO[0], "one")):
        assert supervisor.due_s is not None
        now_s = supervisor.due_s
        assert supervisor.tick(now_s) == [Decode(Batch((canary,)))]
        assert reply(supervisor, canary, now_s, text) == []
    assert supervisor.due_s is not None
    supervisor.tick(supervisor.due_s)
    assert reply(supervisor, TWO[1], supervisor.due_s, "one") == [KillWorker()]


def test_a_worker_that_dies_before_its_second_model_has_answered_was_never_ready() -> None:
    supervisor = two_models()
    reply(supervisor, TWO[0], 2.0)
    assert supervisor.ended(Death.CRASHED, 1, 3.0) == [GaveUp(Death.CRASHED, 1)]


def test_a_model_that_was_exchanged_on_the_disk_is_measured_by_its_own_first_answer() -> None:
    supervisor = two_models()
    reply(supervisor, TWO[0], 2.0, "one")
    reply(supervisor, TWO[1], 2.0, "two")
    supervisor.ended(Death.KILLED, -9, 3.0)
    assert supervisor.due_s is not None
    assert supervisor.tick(supervisor.due_s) == [StartWorker()]
    supervisor.forget(Tier.LIVE)
    supervisor.ready(dict.fromkeys((Tier.LIVE, Tier.FILES), 4), 4.0)
    assert reply(supervisor, TWO[0], 5.0, "another") == [Decode(Batch((TWO[1],)))]
    assert reply(supervisor, TWO[1], 5.0, "another") == [KillWorker()]
    [restarting] = supervisor.ended(Death.KILLED, -9, 6.0)
    assert isinstance(restarting, Restarting)


def test_the_limit_of_a_batch_is_that_of_its_model() -> None:
    supervisor = two_models()
    reply(supervisor, TWO[0], 2.0)
    reply(supervisor, TWO[1], 5.0)
    supervisor.submit(replace(job("a"), tier=Tier.FILES), 5.0)
    assert supervisor.due_s == 5.0 + Patience().hang_s + CANARIES_PER_ROW * 3.0


# ---------------------------------------------------------------- 3: how often


def test_an_idle_worker_is_checked_every_heartbeat() -> None:
    world = ready(Patience(heartbeat_s=20.0))
    assert world.wait(19.9).task is None
    assert world.wait(0.1).task == Batch((CANARY,))


def test_a_worker_with_work_is_checked_a_sixth_as_often() -> None:
    world = ready(Patience(heartbeat_s=20.0))
    began_s = world.now_s
    while world.task is None or world.task.jobs != (CANARY,):
        world.submit(job("a", len(world.batches)), job("b", len(world.batches))).answer(after_s=1.0)
    assert 120 <= world.now_s - began_s <= 122
    world.answer()
    assert world.task is not None
    assert world.task.jobs != (CANARY,)


def test_checks_of_a_slow_model_take_a_twentieth_of_its_time() -> None:
    world = World(Patience(heartbeat_s=1.0))
    world.is_loaded = True
    world._take(world.supervisor.ready({Tier.LIVE: 4}, world.now_s))
    world.answer(after_s=10.0)
    assert world.supervisor.due_s == world.now_s + 200.0


# ---------------------------------------------------------------- 4: time limits


def test_a_batch_may_take_longer_the_more_jobs_it_has_and_no_longer() -> None:
    world = ready(Patience(hang_s=30.0)).submit(job("x"), *(job(name) for name in "abc")).answer()
    assert len(world.batches[-1]) == 3
    limit_s = 30.0 + 3 * CANARIES_PER_ROW * CANARY_S
    assert not world.wait(limit_s - 0.1).is_killed
    assert world.wait(0.1).is_killed
    world.die()
    assert world.restarts == [Restarting(Death.HUNG, -9, 3, PAUSE_S)]


def test_a_check_has_a_time_limit_too() -> None:
    world = ready().wait_until_due()
    assert world.task == Batch((CANARY,))
    assert world.wait_until_due().is_killed
    assert world.die().restarts[0].death is Death.HUNG


def test_loading_again_has_a_time_limit_too() -> None:
    world = ready(Patience(load_s=60.0)).die().wait_until_due()
    assert not world.wait(59.9).is_killed
    assert world.wait(0.1).is_killed
    assert world.die().wait_until_due().load().supervisor.is_ready


# ---------------------------------------------------------------- 5: what was under way


def test_a_lost_batch_is_decoded_again_before_what_waits_finals_first() -> None:
    world = ready().submit(job("x"), job("a", final=False), job("b")).answer()
    assert world.batches[-1] == [job("b")]
    world.submit(job("c")).restart()
    while world.task is not None:
        world.answer()
    assert world.batches[2:] == [[job("b")], [job("c")], [job("a", final=False)]]
    assert sorted(world.decoded) == [("a", 0), ("b", 0), ("c", 0), ("x", 0)]


def test_jobs_of_a_session_that_left_are_not_decoded_again() -> None:
    world = ready().submit(job("x"), job("a"), job("b")).answer()
    world.supervisor.withdraw(SessionId("a"))
    world.restart()
    assert world.batches[-1] == [job("b")]
    assert world.answer().decoded == [("x", 0), ("b", 0)]


def test_a_partial_that_its_final_overtook_is_not_decoded_again() -> None:
    world = ready().submit(job("a", final=False), job("a")).restart().answer()
    assert world.task is None
    assert [result.final for result in world.results] == [True]


def test_what_a_killed_worker_answered_at_the_last_moment_counts() -> None:
    world = ready().submit(job("a")).wait_until_due()
    assert world.is_killed
    world.answer()
    assert world.die().wait_until_due().load().task is None
    assert world.decoded == [("a", 0)]


# ---------------------------------------------------------------- 6: windows that kill


def test_after_a_death_each_job_of_the_batch_is_decoded_alone() -> None:
    world = ready().submit(job("x"), *(job(name) for name in "abc")).answer().restart()
    while world.task is not None:
        world.answer()
    assert [len(batch) for batch in world.batches] == [1, 3, 1, 1, 1]
    world.submit(job("x", 1), job("a", 1), job("b", 1)).answer()
    assert len(world.batches[-1]) == 2


def test_a_job_that_was_alone_in_two_deaths_is_reported_and_not_tried_again() -> None:
    world = ready().submit(job("a")).restart()
    assert world.batches == [[job("a")], [job("a")]]
    world.restart()
    assert world.task is None
    assert [(one.session, one.segment) for one in world.undecodable] == [("a", 0)]
    assert world.restarts[-1].n_jobs == 0
    world.submit(job("a", 1)).answer()
    assert world.decoded == [("a", 1)]


def test_partials_that_kill_convict_their_segment_and_its_final_is_reported_at_once() -> None:
    world = ready().submit(job("a", final=False)).restart().restart()
    assert (world.task, world.undecodable) == (None, [])
    world.submit(job("a", final=False, revision=2)).submit(job("a"))
    assert (world.task, world.undecodable) == (None, [job("a")])


def test_a_final_that_waits_while_its_partial_is_convicted_is_reported() -> None:
    world = ready().submit(job("a", final=False)).restart().submit(job("a")).restart()
    assert (world.task, len(world.undecodable)) == (None, 1)


def test_deaths_between_which_the_segment_was_decoded_do_not_add_up() -> None:
    world = ready().submit(job("a", final=False)).restart().answer()
    world.submit(job("a")).restart()
    assert world.undecodable == []
    assert world.answer().decoded == [("a", 0), ("a", 0)]


# ---------------------------------------------------------------- 7 and 8: restarts and the end


def test_the_pause_doubles_with_each_death_up_to_a_limit_and_falls_back_in_time() -> None:
    world = ready(Patience(restarts=20, restarts_within_s=1_000.0))
    for _ in range(12):
        world.restart()
    pauses = [restart.pause_s for restart in world.restarts]
    assert pauses == [min(PAUSE_S * 2**n, PAUSE_S_MAX) for n in range(12)]
    for _ in range(120):
        world.wait_until_due().answer()
    assert world.restart().restarts[-1].pause_s == PAUSE_S


def test_one_death_more_than_allowed_is_the_end() -> None:
    world = ready(Patience(restarts=2)).restart().restart().submit(job("a")).die(Death.CRASHED, 1)
    assert world.end == GaveUp(Death.CRASHED, 1)
    world.submit(job("b")).wait(1_000)
    assert world.supervisor.due_s is None
    assert not world.supervisor.is_ready


def test_deaths_that_lie_far_apart_are_no_reason_to_give_up() -> None:
    world = ready(Patience(restarts=1, restarts_within_s=60.0, heartbeat_s=100.0))
    for _ in range(10):
        world.restart().wait(61.0)
        if world.task is not None:
            world.answer()
    assert world.end is None


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_worker_that_dies_before_any_was_ready_is_the_end(is_loaded: bool) -> None:
    world = World()
    if is_loaded:
        world.is_loaded = True
        world._take(world.supervisor.ready({Tier.LIVE: 4}, world.now_s))
    assert world.die(Death.CRASHED, 1).end == GaveUp(Death.CRASHED, 1)


def test_a_killed_worker_that_does_not_go_is_the_end() -> None:
    world = ready().submit(job("a")).wait_until_due()
    assert world.is_killed
    assert world.wait(GOING_S).end == GaveUp(Death.STUCK, None)
    world.die()


def test_ticks_that_come_too_early_do_nothing() -> None:
    world = World()
    while world.supervisor.due_s is not None and world.end is None:
        due_s = world.supervisor.due_s
        world.wait((due_s - world.now_s) / 2)
        assert world.supervisor.due_s == due_s
        world.wait_until_due()
        if world.is_killed:
            world.die()
    assert world.end == GaveUp(Death.HUNG, -9)


# ---------------------------------------------------------------- whatever happens


class Story(World):
    """Sessions that speak and leave, and a worker that dies, hangs, lies and shrinks at any moment."""

    def __init__(self, draw: st.DataObject) -> None:
        super().__init__(Patience(restarts=1_000, restarts_within_s=1e9))
        self.draw = draw
        self.wanted: list[tuple[str, int]] = []
        self.gone: set[str] = set()
        self._n_segments = dict.fromkeys("abcde", 0)

    def steps(self) -> Iterator[str]:
        yield from self.draw.draw(
            st.lists(st.sampled_from(["speak", "partial", "answer", "die", "hang", "lie", "leave", "rest"]))
        )

    def play(self) -> None:
        self.load()
        for step in self.steps():
            getattr(self, step)()
            self._revive()
        for _ in range(1_000):
            if self.task is None and not len(self.scheduler):
                return
            if self.task is not None:
                self.answer()
            self._revive()
        raise AssertionError("the queue does not become empty")

    def _revive(self) -> None:
        if self.is_killed and self.is_running:
            self.die()
        if not self.is_running:
            self.wait_until_due().load()

    def _anybody(self) -> str | None:
        here = sorted(set(self._n_segments) - self.gone)
        return self.draw.draw(st.sampled_from(here)) if here else None

    def speak(self) -> None:
        if (name := self._anybody()) is not None:
            segment = self._n_segments[name]
            self._n_segments[name] += 1
            self.wanted.append((name, segment))
            self.submit(job(name, segment))

    def partial(self) -> None:
        if (name := self._anybody()) is not None:
            self.submit(job(name, self._n_segments[name], final=False))

    def leave(self) -> None:
        if (name := self._anybody()) is not None:
            self.gone.add(name)
            self.supervisor.withdraw(SessionId(name))

    def hang(self) -> None:
        self.wait_until_due()

    def rest(self) -> None:
        self.wait(1.0)

    def lie(self) -> None:
        if self.task is not None and self.task.jobs == (CANARY,):
            self.answer("a lie")

    def answer(self, *args: object, **options: object) -> "World":
        return super().answer(*args, **options) if self.task is not None else self  # type: ignore[arg-type]  passed on as they are


@settings(max_examples=300)
@given(st.data())
def test_every_final_of_who_stays_comes_once_with_its_text_or_is_reported(data: st.DataObject) -> None:
    story = Story(data)
    story.play()
    finals = [result for result in story.results if result.final]
    told = [(r.session, r.segment) for r in finals] + [(j.session, j.segment) for j in story.undecodable]
    assert len(told) == len(set(told)), "a final came twice"
    assert {key for key in story.wanted if key[0] not in story.gone} <= set(told), "a final was lost"
    assert all(final.text == str(final.segment) for final in finals)
    # What is kept of sessions is kept while it is needed.
    for name in "abcde":
        story.supervisor.withdraw(SessionId(name))
    assert not story.supervisor._deaths_alone
    assert not story.scheduler._isolated


# ---------------------------------------------------------------- what waits


# ---------------------------------------------------------------- 8: early jobs that become finals


def early(session: str, segment: int = 0) -> DecodeJob:
    return replace(job(session, segment), final=False, early=True)


def test_a_final_that_a_job_under_way_foretells_is_not_decoded_again() -> None:
    world = ready().submit(early("a"), job("a")).answer(text="one")
    assert world.batches == [[early("a")]]
    assert [(one.final, one.text) for one in world.results] == [(True, "one")]


def test_a_final_that_the_job_under_way_does_not_foretell_is_queued() -> None:
    longer = replace(job("a"), pcm=numbered_speech([0, 1]).tobytes())
    world = ready().submit(early("a"), longer).answer().answer()
    assert world.batches == [[early("a")], [longer]]
    assert [one.final for one in world.results] == [False, True]


def test_a_final_that_an_early_job_became_is_decoded_as_one_when_the_worker_dies() -> None:
    world = ready().submit(early("a"), job("a")).restart().answer()
    assert world.batches == [[early("a")], [job("a")]]
    assert [one.final for one in world.results] == [True]


def test_an_early_job_that_kills_is_reported_as_its_final_and_not_before() -> None:
    world = ready().submit(early("a")).restart().restart()
    assert world.undecodable == []
    world.submit(job("a"))
    assert world.undecodable == [job("a")]


def test_a_final_that_an_early_job_became_waits_since_it_was_asked_for() -> None:
    world = ready().submit(early("a"))
    world.now_s += 3.0
    world.submit(replace(job("a"), hops=Hops(submitted_s=world.now_s)))
    assert world.supervisor.longest_wait_s([Tier.LIVE], world.now_s + 1.0) == 1.0


def test_a_final_waits_until_it_has_its_text_and_other_tiers_do_not_count() -> None:
    world = ready()
    first, second = (replace(job("a", i), hops=Hops(submitted_s=world.now_s + i)) for i in range(2))
    recording = replace(job("b"), tier=Tier.FILES, hops=Hops(submitted_s=0.0))
    partial = replace(job("c", final=False), hops=Hops(submitted_s=0.0))
    world.submit(first, second, recording, partial)
    now_s = world.now_s + 3.0
    assert world.supervisor.longest_wait_s([Tier.LIVE], now_s) == 3.0
    world.answer()
    assert world.supervisor.longest_wait_s([Tier.LIVE], now_s) == 2.0
    world.answer()
    assert world.supervisor.longest_wait_s([Tier.LIVE], now_s) == 0.0
