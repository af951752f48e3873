"""Finals that tell when each word was said, for clients that ask."""

import dataclasses

import numpy as np
from driver import FACTS, READING_ON, SETTINGS, START, World, as_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import Audio, Final, Finish, Started, Tier
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.engine.fake import FakeTranscriber, numbered_speech, silence

TIMED = dataclasses.replace(
    SETTINGS, tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, can_time_words=True)}), partial_frames=8
)


def decode(world: World, job: DecodeJob) -> None:
    """The fake engine reads a job, words included if they are asked for."""
    [result] = FakeTranscriber().transcribe(Batch((job,)))
    world.take(world.session.receive_result(result, world.now_s))


def spoken(*, words: bool, talks: list[tuple[int, int]] | None = None) -> tuple[World, list[DecodeJob]]:
    """A session that has heard talks, (frames of speech, of silence) each, and all jobs that it gave."""
    world = World(TIMED).start(dataclasses.replace(START, words=words))
    jobs: list[DecodeJob] = []
    number = 0
    for n_speech, n_silent in talks or [(200, 40), (20, 40)]:
        frames = [numbered_speech(range(number, number + n_speech)), silence(n_silent)]
        number += n_speech
        world.receive(Audio(as_bytes(np.concatenate(frames))))
        world.score()
        while world.jobs:
            jobs.append(world.jobs.pop(0))
            decode(world, jobs[-1])
    world.receive(Finish())
    world.score()
    for job in world.jobs:
        jobs.append(job)
        decode(world, job)
    return world, jobs


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 180), st.integers(0, 40)), min_size=1, max_size=4))
def test_words_joined_are_the_text_in_order_inside_their_segments(
    talks: list[tuple[int, int]],
) -> None:
    world, _ = spoken(words=True, talks=talks)
    finals = world.of(Final)
    assert [int(word.text) for final in finals for word in final.words or ()] == world.numbers
    assert len(world.numbers) == sum(n_speech for n_speech, _ in talks)
    for final in finals:
        assert final.words is not None
        assert "".join(word.text for word in final.words) == final.text
        bounds = [bound for word in final.words for bound in (word.start, word.end)]
        assert bounds == sorted(bounds)
        assert final.start <= bounds[0]
        assert bounds[-1] <= final.end


def test_words_are_asked_of_the_engine_for_finals_only() -> None:
    _, jobs = spoken(words=True)
    assert {job.final for job in jobs} == {True, False}
    assert all(job.word_times == job.final for job in jobs)


def test_who_does_not_ask_gets_none_and_costs_no_pass() -> None:
    world, jobs = spoken(words=False)
    assert [final.words for final in world.of(Final)] == [None] * len(world.of(Final))
    assert not any(job.word_times for job in jobs)
    timed, _ = spoken(words=True)
    assert [final.text for final in timed.of(Final)] == [final.text for final in world.of(Final)]


def test_a_final_that_cannot_be_decoded_has_no_words() -> None:
    world = World(TIMED).start(dataclasses.replace(START, words=True))
    world.send(numbered_speech(range(20)))
    world.receive(Finish())
    world.score()
    final = next(job for job in world.jobs if job.final)
    world.take(world.session.receive_undecodable(final, world.now_s))
    assert [(final.text, final.words) for final in world.of(Final)] == [("", ())]


def test_started_says_what_server_and_model_can() -> None:
    assert features(TIMED) == ("words",)
    assert features(dataclasses.replace(READING_ON, features=("rooms",))) == ("rooms", "context")
    assert features(SETTINGS) == ()


def features(settings: SessionSettings) -> tuple[str, ...]:
    [started] = World(settings).start(START).of(Started)
    return started.features
