"""Each rule of the scheduler's docstring, then what holds for any order of jobs."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import BeamSearch, SessionId, Task, Tier
from stream_server.core.scheduler import Scheduler
from stream_server.errors import Overloaded


def job(
    session: str,
    segment: int = 0,
    *,
    final: bool = False,
    revision: int = 1,
    n_samples: int = 1,
    beams: int | None = None,
) -> DecodeJob:
    return DecodeJob(
        session=SessionId(session),
        segment=segment,
        revision=revision,
        final=final,
        start=0,
        pcm=b"\0\0" * n_samples,
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
        beam=None if beams is None else BeamSearch(beams),
    )


def final(session: str, segment: int = 0) -> DecodeJob:
    return job(session, segment, final=True)


def early(session: str, segment: int = 0) -> DecodeJob:
    return replace(job(session, segment), early=True)


def look(session: str, segment: int = 1) -> DecodeJob:
    """A second look at two segments."""
    return replace(final(session, segment), n_segments=2)


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


def test_an_early_final_goes_behind_finals_and_before_partials_and_with_neither() -> None:
    a, b, c, d = job("a"), early("b"), early("c"), final("d")
    assert batches(queue(a, b, c, d)) == [[d], [b, c], [a]]


def test_an_early_final_takes_the_place_of_a_partial_and_leaves_it_to_a_newer_one_or_to_its_final() -> None:
    partial = job("a", revision=2)
    assert batches(queue(job("a"), early("a"))) == [[early("a")]]
    assert batches(queue(early("a"), partial)) == [[partial]]
    assert batches(queue(early("a"), final("a"))) == [[final("a")]]


def test_a_batch_is_not_longer_than_its_limit() -> None:
    finals = [final("a", segment) for segment in range(5)]
    partials = [job(name) for name in "uvw"]
    taken = batches(queue(*partials, *finals, batch_max=2))
    assert taken == [finals[:2], finals[2:4], finals[4:], *([one] for one in partials)]


def test_a_job_takes_as_many_rows_of_a_batch_as_it_has_beams() -> None:
    wide, narrow, small = job("a", final=True, beams=5), job("b", final=True, beams=3), final("c")
    assert batches(queue(wide, narrow, small)) == [[wide, narrow], [small]]
    assert batches(queue(small, wide, narrow)) == [[small, wide], [narrow]]
    assert batches(queue(wide, narrow, small, batch_max=9)) == [[wide, narrow, small]]


def test_a_job_of_more_rows_than_a_batch_has_goes_alone_and_no_smaller_one_overtakes() -> None:
    small, wide, last = final("a"), job("b", final=True, beams=5), final("c")
    assert batches(queue(small, wide, last, batch_max=4)) == [[small], [wide], [last]]


def test_the_finals_of_a_session_leave_in_the_order_in_which_they_came() -> None:
    finals = [final("a", segment) for segment in range(4)]
    assert [one for batch in batches(queue(*finals, batch_max=3)) for one in batch] == finals


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


# ---------------------------------------------------------------- jobs that come back


def test_restored_jobs_are_first_of_their_kind_in_their_order_and_each_alone() -> None:
    scheduler = queue(final("x"), job("y"))
    scheduler.restore([final("a"), job("b"), final("a", 1), job("c")])
    assert len(scheduler) == 6
    alone = [[final("a")], [final("a", 1)], [final("x")], [job("b")], [job("c")], [job("y")]]
    assert batches(scheduler) == alone


def test_isolation_holds_for_all_jobs_of_a_segment_and_for_no_other() -> None:
    scheduler = queue()
    scheduler.restore([job("a", 3)])
    scheduler.submit(final("b"))
    scheduler.submit(final("a", 3))
    scheduler.submit(final("a", 4))
    assert batches(scheduler) == [[final("b"), final("a", 4)], [final("a", 3)]]


def test_isolation_ends_when_a_job_of_the_segment_was_decoded_or_its_session_has_left() -> None:
    scheduler = queue()
    scheduler.restore([job("a"), job("b")])
    assert len(batches(scheduler)) == 2
    scheduler.acquit([job("a")])
    scheduler.withdraw(SessionId("b"))
    for name in "abc":
        scheduler.submit(final(name))
    assert len(batches(scheduler)) == 1


@pytest.mark.parametrize("newer", [job("a", 3, revision=2), job("a", 4), final("a", 3), final("a", 4)])
def test_a_restored_partial_that_has_been_made_pointless_is_dropped(newer: DecodeJob) -> None:
    scheduler = queue(newer)
    scheduler.restore([job("a", 3)])
    assert (batches(scheduler), scheduler.n_superseded) == ([[newer]], 1)


def test_a_restored_partial_outlives_finals_of_segments_before_it_and_of_others() -> None:
    scheduler = queue(final("a", 2), final("b", 3))
    scheduler.restore([job("a", 3)])
    assert batches(scheduler) == [[final("a", 2), final("b", 3)], [job("a", 3)]]


def test_restored_finals_are_let_in_beyond_the_limit() -> None:
    scheduler = queue(final("a"), finals_max=1)
    scheduler.restore([final("b"), final("c")])
    with pytest.raises(Overloaded):
        scheduler.submit(final("d"))
    assert len(scheduler) == 3


def test_a_lower_limit_holds_from_the_next_batch_on() -> None:
    scheduler = queue(*(final(name) for name in "abcde"))
    scheduler.limit(Tier.LIVE, 2)
    assert [len(batch) for batch in batches(scheduler)] == [2, 2, 1]


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
    waiting: list[DecodeJob] = []  # finals that must still come out, oldest first
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
                assert not finals or waiting[0] in finals, "the oldest leads"
                for session in {one.session for one in finals}:
                    own = [one for one in finals if one.session == session]
                    assert own == [one for one in waiting if one.session == session][: len(own)]
                assert len(finals) in (0, len(batch.jobs))
                assert finals or not waiting
                for one in finals:
                    waiting.remove(one)
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


def test_a_second_look_waits_while_anything_else_does() -> None:
    a, b, c = look("a"), job("b"), final("a", 2)
    scheduler = queue(a, b, c)
    assert len(scheduler) == 3
    assert batches(scheduler) == [[c], [b], [a]]


def test_a_session_has_one_second_look_waiting_which_neither_partials_nor_finals_remove() -> None:
    older, newer, other = look("a"), look("a", 3), look("b")
    scheduler = queue(older, job("a", 4), newer, final("a", 4), other, batch_max=12)
    assert batches(scheduler) == [[final("a", 4)], [newer, other]]


def test_a_batch_of_second_looks_is_no_longer_than_one_of_segments() -> None:
    looks = [look(name) for name in "abcdefg"]
    assert [len(batch) for batch in batches(queue(*looks, batch_max=20))] == [3, 3, 1]
    assert [len(batch) for batch in batches(queue(*looks[:2], batch_max=4))] == [1, 1]


def test_partials_leave_half_of_a_batch_empty_unless_a_full_one_is_short() -> None:
    scheduler = Scheduler(8, 100)

    def sizes(*jobs: DecodeJob) -> list[int]:
        for one in jobs:
            scheduler.submit(one)
        return [len(batch) for batch in batches(scheduler)]

    partials = [job(str(i)) for i in range(10)]
    assert sizes(*partials) == [4, 4, 2]
    # What finals, early ones and looks take says nothing of it.
    for other in (final("a"), early("a"), look("a")):
        scheduler.note_time([other] * 8, 0.01)
        assert sizes(*partials) == [4, 4, 2]
    scheduler.note_time(partials[:4], 0.04)
    assert sizes(*partials) == [8, 2]
    scheduler.note_time(partials[:8], 0.11)
    assert sizes(*partials) == [4, 4, 2]
    assert sizes(*(early(str(i)) for i in range(10))) == [8, 2]
    assert sizes(*(final(str(i)) for i in range(10))) == [8, 2]
    # Of a batch of one there is no half.
    scheduler.limit(Tier.LIVE, 1)
    assert sizes(*partials[:2]) == [1, 1]


def test_a_second_look_is_never_refused() -> None:
    one = look("a")
    assert batches(queue(final("a"), one, finals_max=1)) == [[final("a")], [one]]


def test_a_second_look_that_was_given_up_is_not_decoded() -> None:
    one, other = look("a"), look("b")
    scheduler = queue(one, other)
    scheduler.abandon(look("b", 5))
    scheduler.abandon(one)
    scheduler.abandon(one)
    assert batches(scheduler) == [[other]]
    scheduler.submit(one)
    scheduler.withdraw(one.session)
    assert batches(scheduler) == []


def test_a_restored_second_look_is_first_and_alone_unless_there_is_a_newer_one() -> None:
    lost, outdated, newer, waiting = look("a"), look("b"), look("b", 3), look("c")
    scheduler = queue(newer, waiting, batch_max=60)
    scheduler.restore([lost, outdated])
    assert batches(scheduler) == [[lost], [newer, waiting]]


def length(one: DecodeJob) -> int:
    """A bucket: the length of the window."""
    return one.n_samples


def test_the_oldest_leads_and_only_jobs_of_its_bucket_go_with_it() -> None:
    scheduler = Scheduler(8, 100, length)
    long_a, short_b, long_c = (
        job(name, final=True, n_samples=n) for name, n in (("a", 2), ("b", 1), ("c", 2))
    )
    for one in (long_a, short_b, long_c):
        scheduler.submit(one)
    assert batches(scheduler) == [[long_a, long_c], [short_b]]


def test_a_batch_holds_jobs_of_one_tier() -> None:
    live, other = job("a"), replace(job("b"), tier=Tier.FILES)
    late = job("c")
    assert batches(queue(live, other, late)) == [[live, late], [other]]


def test_a_tier_whose_memory_is_short_gets_smaller_batches_and_no_other_does() -> None:
    live = [final(name) for name in "abc"]
    others = [replace(final(name), tier=Tier.FALLBACK) for name in "def"]
    scheduler = queue(*live, *others, batch_max=4)
    scheduler.limit(Tier.FALLBACK, 1)
    assert (scheduler.batch_max(Tier.LIVE), scheduler.batch_max(Tier.FALLBACK)) == (4, 1)
    assert batches(scheduler) == [live, *([one] for one in others)]


@given(
    st.lists(st.tuples(st.sampled_from(Tier), st.integers(1, 2), st.booleans()), max_size=30),
    st.integers(1, 4),
)
def test_no_batch_mixes_models_or_lengths_whatever_waits(
    arrivals: list[tuple[Tier, int, bool]], batch_max: int
) -> None:
    scheduler = Scheduler(batch_max, 100, length)
    for number, (tier, n_samples, is_final) in enumerate(arrivals):
        scheduler.submit(replace(job(str(number), final=is_final, n_samples=n_samples), tier=tier))
    taken = batches(scheduler)
    assert sum(map(len, taken)) == len(arrivals)
    assert all(len({(one.tier, one.n_samples, one.final) for one in batch}) == 1 for batch in taken)


def test_the_oldest_of_every_session_comes_before_the_second_of_any() -> None:
    greedy = [final("greedy", segment) for segment in range(4)]
    modest = [final("b"), final("c")]
    assert batches(queue(*greedy, *modest, batch_max=3)) == [[greedy[0], *modest], greedy[1:]]


STEP_S = 0.02


class Simulated:
    """1,000 people talking to one engine, on a clock of its own.

    Every session speaks segments of 2 to 5 s, asks for a partial every 0.5 s while none of it is out, and
    for a final when a segment ends. A pass costs ``pass_s`` and ``row_s`` for each of its rows.
    """

    def __init__(self, n_sessions: int, *, pass_s: float, row_s: float, batch_max: int = 64) -> None:
        self.scheduler = Scheduler(batch_max, 10_000, length)
        self.cost_s = (pass_s, row_s)
        self.random = random.Random(1)
        self.sessions = [SessionId(f"s{i}") for i in range(n_sessions)]
        self.waits_s: dict[bool, list[float]] = {True: [], False: []}
        self.partials: Counter[SessionId] = Counter()
        self.n_asked = Counter[bool]()
        self.kept: list[DecodeJob] = []
        """Every job, so that no two have the same id."""

    def run(self, end_s: float) -> None:
        """Speak until ``end_s``, then let the engine empty the queue."""
        self.spoken = {s: (-self.random.random() * 5, 0, False) for s in self.sessions}
        self.begun: dict[int, float] = {}
        now_s, free_s, under_way = 0.0, 0.0, None
        while now_s < end_s or len(self.scheduler) or under_way is not None:
            while free_s <= now_s:
                if under_way is not None:
                    self._finish(under_way, free_s)
                under_way = self.scheduler.next_batch()
                if under_way is None:
                    free_s = now_s + STEP_S
                    break
                free_s += self.cost_s[0] + self.cost_s[1] * len(under_way.jobs)
                assert len({length(one) for one in under_way.jobs}) == 1
            if now_s < end_s:
                self._speak(now_s)
            now_s += STEP_S

    def _speak(self, now_s: float) -> None:
        for session in self.sessions:
            age_s, segment, is_out = self.spoken[session]
            age_s += STEP_S
            n_samples = int(age_s * 2) + 1
            if age_s >= 5 or (age_s >= 2 and self.random.random() < 0.01):
                self._ask(job(session, segment, final=True, n_samples=n_samples), now_s)
                age_s, segment, is_out = -1.0, segment + 1, False
            elif age_s > 0 and int(age_s / 0.5) > int((age_s - STEP_S) / 0.5) and not is_out:
                self._ask(job(session, segment, n_samples=n_samples), now_s)
                is_out = True
            self.spoken[session] = (age_s, segment, is_out)

    def _ask(self, one: DecodeJob, now_s: float) -> None:
        self.begun[id(one)] = now_s
        self.kept.append(one)
        self.n_asked[one.final] += 1
        self.scheduler.submit(one)

    def _finish(self, batch: Batch, now_s: float) -> None:
        self.scheduler.note_time(batch.jobs, self.cost_s[0] + self.cost_s[1] * len(batch.jobs))
        for one in batch.jobs:
            self.waits_s[one.final].append(now_s - self.begun[id(one)])
            age_s, segment, _ = self.spoken[one.session]
            if not one.final:
                self.partials[one.session] += 1
                if segment == one.segment:
                    self.spoken[one.session] = (age_s, segment, False)

    def p95_s(self, *, final: bool) -> float:
        waits = sorted(self.waits_s[final])
        return waits[int(0.95 * len(waits))]


def test_a_thousand_sessions_on_an_engine_with_room_all_get_finals_and_partials_in_time() -> None:
    world = Simulated(1000, pass_s=0.005, row_s=0.0004)
    world.run(30)
    assert len(world.waits_s[True]) == world.n_asked[True] > 4000
    assert world.p95_s(final=True) < 0.3
    assert world.p95_s(final=False) < 1.5
    assert min(world.partials[session] for session in world.sessions) >= 5


def test_a_thousand_sessions_on_an_engine_too_slow_lose_partials_and_no_final() -> None:
    roomy = Simulated(1000, pass_s=0.005, row_s=0.0004)
    tight = Simulated(1000, pass_s=0.02, row_s=0.003)
    roomy.run(30)
    tight.run(30)
    assert len(tight.waits_s[True]) == tight.n_asked[True]
    assert tight.p95_s(final=True) < 1.5
    assert tight.partials.total() < roomy.partials.total() / 2
    assert max(tight.partials.values()) <= 6, "nobody hogs what is scarce"
