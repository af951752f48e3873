"""A session of two hours, by a simulated clock: its last minutes cost what its first ones did."""

from collections import deque
from dataclasses import replace

import numpy as np
from driver import FACTS, RESUMABLE, START, Client, HubWorld, as_bytes
from footprint import held_bytes, steps_of

from stream_server.core.messages import Audio, Final, Partial, Tier, Utterance, Word
from stream_server.core.room_log import RoomLimits
from stream_server.core.rooms import Rooms
from stream_server.core.settings import Tiers
from stream_server.engine.fake import numbered_frame, silence
from vad.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ

SPEECH_FRAMES, PAUSE_FRAMES, CHUNK_FRAMES = 225, 25, 25
"""An utterance of 7.2 s, two segments, and a pause of 0.8 s: 8 s a turn, sent in chunks of 0.8 s."""
CHUNK_S = CHUNK_FRAMES * FRAME_SAMPLES / SAMPLE_RATE_HZ
TURNS_OF_10_MIN = 75
SAID = "some twelve words are what a speaker says within five seconds, as here"
KEPT = 64
"""Events for replay and in the room, both full after the first minutes."""
EVERYTHING = replace(START, words=True, revise=True, context=True, trace=True, room="hall", speaker="Ada")


class LongTalk:
    """A client that speaks and pauses, and reads what comes. The engine's text is as long as speech is."""

    def __init__(self) -> None:
        facts = replace(FACTS, reads_prompts=True, can_time_words=True)
        settings = replace(RESUMABLE, tiers=Tiers({Tier.LIVE: facts}))
        self.rooms = Rooms(
            RoomLimits(history_events=KEPT),
            lambda event: repr(event).encode()[:200].ljust(200),
            new_life=lambda: "life",
            unix_s=lambda: 1_700_000_000.0,
        )
        self.world = HubWorld(settings, rooms=self.rooms, replay_max=KEPT)
        self.client: Client = self.world.open("s", start=False).say(EVERYTHING)
        self.seen = {Partial: 0, Final: 0, Utterance: 0}
        said = np.concatenate([np.tile(numbered_frame(7), SPEECH_FRAMES), silence(PAUSE_FRAMES)])
        step = CHUNK_FRAMES * FRAME_SAMPLES
        self._chunks = [Audio(as_bytes(said[at : at + step])) for at in range(0, len(said), step)]

    def turn(self) -> None:
        """Say something, and pause."""
        for chunk in self._chunks:
            self.world.pass_time(CHUNK_S)
            self.client.say(chunk)
            frames = self.world.scorer.waiting.pop(self.client.id, deque())
            scores = [float(frame[0] != 0) for frame in frames]
            self.world.hub.receive_scores(self.client.id, scores, self.world.now_s)
            while self.world.decoder.jobs:
                self._answer()
            # ``Client.read`` would keep what it has read.
            while (numbered := self.client.seat.outbox.pop()) is not None:
                for kind in self.seen:
                    self.seen[kind] += isinstance(numbered.event, kind)

    def _answer(self) -> None:
        job = self.world.decoder.jobs.pop(0)
        # Not what was said before: that would be a loop, which ends the context.
        text = f"{SAID} {job.segment:06}"
        words = (Word(text, job.start, job.start + job.n_samples),) if job.word_times else ()
        result = job.answered(
            text=text, language="en", now_s=self.world.now_s, words=words, tokens=tuple(range(15))
        )
        self.world.hub.receive_result(result, self.world.now_s)

    def measure(self) -> tuple[int, int, tuple[int, ...]]:
        """In a turn: bytes held after it, steps of Python, and events of each kind."""
        before = list(self.seen.values())
        n_steps = steps_of(self.turn)
        world = self.world
        held = held_bytes(world.hub, self.rooms, world.scorer, world.decoder)
        return held, n_steps, tuple(n - b for n, b in zip(self.seen.values(), before, strict=True))


def test_the_end_of_two_hours_holds_and_does_what_their_first_ten_minutes_did() -> None:
    talk = LongTalk()
    for _ in range(TURNS_OF_10_MIN - 1):
        talk.turn()
    held, n_steps, seen = talk.measure()
    for _ in range(11 * TURNS_OF_10_MIN - 1):
        talk.turn()
    held_later, n_steps_later, seen_later = talk.measure()
    assert not talk.world.bugs
    assert talk.client.seat.session.n_samples == 2 * 3_600 * SAMPLE_RATE_HZ
    # Partials, two finals and their second look in each turn.
    assert seen_later == seen == (seen[0], 2, 1)
    assert seen[0] >= 5
    # Blocks of audio begin elsewhere in each turn: 4 kB more or less, and as many steps of their loop.
    assert abs(held_later - held) < 10_000
    assert abs(n_steps_later - n_steps) < 0.01 * n_steps


def test_what_is_held_is_counted() -> None:
    assert held_bytes({"audio": [bytes(10_000)]}) > 10_000
    shared = bytes(10_000)
    assert held_bytes([shared, shared]) < 11_000


def test_steps_of_loops_are_counted_each_time() -> None:
    def loop(n: int) -> None:
        for _ in range(n):
            abs(n)

    assert steps_of(lambda: loop(100)) >= steps_of(lambda: loop(10)) + 90
