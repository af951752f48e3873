"""Each rule of the policy's docstring, what holds for any load, and an overloaded server simulated."""

import dataclasses
from collections import deque

import pytest
from driver import FACTS, SETTINGS, World
from hypothesis import given
from hypothesis import strategies as st

from stream_server.audio.decoder import AudioFormat
from stream_server.core.messages import Final, Start, Tier
from stream_server.core.settings import ModelFacts, Tiers
from stream_server.core.step_down import BACKOFF_MAX, Overload, StepDown, StepReason
from stream_server.engine.fake import numbered_speech, silence

RULES = Overload(wait_s=1.0, overload_s=5.0, recovery_s=30.0)
OVER, UNDER, CALM = 1.0, 0.999, 0.499


class Watched:
    """A policy, its clock of one tick a second, and its steps: when, and why."""

    def __init__(self) -> None:
        self.policy = StepDown(RULES)
        self.now_s = 0.0
        self.steps: list[tuple[float, StepReason]] = []

    def see(self, *waits_s: float) -> "Watched":
        for wait_s in waits_s:
            self._note(self.policy.observe(wait_s, self.now_s))
            self.now_s += 1.0
        return self

    def run_out_of_memory(self) -> "Watched":
        self._note(self.policy.run_out_of_memory(self.now_s))
        return self

    def _note(self, reason: StepReason | None) -> None:
        if reason is not None:
            self.steps.append((self.now_s, reason))

    @property
    def reasons(self) -> list[StepReason]:
        return [reason for _, reason in self.steps]


# ---------------------------------------------------------------- 1: overload


def test_a_wait_that_stands_steps_down_when_its_time_has_come_and_not_before() -> None:
    watched = Watched().see(*[OVER] * 5)
    assert watched.steps == []
    assert watched.see(OVER).steps == [(5.0, StepReason.OVERLOAD)]
    assert watched.policy.is_down


def test_one_short_wait_shows_a_burst() -> None:
    watched = Watched().see(*[9.0] * 5, UNDER, *[9.0] * 5)
    assert watched.steps == []
    assert watched.see(9.0).reasons == [StepReason.OVERLOAD]


# ---------------------------------------------------------------- 2: memory


def test_memory_that_runs_out_steps_down_at_once_and_only_once() -> None:
    assert Watched().run_out_of_memory().run_out_of_memory().reasons == [StepReason.OUT_OF_MEMORY]


# ---------------------------------------------------------------- 3: recovery


def test_calm_steps_back_when_it_has_lasted() -> None:
    watched = Watched().run_out_of_memory().see(*[CALM] * 30)
    assert watched.policy.is_down
    assert watched.see(CALM).steps[1:] == [(30.0, StepReason.RECOVERED)]
    assert not watched.policy.is_down


def test_a_wait_of_half_the_limit_or_memory_that_runs_out_begins_the_calm_anew() -> None:
    watched = Watched().run_out_of_memory().see(*[CALM] * 30, 0.5, *[CALM] * 30).run_out_of_memory()
    assert watched.see(*[CALM] * 30).reasons == [StepReason.OUT_OF_MEMORY]
    assert watched.see(CALM).reasons[1:] == [StepReason.RECOVERED]


# ---------------------------------------------------------------- 4: no flapping


def times_down(watched: Watched, n_relapses: int) -> list[float]:
    """How long each stay with the lighter model was, where the load comes back at once."""
    for _ in range(n_relapses):
        while not watched.policy.is_down:
            watched.see(OVER)
        while watched.policy.is_down:
            watched.see(CALM)
    times = [second for second, _ in watched.steps]
    return [back - down for down, back in zip(times[::2], times[1::2], strict=True)]


def test_each_relapse_doubles_the_stay_up_to_a_limit() -> None:
    stays = times_down(Watched(), 7)
    assert [round((stay - 1) / RULES.recovery_s) for stay in stays] == [1, 2, 4, 8, 16, 16, 16]
    assert BACKOFF_MAX == 16


def test_a_live_model_that_holds_out_is_given_its_first_chance_again() -> None:
    watched = Watched()
    times_down(watched, 3)
    watched.see(*[UNDER] * 200)
    assert times_down(watched, 1)[-1] <= RULES.recovery_s + 1


# ---------------------------------------------------------------- 5: the engine is replaced


def test_what_was_measured_before_the_engine_was_replaced_does_not_count() -> None:
    watched = Watched().see(*[OVER] * 5)
    watched.policy.interrupt()
    assert watched.see(*[OVER] * 5).steps == []
    assert watched.see(OVER).reasons == [StepReason.OVERLOAD]


# ---------------------------------------------------------------- whatever the load is

SAMPLES = st.lists(st.one_of(st.floats(0, 3), st.just("memory")), max_size=400)


@given(SAMPLES)
def test_steps_alternate_and_each_stay_with_the_lighter_model_lasts(samples: list[float | str]) -> None:
    watched = Watched()
    for sample in samples:
        watched.run_out_of_memory() if isinstance(sample, str) else watched.see(sample)
    recovered = [reason is StepReason.RECOVERED for reason in watched.reasons]
    assert recovered == [i % 2 == 1 for i in range(len(recovered))]
    times = [second for second, _ in watched.steps]
    stays = [back - down for down, back in zip(times[::2], times[1::2], strict=False)]
    assert all(stay >= RULES.recovery_s for stay in stays)


@given(st.lists(st.floats(1.0, 9.0), min_size=6, max_size=100))
def test_a_wait_that_never_falls_steps_down_once_and_stays(waits_s: list[float]) -> None:
    assert Watched().see(*waits_s).steps == [(5.0, StepReason.OVERLOAD)]


