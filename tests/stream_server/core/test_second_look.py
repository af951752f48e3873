"""Utterances of several segments, decoded once more: each rule of the module, through a session."""

import dataclasses

import pytest
from driver import (
    FACTS,
    READING_ON,
    RESUMABLE,
    SETTINGS,
    START,
    HubWorld,
    World,
    answer,
    check_complete,
    numbers_in,
)

from stream_server.core.jobs import DecodeJob, GuardRule
from stream_server.core.messages import (
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    Tier,
    Transcript,
    Utterance,
    Word,
)
from stream_server.core.second_look import LOOK_S, WAITING_MAX
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.engine.fake import numbered_speech, silence
from stream_server.errors import ShuttingDown

REVISE = dataclasses.replace(START, revise=True, partials=False)
LONG = 300
"""Frames of speech, 9.6 s: two segments."""


def listening(settings: SessionSettings = SETTINGS) -> World:
    return World(settings).start(REVISE)


def say(world: World, first: int, n_frames: int = LONG) -> World:
    """Speech and a pause; the speech detector answers."""
    world.send(numbered_speech(range(first, first + n_frames)))
    world.send(silence(40))
    world.score()
    return world


def decode_finals(world: World) -> list[DecodeJob]:
    """The engine answers all but looks; returns the looks."""
    while (index := next((i for i, job in enumerate(world.jobs) if not job.is_look), None)) is not None:
        world.decode(index)
    return world.jobs


def test_an_utterance_of_several_segments_is_decoded_once_more_and_replaces_its_finals() -> None:
    world = say(listening(), 0)
    [look] = decode_finals(world)
    finals = world.of(Final)
    assert (look.first_segment, look.segment) == (0, len(finals) - 1)
    assert len(finals) > 1
    world.decode()
    assert world.of(Utterance) == [
        Utterance(0, finals[-1].segment, finals[0].start, finals[-1].end, _said(range(LONG)), "en")
    ]


def _said(numbers: range) -> str:
    return " ".join(map(str, numbers))


def test_nobody_is_looked_at_who_did_not_ask() -> None:
    world = say(World().start(dataclasses.replace(START, partials=False)), 0)
    assert decode_finals(world) == []
    world.receive(Finish())
    world.score()
    assert world.close_code == 1000


def test_an_utterance_of_one_segment_is_not_looked_at() -> None:
    assert decode_finals(say(listening(), 0, 60)) == []


def test_a_look_is_asked_for_only_when_the_last_of_its_finals_has_left() -> None:
    world = say(listening(), 0)
    n_finals = len(world.jobs)
    for _ in range(n_finals):
        assert not any(job.is_look for job in world.jobs)
        world.decode(len(world.jobs) - 1)
    assert [job.is_look for job in world.jobs] == [True]


def test_its_draft_are_the_tokens_of_its_finals() -> None:
    [look] = decode_finals(say(listening(), 0))
    assert look.draft == tuple(range(LONG))


def test_its_prompt_is_that_of_its_first_final() -> None:
    world = say(World(READING_ON).start(REVISE), 0, 60)
    decode_finals(world)
    world = say(world, 100)
    prompts = {job.segment: job.prompt for job in world.jobs}
    [look] = decode_finals(world)
    assert look.prompt == prompts[look.first_segment] != ""


def test_it_asks_for_words_where_the_client_did() -> None:
    timed = dataclasses.replace(
        SETTINGS, tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, can_time_words=True)})
    )
    world = say(World(timed).start(dataclasses.replace(REVISE, words=True)), 0)
    [look] = decode_finals(world)
    assert look.word_times
    words = (Word("0", 0, 512),)
    world.take(world.session.receive_result(dataclasses.replace(answer(look), words=words), 0.0))
    assert world.of(Utterance)[0].words == words


def test_what_is_longer_than_a_window_is_looked_at_in_parts() -> None:
    world = listening()
    looks: list[DecodeJob] = []
    for first in range(0, 2_100, 100):  # 67 s, segments of 5 s
        world.send(numbered_speech(range(first, first + 100)))
        world.score()
        looks += _decode_all(world)
    world.send(silence(40))
    world.score()
    looks += _decode_all(world)
    assert len(looks) == 3
    assert all(look.n_samples <= 30 * 16_000 for look in looks)
    assert [n for utterance in world.of(Utterance) for n in numbers_in(utterance.text)] == list(range(2_100))


def _decode_all(world: World) -> list[DecodeJob]:
    """The engine answers everything; returns the looks that were among it."""
    looks = list(decode_finals(world))
    world.settle()
    return looks


