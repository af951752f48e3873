"""A final that is read when its pause begins is the one that would have been read at its end."""

import dataclasses

import pytest
from driver import FACTS, READING_ON, SETTINGS, START, World, timed_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.actions import Action, Score, Send, Submit
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import Audio, Final, Finish, Flush, Partial, SessionId, Tier
from stream_server.core.orders import Decode, Order, Results
from stream_server.core.scheduler import Scheduler
from stream_server.core.session import Session
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.core.supervisor import Patience, Supervisor
from stream_server.core.transcription import EARLY_BEHIND_FRAMES
from stream_server.engine.fake import numbered_speech, silence
from vad.audio import frames_within_ms

POST_ROLL = frames_within_ms(SETTINGS.segmenter.post_roll_ms)
PAUSE = 15
WITHOUT = dataclasses.replace(SETTINGS, early_finals=False)
JOINED = dataclasses.replace(
    SETTINGS,
    tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, can_time_words=True)}),
    segmenter=dataclasses.replace(SETTINGS.segmenter, overlap_ms=1_000),
)


def live(world: World, n_speech: int, n_silent: int, first: int = 0) -> World:
    """Speech and silence at real time, a frame each 32 ms, scored as it comes."""
    for frame in [
        *numbered_speech(range(first, first + n_speech)).reshape(-1, 512),
        *silence(n_silent).reshape(-1, 512),
    ]:
        world.now_s += 0.032
        world.send(frame)
        world.score()
    return world


def pausing(settings: SessionSettings = SETTINGS, n_speech: int = 40) -> World:
    """A session whose segment has just become complete, if nobody goes on speaking."""
    return live(World(settings).start(), n_speech, POST_ROLL)


def early(world: World) -> DecodeJob:
    (job,) = [job for job in world.jobs if job.early]
    return job


def test_a_segment_is_read_once_when_its_post_roll_is_complete() -> None:
    world = live(World().start(), 40, POST_ROLL - 1)
    assert not any(job.early for job in world.jobs)
    live(world, 0, 1)
    job = early(world)
    assert (job.final, job.start, job.n_samples) == (False, 0, (40 + POST_ROLL) * 512)
    world.decode(world.jobs.index(job))
    live(world, 0, PAUSE - POST_ROLL - 1)
    assert world.jobs == []


def test_what_was_read_early_is_the_final_at_the_end_of_the_pause() -> None:
    world = pausing()
    began_s = world.now_s - 0.032 * POST_ROLL
    world.now_s += 0.01
    world.decode(world.jobs.index(early(world)))
    asked_s = world.now_s
    live(world, 0, PAUSE - POST_ROLL)
    assert world.jobs == [], "nothing is left to decode"
    (final,) = world.of(Final)
    assert (world.numbers, final.end) == (list(range(40)), (40 + POST_ROLL) * 512)
    assert final.hops is not None
    assert final.hops.received_s == pytest.approx(began_s)
    assert final.hops.heard_s == final.hops.submitted_s == world.now_s
    assert final.hops.decoded_s == asked_s < world.now_s, "it waited neither in the queue nor for the engine"


def test_the_final_is_asked_for_where_the_early_one_has_not_come_back() -> None:
    world = live(pausing(), 0, PAUSE - POST_ROLL)
    (job,) = [job for job in world.jobs if job.final]
    assert early(world).foretells(job)
    world.decode(world.jobs.index(job))
    world.settle()
    assert world.numbers == list(range(40)), "the early one that comes later says nothing"


def test_if_speech_goes_on_it_was_a_partial_and_the_next_pause_is_read_again() -> None:
    world = pausing()
    world.decode(world.jobs.index(early(world)))
    assert world.of(Partial)[-1].text == " ".join(map(str, range(40)))
    live(world, 15, 0, first=40)
    assert world.jobs == [], "it counts as a partial: the next one is not due"
    live(world, 1, POST_ROLL, first=55)
    assert early(world).n_samples == (40 + POST_ROLL + 16 + POST_ROLL) * 512
    live(world, 0, PAUSE).settle()
    assert world.numbers == list(range(56))


def test_what_comes_back_of_an_earlier_pause_is_not_the_final_of_a_later_one() -> None:
    world = pausing()
    first = early(world)
    live(world, 1, POST_ROLL, first=40)
    second = early(world)
    world.jobs.clear()
    world.take(world.session.receive_result(timed_answer(first), world.now_s))
    live(world, 0, PAUSE)
    [final] = [job for job in world.jobs if job.final]
    assert second.foretells(final)
    world.settle()
    assert world.numbers == list(range(41))


def test_an_early_final_is_not_shown_to_who_wants_no_partials() -> None:
    world = live(World().start(dataclasses.replace(START, partials=False)), 40, POST_ROLL)
    world.decode(world.jobs.index(early(world)))
    assert world.of(Partial) == []
    live(world, 0, PAUSE)
    assert world.numbers == list(range(40))


def test_a_flush_in_the_pause_gets_what_was_read_early() -> None:
    world = pausing()
    world.decode(world.jobs.index(early(world)))
    world.receive(Flush())
    assert (world.jobs, world.numbers) == ([], list(range(40)))