# ---------------------------------------------------------------- a server


class Simulated:
    """One engine, finals that come at a rate, and a policy that looks once a second.

    The live model decodes 2 finals a second and the lighter one 20.
    """

    def __init__(self) -> None:
        self.policy = StepDown(RULES)
        self.now_s = 0.0
        self.queue: deque[float] = deque()
        self.worst_s = 0.0
        self.steps: list[StepReason] = []
        self._credit = 0.0
        self._due = 0.0

    def run(self, seconds: int, per_second: float) -> "Simulated":
        for _ in range(seconds):
            for _ in range(10):
                self._advance(per_second)
            wait_s = self.now_s - self.queue[0] if self.queue else 0.0
            self.worst_s = max(self.worst_s, wait_s)
            reason = self.policy.observe(wait_s, self.now_s)
            self.steps += [] if reason is None else [reason]
        return self

    def _advance(self, per_second: float) -> None:
        self.now_s += 0.1
        self._due += per_second / 10
        while self._due >= 1:
            self.queue.append(self.now_s)
            self._due -= 1
        self._credit = min(1.0, self._credit) + (2.0 if self.policy.is_down else 0.2)
        while self.queue and self._credit >= 1:
            self.queue.popleft()
            self._credit -= 1


def test_a_load_that_the_live_model_carries_takes_no_step() -> None:
    simulated = Simulated().run(600, 1.5)
    assert (simulated.steps, simulated.policy.is_down) == ([], False)


def test_an_overload_is_stepped_down_carried_and_stepped_back_from() -> None:
    simulated = Simulated().run(60, 1.5).run(60, 8.0)
    assert simulated.steps[:1] == [StepReason.OVERLOAD]
    assert simulated.worst_s < 10.0
    simulated.run(120, 1.0)
    assert (simulated.steps[-1], simulated.policy.is_down) == (StepReason.RECOVERED, False)
    assert simulated.run(600, 1.0).steps[-1] is StepReason.RECOVERED


def test_an_overload_of_an_hour_is_tried_again_ever_less_often() -> None:
    simulated = Simulated().run(3_600, 8.0)
    assert 3 <= simulated.steps.count(StepReason.RECOVERED) <= 11
    assert simulated.steps.count(StepReason.OVERLOAD) - simulated.steps.count(StepReason.RECOVERED) in (0, 1)


# ---------------------------------------------------------------- a session

LIGHT = ModelFacts("light", frozenset({"en"}), can_translate=False)
SAID = numbered_speech(range(200))
"""6.4 s: it is cut into two segments of one utterance."""


def tiers(fallback: ModelFacts = LIGHT, **live: object) -> Tiers:
    return Tiers({Tier.LIVE: dataclasses.replace(FACTS, **live), Tier.FALLBACK: fallback})  # type: ignore[arg-type]  of any field


ENGLISH = Start(AudioFormat(), language="en")


def test_models_change_between_utterances_and_never_within_one() -> None:
    both = tiers()
    world = World(dataclasses.replace(SETTINGS, tiers=both)).start(ENGLISH)
    world.send(SAID[: len(SAID) // 2])
    world.score()
    both.is_stepped_down = True
    world.send(SAID[len(SAID) // 2 :])
    world.send(silence(30))
    world.score()
    n_live = len(world.jobs)
    assert {job.tier for job in world.jobs} == {Tier.LIVE}
    assert sum(job.final for job in world.jobs) == 2
    world.send(numbered_speech(range(200, 240)))
    world.score()
    both.is_stepped_down = False
    world.send(numbered_speech(range(240, 280)))
    world.send(silence(30))
    world.score()
    assert {job.tier for job in world.jobs[n_live:]} == {Tier.FALLBACK}
    world.send(numbered_speech(range(300, 340)))
    world.score()
    assert world.jobs[-1].tier is Tier.LIVE


def test_captions_name_the_model_that_stands_in_and_no_other() -> None:
    both = tiers()
    world = World(dataclasses.replace(SETTINGS, tiers=both)).start(ENGLISH)
    for is_down in (False, True):
        both.is_stepped_down = is_down
        world.send(numbered_speech(range(40)))
        world.send(silence(30))
        world.score()
        world.settle()
    assert [final.model for final in world.of(Final)] == [None, "light"]


@pytest.mark.parametrize(
    ("start", "both", "tier"),
    [
        pytest.param(ENGLISH, tiers(), Tier.FALLBACK, id="the language asked for"),
        pytest.param(Start(AudioFormat(), language="de"), tiers(), Tier.LIVE, id="another language"),
        pytest.param(Start(AudioFormat()), tiers(), Tier.LIVE, id="any language, and it reads one"),
        pytest.param(
            Start(AudioFormat()), tiers(languages=frozenset({"en"})), Tier.FALLBACK, id="both read the same"
        ),
        pytest.param(
            dataclasses.replace(ENGLISH, words=True),
            tiers(can_time_words=True),
            Tier.LIVE,
            id="no words",
        ),
        pytest.param(
            dataclasses.replace(ENGLISH, tier=Tier.FILES), tiers(), Tier.FALLBACK, id="live reads files"
        ),
        pytest.param(
            dataclasses.replace(ENGLISH, tier=Tier.FILES),
            Tiers({Tier.LIVE: FACTS, Tier.FALLBACK: LIGHT, Tier.FILES: FACTS}),
            Tier.FILES,
            id="files",
        ),
    ],
)
def test_the_lighter_model_stands_in_where_it_can_do_what_was_promised(
    start: Start, both: Tiers, tier: Tier
) -> None:
    assert both.choose(start) is both.asked(start)
    both.is_stepped_down = True
    assert both.choose(start) is tier
