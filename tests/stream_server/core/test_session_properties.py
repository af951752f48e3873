"""What holds for every session: any messages, any chunks, answers in any order, any end."""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from driver import READING_ON, SETTINGS, START, World, as_bytes, check_complete, check_story
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.messages import (
    Audio,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    KeepAlive,
    Lag,
    SpeechStarted,
    Start,
    Utterance,
)
from stream_server.core.session import State
from stream_server.core.settings import SessionSettings
from stream_server.engine.fake import numbered_speech, numbers_in, read_numbers, silence
from stream_server.errors import EngineFailed, IdleTimeout, ShuttingDown, StreamError

LOOKING_TWICE = dataclasses.replace(START, revise=True, transcript=True, tentative=False)
check = settings(max_examples=150)


@dataclass(frozen=True)
class Talk:
    """The client says so many frames, is silent for some, and sends all but the last bytes of it."""

    n_speech: int
    n_silent: int
    n_held_back: int
    n_messages: int


@dataclass(frozen=True)
class Scores:
    n_frames: int


@dataclass(frozen=True)
class Text:
    """The engine answers one of its jobs, whichever."""

    which: int


@dataclass(frozen=True)
class Wait:
    seconds: float


SAY = st.builds(
    Talk,
    st.sampled_from([0, 1, 10, 40, 170]),
    st.sampled_from([0, 3, 20, 40]),
    st.sampled_from([0, 1, 2, 5, 700, 3_000]),
    st.integers(1, 3),
)
WORK = (
    st.builds(Scores, st.sampled_from([1, 40, 300])) | st.builds(Text, st.integers(0, 9)) | st.just("settle")
)
CLIENT = st.sampled_from([Flush(), Flush(), KeepAlive()])
ANYTHING = st.sampled_from([START, Finish(), Audio(b"\x01"), ShuttingDown("s"), EngineFailed("e"), "gone"])
STEPS = SAY | SAY | SAY | WORK | WORK | CLIENT | st.builds(Wait, st.sampled_from([0.1, 1.0, 5.0]))
ENDS = st.sampled_from(["finish", "stray", "mistake", "second start", "idle", "shutdown"])


class Player:
    """A client, the stages and the clock, by a list of steps.

    Args:
        polite: Whether the socket is read only while the session wants audio.
        server: What is the same for all sessions.
    """

    def __init__(self, *, polite: bool, server: SessionSettings = SETTINGS) -> None:
        self.world = World(server)
        self.accepted = bytearray()
        self.n_flushes = 0
        self._polite = polite
        self._to_say = b""
        self._n_said = 0

    def play(self, step: object) -> None:
        world = self.world
        match step:
            case Talk():
                self._talk(step)
            case Scores(n_frames):
                world.score(n_frames)
            case Text(which):
                if world.jobs:
                    world.decode(which % len(world.jobs))
            case Wait(seconds):
                world.pass_time(seconds)
            case StreamError():
                if isinstance(step, EngineFailed):
                    world.take(world.session.fail(step))
                else:
                    world.end(step)
            case "settle":
                world.settle()
            case "gone":
                world.session.disconnect()
            case _:
                self._say(step)
        assert world.session.behind_samples >= 0

    def _talk(self, step: Talk) -> None:
        numbers = range(self._n_said, self._n_said + step.n_speech)
        self._n_said += step.n_speech
        self._to_say += as_bytes(numbered_speech(numbers)) + as_bytes(silence(step.n_silent))
        n_bytes = max(0, len(self._to_say) - step.n_held_back)
        size = -(-n_bytes // step.n_messages)
        for _ in range(step.n_messages):
            chunk = self._to_say[: min(size, n_bytes)]
            if self._say(Audio(chunk)):
                self.accepted += chunk
                self._to_say = self._to_say[len(chunk) :]
                n_bytes -= len(chunk)

    def _say(self, message: object) -> bool:
        """Whether the message was taken as what it is."""
        session = self.world.session
        if self._polite and not session.wants_audio:
            return False
        is_taken = session.state is State.STREAMING
        self.n_flushes += is_taken and isinstance(message, Flush)
        self.world.receive(message)  # type: ignore[arg-type]  any message
        return is_taken

    @property
    def expected(self) -> list[int]:
        whole = len(self.accepted) - len(self.accepted) % 2
        return read_numbers(np.frombuffer(bytes(self.accepted[:whole]), dtype="<i2"))

    def finish_stages(self, order: list[int]) -> None:
        """Answer what is left: jobs in the order the numbers say, then first come, first served."""
        for which in order:
            self.world.score(50)
            if self.world.jobs:
                self.world.decode(which % len(self.world.jobs))
        self.world.settle()


@check
@given(
    st.lists(STEPS, min_size=8, max_size=40),
    ENDS,
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=8),
    st.sampled_from([SETTINGS, READING_ON]),
    st.sampled_from([START, LOOKING_TWICE]),
)
def test_every_accepted_frame_is_in_exactly_one_final_however_the_session_ends(
    steps: list[object], end: str, polite: bool, order: list[int], server: SessionSettings, start: Start
) -> None:
    player = Player(polite=polite, server=server)
    world = player.world.start(start)
    for step in steps:
        player.play(step)
    if len(player.accepted) % 2 and world.session.state is State.STREAMING:
        world.receive(Audio(b"\x00"))
        player.accepted += b"\x00"
    # The steps may have taken longer than an idle client gets.
    code = _end(player, end) if world.session.state is State.STREAMING else IdleTimeout.close_code
    player.finish_stages(order)
    assert player.world.numbers == player.expected
    assert len(world.of(Flushed)) == player.n_flushes
    assert world.close_code == code
    check_complete(world.events)
    check_looks(world)


