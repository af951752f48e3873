"""The thread that scores speech: order, batches, slots, stop and failure."""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stream_server.core.messages import SessionId
from stream_server.vad_stage import FRAMES_MAX, FrameScorer, Scores, VadStage
from vad.audio import FRAME_SAMPLES, int16_to_float32
from vad.framing import Framer
from vad.model import SileroVad
from vad.states import SlotArray, VadStates

PATIENCE_S = 20
A, B, C = SessionId("a"), SessionId("b"), SessionId("c")


def frames(*values: int) -> NDArray[np.int16]:
    """int16 (k, 512): frame i is filled with values[i]."""
    return np.repeat(np.array(values, dtype=np.int16)[:, None], FRAME_SAMPLES, axis=1)


class SummingScorer:
    """Scores a frame by the sum of its stream's values so far: any mix-up of states or order shows."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        """The slots of each call."""
        self.n_open: list[int] = []
        """Streams open at each call."""
        self.before_call: Callable[[], None] = lambda: None

    def score(self, frames: NDArray[np.float32], slots: SlotArray, states: VadStates) -> NDArray[np.float32]:
        self.before_call()
        states.check(slots)
        self.batches.append(slots.tolist())
        self.n_open.append(len(states))
        sums = [self._add(slots[i : i + 1], frames[i], states) for i in range(len(slots))]
        return np.array(sums, dtype=np.float32)

    def _add(self, slot: SlotArray, frame: NDArray[np.float32], states: VadStates) -> float:
        hidden, context = states.gather(slot)
        hidden[0, 0, 0] += np.rint(frame[0] * 32768)
        states.scatter(slot, hidden, context)
        return float(hidden[0, 0, 0])


class Harness:
    """A stage and what it posted."""

    def __init__(self, scorer: FrameScorer) -> None:
        self.posted: queue.SimpleQueue[Scores] = queue.SimpleQueue()
        self.failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stage = VadStage(
            scorer, self.posted.put, lambda: self.failures.put(threading.current_thread().name)
        )
        self._started = False

    def start(self) -> None:
        self._started = True
        self.stage.start()

    def close(self) -> None:
        if self._started:
            self.stage.stop()
        assert "vad" not in [thread.name for thread in threading.enumerate()]

    def tick(self) -> Scores:
        """What the next tick posts."""
        return self.posted.get(timeout=PATIENCE_S)

    def collect(self, n_scores: int) -> dict[SessionId, list[float]]:
        """Scores by session, in the order of posting, as soon as there are so many."""
        scores: dict[SessionId, list[float]] = defaultdict(list)
        while sum(map(len, scores.values())) < n_scores:
            for session, probabilities in self.tick():
                scores[session].extend(probabilities)
        return dict(scores)


@pytest.fixture
def scorer() -> SummingScorer:
    return SummingScorer()


@pytest.fixture
def harness(scorer: SummingScorer) -> Iterator[Harness]:
    made = Harness(scorer)
    yield made
    made.close()


class Gate:
    """Holds the scorer inside a call, so that a test may act in the middle of a tick."""

    def __init__(self, scorer: SummingScorer) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()
        scorer.before_call = self._pass

    def _pass(self) -> None:
        self._entered.set()
        assert self._open.wait(PATIENCE_S)

    def wait_entered(self) -> None:
        assert self._entered.wait(PATIENCE_S)

    def open(self) -> None:
        self._open.set()


# ---------------------------------------------------------------- order and batches


def test_scores_come_back_in_the_order_of_each_sessions_frames(harness: Harness) -> None:
    harness.start()
    for i in range(10):
        harness.stage.submit(A, frames(1, 2))
        harness.stage.submit(B, frames(100 * i))
    scores = harness.collect(30)
    assert scores[A] == np.cumsum([1, 2] * 10).tolist()
    assert scores[B] == np.cumsum(range(0, 1000, 100)).tolist()


def test_all_sessions_with_audio_are_one_batch(harness: Harness, scorer: SummingScorer) -> None:
    sessions = [SessionId(f"s{i}") for i in range(50)]
    for i, session in enumerate(sessions):
        harness.stage.submit(session, frames(i))
    harness.start()
    assert harness.tick() == [(session, [float(i)]) for i, session in enumerate(sessions)]
    assert [len(batch) for batch in scorer.batches] == [50]


def test_several_frames_of_a_session_are_scored_in_their_order_in_one_batch(
    harness: Harness, scorer: SummingScorer
) -> None:
    harness.stage.submit(A, frames(1, 2))
    harness.stage.submit(B, frames(10))
    harness.stage.submit(A, frames(3))
    harness.stage.submit(C, frames(100, 200))
    harness.start()
    assert harness.tick() == [(A, [1, 3, 6]), (B, [10]), (C, [100, 300])]
    assert [len(batch) for batch in scorer.batches] == [6]


def test_a_backlog_is_scored_a_second_of_audio_a_tick_and_does_not_hold_up_the_others(
    harness: Harness, scorer: SummingScorer
) -> None:
    n_backlog = 2 * FRAMES_MAX + 5
    harness.stage.submit(A, frames(*[1] * n_backlog))
    harness.stage.submit(B, frames(7))
    harness.start()
    first = dict(harness.tick())
    assert len(first[A]) == FRAMES_MAX
    assert first[B] == [7]
    rest = harness.collect(n_backlog - FRAMES_MAX)
    assert first[A] + rest[A] == list(range(1, n_backlog + 1))


def test_scores_do_not_depend_on_how_the_frames_are_handed_in(harness: Harness) -> None:
    random = np.random.default_rng(3)
    audio = {SessionId(f"s{i}"): random.integers(-50, 50, 40) for i in range(5)}
    harness.start()
    for session, values in audio.items():
        for part in np.split(values, sorted(random.integers(1, 40, 4))):
            harness.stage.submit(session, frames(*part))
    expected = {session: np.cumsum(values).tolist() for session, values in audio.items()}
    assert harness.collect(200) == expected


def test_frames_handed_in_by_many_threads_are_all_scored(harness: Harness) -> None:
    harness.start()

    def send(session: SessionId) -> None:
        for _ in range(20):
            harness.stage.submit(session, frames(1))

    sessions = [SessionId(f"s{i}") for i in range(8)]
    senders = [threading.Thread(target=send, args=(session,)) for session in sessions]
    for sender in senders:
        sender.start()
    scores = harness.collect(160)
    for sender in senders:
        sender.join()
    assert scores == {session: list(range(1, 21)) for session in sessions}


# ---------------------------------------------------------------- withdrawal and slots


def test_a_withdrawn_session_gives_its_slot_to_the_next_which_starts_afresh(
    harness: Harness, scorer: SummingScorer
) -> None:
    harness.start()
    for i in range(40):
        session = SessionId(f"s{i}")
        harness.stage.submit(session, frames(7, 7))
        assert harness.collect(2) == {session: [7, 14]}
        harness.stage.withdraw(session)
    slots = {slot for batch in scorer.batches for slot in batch}
    # A withdrawal and the frames after it may be taken in one tick or in two.
    assert len(slots) <= 2
    assert max(scorer.n_open) <= 2


def test_what_a_withdrawn_session_has_waiting_is_not_scored(harness: Harness) -> None:
    harness.stage.submit(A, frames(1))
    harness.stage.submit(B, frames(2))
    harness.stage.withdraw(A)
    harness.start()
    assert harness.tick() == [(B, [2])]


def test_a_session_withdrawn_in_the_middle_of_a_tick_is_closed_by_the_next(
    harness: Harness, scorer: SummingScorer
) -> None:
    gate = Gate(scorer)
    harness.stage.submit(A, frames(1))
    harness.stage.submit(B, frames(2))
    harness.start()
    gate.wait_entered()
    harness.stage.withdraw(A)
    harness.stage.submit(B, frames(2))
    gate.open()
    assert harness.tick() == [(A, [1]), (B, [2])]
    assert harness.tick() == [(B, [4])]
    assert scorer.n_open == [2, 1]


def test_a_name_used_again_at_once_starts_afresh(harness: Harness, scorer: SummingScorer) -> None:
    gate = Gate(scorer)
    harness.stage.submit(A, frames(1_000))
    harness.start()
    gate.wait_entered()
    harness.stage.withdraw(A)
    harness.stage.submit(A, frames(1))
    gate.open()
    assert harness.tick() == [(A, [1_000])]
    assert harness.tick() == [(A, [1])]
    harness.stage.submit(A, frames(1))
    assert harness.tick() == [(A, [2])]


def test_withdrawing_a_session_that_never_sent_anything_is_allowed(harness: Harness) -> None:
    harness.start()
    harness.stage.withdraw(A)
    harness.stage.withdraw(A)
    harness.stage.submit(B, frames(1))
    assert harness.tick() == [(B, [1])]


# ---------------------------------------------------------------- stop and failure


def test_stop_ends_the_thread_that_waits_for_frames(harness: Harness) -> None:
    harness.start()
    harness.stage.stop()
    assert "vad" not in [thread.name for thread in threading.enumerate()]
    assert harness.posted.empty()
    assert harness.failures.empty()


def test_stop_waits_for_the_tick_under_way_and_nothing_comes_after(
    harness: Harness, scorer: SummingScorer
) -> None:
    gate = Gate(scorer)
    harness.stage.submit(A, frames(1))
    harness.start()
    gate.wait_entered()
    stopping = threading.Thread(target=harness.stage.stop)
    stopping.start()
    assert stopping.is_alive()
    gate.open()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    assert harness.tick() == [(A, [1])]
    harness.stage.submit(A, frames(1))
    assert "vad" not in [thread.name for thread in threading.enumerate()]
    assert harness.posted.empty()


class FailingScorer(SummingScorer):
    """Fails at its third call."""

    def score(self, frames: NDArray[np.float32], slots: SlotArray, states: VadStates) -> NDArray[np.float32]:
        if len(self.batches) == 2:
            raise RuntimeError("a bug")
        return super().score(frames, slots, states)


def test_a_scorer_that_fails_is_told_once_and_nothing_is_scored_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness(FailingScorer())
    harness.start()
    for value in (1, 2):
        harness.stage.submit(A, frames(value))
        harness.tick()
    harness.stage.submit(A, frames(3))
    assert harness.failures.get(timeout=PATIENCE_S) == "vad"
    harness.stage.submit(A, frames(4))
    harness.stage.withdraw(A)
    harness.close()
    assert harness.failures.empty()
    assert harness.posted.empty()
    assert [record.message for record in caplog.records] == ["vad_stage_failed"]


# ---------------------------------------------------------------- the real network


@pytest.mark.model
def test_the_networks_scores_are_those_of_each_stream_alone() -> None:
    dialogue = resources.files("stream_server") / "assets" / "recordings" / "dialogue.flac"
    samples, _ = soundfile.read(str(dialogue), dtype="int16")
    speech = Framer().push(samples)[:360].reshape(6, 60, FRAME_SAMPLES)
    network = SileroVad()
    alone = [network.score_stream(int16_to_float32(stream)) for stream in speech]
    sessions = [SessionId(f"s{i}") for i in range(6)]
    harness = Harness(network)
    harness.start()
    try:
        # Session i sends i + 1 frames at a time: batches of every size occur.
        for start in range(60):
            for i, session in enumerate(sessions):
                if start % (i + 1) == 0:
                    harness.stage.submit(session, speech[i, start : start + i + 1])
        scores = harness.collect(360)
    finally:
        harness.close()
    np.testing.assert_allclose([scores[session] for session in sessions], alone, atol=1e-6, rtol=0)