def test_only_the_audio_of_an_open_utterance_is_kept() -> None:
    world = listening()
    for first in range(0, 3_000, 100):
        world.send(numbered_speech(range(first, first + 100)))
        world.score()
        decode_finals(world)
        window = world.session._streaming._windows.audio
        assert window.end - window.start <= 35.1 * 16_000
    world.send(silence(40))
    world.score()
    assert window.end - window.start <= 16_000


def test_one_is_under_way_at_a_time_and_the_oldest_that_waits_makes_room() -> None:
    world = listening()
    for i in range(WAITING_MAX + 3):
        say(world, i * 1_000)
        decode_finals(world)
    assert [job.is_look for job in world.jobs] == [True]
    assert len(world.abandoned) == 2
    world.settle()
    firsts = [numbers_in(utterance.text)[0] for utterance in world.of(Utterance)]
    assert firsts == [0, 3_000, 4_000]


def test_one_that_takes_too_long_is_given_up_and_what_comes_then_is_not_read() -> None:
    world = say(listening(), 0)
    [late] = decode_finals(world)
    say(world, 1_000)
    decode_finals(world)
    world.pass_time(LOOK_S)
    assert world.abandoned == []
    world.pass_time(0.1)
    assert world.abandoned == [late]
    world.take(world.session.receive_result(answer(late), world.now_s))
    assert world.of(Utterance) == []
    world.settle()
    assert [numbers_in(utterance.text)[0] for utterance in world.of(Utterance)] == [1_000]


@pytest.mark.parametrize("text", ["", "loop"])
def test_what_the_guard_took_from_or_is_empty_replaces_nothing(text: str) -> None:
    world = say(listening(), 0)
    [look] = decode_finals(world)
    result = dataclasses.replace(answer(look, text=text), dropped=GuardRule.REPETITION if text else None)
    world.take(world.session.receive_result(result, world.now_s))
    assert world.of(Utterance) == []


def test_finals_that_are_all_empty_are_not_looked_at() -> None:
    world = say(listening(), 0)
    while world.jobs:
        assert not world.jobs[0].is_look
        world.decode(text="")


def test_one_that_cannot_be_decoded_leaves_the_finals_without_a_word() -> None:
    world = say(listening(), 0)
    [look] = decode_finals(world)
    world.jobs = []
    assert world.take(world.session.receive_undecodable(look, world.now_s)) == []
    say(world, 1_000)
    assert [job.is_look for job in decode_finals(world)] == [True]


def test_a_flush_does_not_wait_for_it() -> None:
    world = listening()
    world.send(numbered_speech(range(LONG)))
    world.receive(Flush())
    world.score()
    decode_finals(world)
    assert len(world.of(Flushed)) == 1


def test_the_end_waits_for_it_but_not_for_ever() -> None:
    world = say(listening(), 0)
    world.receive(Finish())
    world.score()
    decode_finals(world)
    world.pass_time(LOOK_S / 2)
    assert world.close_code is None
    world.pass_time(LOOK_S)
    assert world.close_code == 1000
    check_complete(world.events)


def test_an_error_gives_it_up() -> None:
    world = say(listening(), 0)
    [look] = decode_finals(world)
    world.end(ShuttingDown("stopping"))
    world.score()
    assert world.abandoned == [look]
    assert world.close_code == 1001


def test_a_transcript_has_the_text_of_the_second_look() -> None:
    world = World().start(dataclasses.replace(REVISE, transcript=True))
    say(world, 0)
    decode_finals(world)
    world.decode(text="read again")
    say(world, 1_000, 60)
    world.receive(Finish())
    world.settle()
    [finished] = world.of(Finished)
    assert finished.transcript == Transcript(f"read again\n{_said(range(1_000, 1_060))}", 0)


def test_what_a_hub_gives_up_is_counted_and_taken_from_the_queue() -> None:
    world = HubWorld()
    client = world.open("a", start=False)
    client.say(REVISE)
    client.speak(numbered_speech(range(LONG))).speak(silence(40))
    world.score(client.id)
    while not world.decoder.jobs[0].is_look:
        world.decode()
    client.read()
    world.now_s += LOOK_S + 1
    world.hub.tick(world.now_s)
    assert (world.hub.n_looks_given_up, world.decoder.jobs) == (1, [])


def test_a_client_that_comes_back_gets_the_utterance_once() -> None:
    world = HubWorld(RESUMABLE)
    client = world.open("a", start=False)
    client.say(REVISE)
    client.speak(numbered_speech(range(LONG))).speak(silence(40))
    world.score(client.id)
    while not world.decoder.jobs[0].is_look:
        world.decode()
    client.read()
    client.leave(None)
    world.decode()
    again = world.resume(client)
    assert [type(event) for event in again.read() if isinstance(event, Utterance)] == [Utterance]