def check_looks(world: World) -> None:
    """Utterances say what the finals say that they replace; so does the transcript, all in all."""
    finals = world.of(Final)
    for utterance in world.of(Utterance):
        replaced = finals[utterance.first_segment : utterance.last_segment + 1]
        assert numbers_in(utterance.text) == [n for final in replaced for n in numbers_in(final.text)]
    for finished in world.of(Finished):
        if finished.transcript is not None:
            assert numbers_in(finished.transcript.text) == world.numbers
            n_lines = len(finished.transcript.text.splitlines())
            assert n_lines == sum(final.utterance_end for final in finals)


def _end(player: Player, end: str) -> int:
    """End the session in the way named; returns the close code to expect."""
    world = player.world
    match end:
        case "finish":
            world.receive(Finish())
            return 1000
        case "stray":
            world.receive(Audio(b"\x01"))
            world.receive(Finish())
            return 1007
        case "mistake":
            world.receive(Finish())
            if world.close_code is not None:
                return 1000
            world.receive(Flush())
            return 1002
        case "second start":
            world.receive(START)
            return 1002
        case "idle":
            if world.session.wants_audio:
                world.pass_time(30.1)
            else:
                world.end(IdleTimeout("quiet"))
            return 1008
        case _:
            world.end(ShuttingDown("stopping"))
            return 1001


@check
@given(st.lists(STEPS | ANYTHING, max_size=60).map(lambda steps: [START, *steps]), st.booleans())
def test_any_sequence_in_any_state_tells_a_story_that_ends_once(steps: list[object], polite: bool) -> None:
    player = Player(polite=polite)
    for step in steps:
        player.play(step)
    check_story(player.world.events)
    failed = player.world.of(Failed)
    if player.world.close_code is not None:
        expected = failed[0].error.close_code if failed else 1000
        assert player.world.close_code == expected


@check
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_back_pressure_always_ends_when_the_stages_answer(steps: list[object]) -> None:
    player = Player(polite=True)
    player.world.start()
    for step in steps:
        player.play(step)
        if not player.world.session.wants_audio:
            player.world.settle()
            assert player.world.session.wants_audio


@check
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_lags_are_a_second_apart_and_only_while_behind(steps: list[object]) -> None:
    player = Player(polite=False)
    player.world.start()
    for step in steps:
        player.play(step)
    world = player.world
    times = [at for at, event in zip(world.sent_s, world.events, strict=True) if isinstance(event, Lag)]
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


@check
@given(st.data())
def test_where_messages_are_cut_does_not_change_the_finals(data: st.DataObject) -> None:
    runs = data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=5))
    speech = as_bytes(np.concatenate([silence(1), *(part for run in runs for part in _parts(run))]))
    cuts = data.draw(st.lists(st.integers(0, len(speech)), max_size=20).map(sorted))
    stories = []
    for borders in ([], cuts):
        world = World().start()
        for begin, end in zip([0, *borders], [*borders, len(speech)], strict=True):
            world.receive(Audio(speech[begin:end]))
            world.settle()
        world.receive(Finish())
        world.settle()
        # When the engine answers decides whether a final comes before the next speech_started.
        stories.append((world.of(SpeechStarted), world.of(Final), world.events[-1]))
    assert stories[0] == stories[1]


def _parts(run: tuple[int, int]) -> list[np.ndarray]:
    n_speech, n_silent = run
    return [numbered_speech(range(n_speech)), silence(n_silent)]


@check
@given(st.lists(st.integers(0, 99), max_size=30))
def test_a_finished_session_says_how_much_it_heard(order: list[int]) -> None:
    world = World().start()
    world.send(numbered_speech(range(300)))
    world.receive(Finish())
    world.score()
    for which in order:
        if world.jobs:
            world.decode(which % len(world.jobs))
    world.settle()
    assert world.events[-1] == Finished(300 * 512, len(world.of(Final)))