def test_of_what_is_sent_faster_than_it_is_scored_nothing_is_read_early() -> None:
    for n_behind, n_early in ((EARLY_BEHIND_FRAMES, 1), (EARLY_BEHIND_FRAMES + 1, 0)):
        world = World().start()
        world.send(numbered_speech(range(40)))
        world.send(silence(POST_ROLL + n_behind))
        world.score(40 + POST_ROLL)
        assert sum(job.early for job in world.jobs) == n_early


def test_a_server_that_is_told_not_to_reads_nothing_early() -> None:
    assert not any(job.early for job in pausing(WITHOUT).jobs)


def test_with_context_it_is_read_when_the_final_before_is_known_and_as_that_will_be() -> None:
    world = live(World(READING_ON).start(), 40, PAUSE)
    live(world, 10, POST_ROLL, first=40)
    assert not any(job.early for job in world.jobs), "the final before has not come back"
    world = live(World(READING_ON).start(), 40, PAUSE).settle()
    live(world, 10, POST_ROLL, first=40)
    assert early(world).prompt == " ".join(map(str, range(40)))
    world.decode(world.jobs.index(early(world)))
    live(world, 0, PAUSE)
    assert (world.jobs, world.numbers) == ([], list(range(50)))


def test_behind_a_cut_it_is_no_partial_and_the_final_all_the_same() -> None:
    world = live(World(JOINED).start(), 170, 0)
    [cut] = [job for job in world.jobs if job.final]
    world.jobs.remove(cut)
    world.take(world.session.receive_result(timed_answer(cut), world.now_s))
    n_partials = len(world.of(Partial))
    live(world, 0, POST_ROLL, first=170)
    job = early(world)
    assert job.word_times, "its words are joined with those before the cut"
    world.jobs.remove(job)
    world.take(world.session.receive_result(timed_answer(job), world.now_s))
    assert len(world.of(Partial)) == n_partials
    live(world, 0, PAUSE)
    assert [job for job in world.jobs if job.final] == []
    assert world.numbers == list(range(170))


# ---------------------------------------------------------------- whatever happens when


class Server:
    """Two live sessions before one engine that answers when told."""

    def __init__(self, settings: SessionSettings) -> None:
        self.now_s = 0.0
        self.sessions = [Session(SessionId(name), settings, 0.0) for name in "ab"]
        canary = dataclasses.replace(CANARY, tier=Tier.LIVE)
        self.supervisor = Supervisor(Scheduler(2, 100), [canary], Patience())
        self.task: tuple[DecodeJob, ...] = ()
        self.texts: dict[str, list[str]] = {"a": [], "b": []}
        self.n_early = 0
        self._n_said = [0, 0]
        self._obey(self.supervisor.start(0.0))
        self._obey(self.supervisor.ready({Tier.LIVE: 2}, 0.0))
        self.answer()
        for session in self.sessions:
            self._act(session, session.receive(START, 0.0))

    def hear(self, which: int, n_speech: int, n_silent: int) -> None:
        """One of them says something, at real time."""
        session, said = self.sessions[which], self._n_said[which]
        self._n_said[which] += n_speech
        frames = [
            *numbered_speech(range(said, said + n_speech)).reshape(-1, 512),
            *silence(n_silent).reshape(-1, 512),
        ]
        for frame in frames:
            self.now_s += 0.032
            self._act(session, session.receive(Audio(frame.astype("<i2").tobytes()), self.now_s))

    def answer(self) -> None:
        """The engine has decoded its batch."""
        jobs, self.task = self.task, ()
        if jobs:
            results = [timed_answer(job, self.now_s) for job in jobs]
            self._obey(self.supervisor.answered(results, 2, self.now_s))

    def finish(self) -> dict[str, list[str]]:
        for session in self.sessions:
            self._act(session, session.receive(Finish(), self.now_s))
        while self.task:
            self.answer()
        return self.texts

    def _act(self, session: Session, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Score(frames):
                    scores = [float(frame[0] != 0) for frame in frames]
                    self._act(session, session.receive_scores(scores, self.now_s))
                case Submit(job):
                    self.n_early += job.early
                    self._obey(self.supervisor.submit(job, self.now_s))
                case Send(numbered) if isinstance(numbered.event, Final):
                    self.texts[session.id].append(numbered.event.text)
                case _:
                    continue

    def _obey(self, orders: list[Order]) -> None:
        for order in orders:
            if isinstance(order, Decode):
                self.task = order.batch.jobs
            elif isinstance(order, Results):
                for result in order.results:
                    session = self.sessions["ab".index(result.session)]
                    self._act(session, session.receive_result(result, self.now_s))


(CANARY,) = [job for job in pausing().jobs if job.early]
SPOKEN = st.tuples(
    st.integers(0, 1), st.sampled_from([0, 1, 20, 60]), st.sampled_from([0, 1, 5, POST_ROLL, 9, PAUSE, 20])
)


@settings(max_examples=100)
@given(
    st.lists(SPOKEN | st.just("answer"), min_size=5, max_size=25),
    st.sampled_from([SETTINGS, READING_ON, JOINED]),
)
def test_the_finals_are_those_of_a_server_that_reads_nothing_early(
    steps: list[tuple[int, int, int] | str], server: SessionSettings
) -> None:
    told = []
    for early_finals in (True, False):
        world = Server(dataclasses.replace(server, early_finals=early_finals))
        for step in steps:
            if isinstance(step, tuple):
                world.hear(*step)
            else:
                world.answer()
        told.append(world.finish())
    assert told[0] == told[1]
