"""The thread that scores speech: per tick, one batch of the next frames of every session that has some.

The loop hands in frames and gets probabilities back in the order of each session's frames; it never
waits for this thread. One tick is one frame's length; of a session that has sent more than one frame all are
in the batch, up to a second of audio.
How much can wait here is bounded by the sessions' back-pressure.
"""

import logging
import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_server.core.messages import SessionId
from vad.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ, int16_to_float32
from vad.states import SlotArray, VadStates

TICK_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

FRAMES_MAX = 32
"""Frames of one session scored in a tick, 1 s of audio: one that sends faster than real time must not make
the others wait while its backlog is scored."""

_log = logging.getLogger(__name__)

Scores = list[tuple[SessionId, list[float]]]


class FrameScorer(Protocol):
    """What scores frames; ``vad.model.SileroVad`` is one."""

    def score(self, frames: NDArray[np.float32], slots: SlotArray, states: VadStates) -> NDArray[np.float32]:
        """float32 (B,) probabilities of frames float32 (B, 512) of the streams in ``slots``.

        A stream may be named several times: by its next frames, in their order.
        """


class VadStage:
    """Scores the frames of all sessions.

    Args:
        scorer: The network; used by this stage's thread only.
        post: Called from the stage's thread with every tick's scores.
        fail: Called from the stage's thread when it dies of a bug; nothing is scored afterwards.
    """

    def __init__(self, scorer: FrameScorer, post: Callable[[Scores], None], fail: Callable[[], None]) -> None:
        self._scorer = scorer
        self._post = post
        self._fail = fail
        self._changed = threading.Condition()
        self._waiting: dict[SessionId, list[NDArray[np.int16]]] = {}
        self._withdrawn: list[SessionId] = []
        self._stopping = threading.Event()
        self._states = VadStates()
        self._slots: dict[SessionId, int] = {}
        self._thread = threading.Thread(target=self._run, name="vad", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it; what waits is not scored."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        self._thread.join()

    def submit(self, session: SessionId, frames: NDArray[np.int16]) -> None:
        """Score a session's next frames, int16 (k, 512). Any thread."""
        with self._changed:
            self._waiting.setdefault(session, []).append(frames)
            self._changed.notify()

    def withdraw(self, session: SessionId) -> None:
        """Forget a session; its scores may still be posted once. Any thread."""
        with self._changed:
            self._waiting.pop(session, None)
            self._withdrawn.append(session)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                started_s = time.monotonic()
                self.tick()
                if not self._waiting:  # A backlog is worked off without waiting for the next tick.
                    self._stopping.wait(max(0.0, started_s + TICK_S - time.monotonic()))
        except Exception:
            _log.exception("vad_stage_failed")
            self._fail()

    def tick(self) -> None:
        """Score what waits, once; the stage's own thread calls it, or a benchmark that has started none."""
        with self._changed:
            while not (self._waiting or self._withdrawn or self._stopping.is_set()):
                self._changed.wait()
            frames = self._take()
            withdrawn, self._withdrawn = self._withdrawn, []
        # First: frames that wait under a withdrawn name came after the withdrawal, from a new session.
        for session in withdrawn:
            slot = self._slots.pop(session, None)
            if slot is not None:
                self._states.close(slot)
        scores = self._score(frames)
        if scores:
            self._post(scores)

    def _take(self) -> dict[SessionId, NDArray[np.int16]]:
        """The next frames of each session, at most ``FRAMES_MAX``, (k, 512); the rest goes on waiting."""
        waiting = {session: np.concatenate(parts) for session, parts in self._waiting.items()}
        self._waiting = {
            session: [own[FRAMES_MAX:]] for session, own in waiting.items() if len(own) > FRAMES_MAX
        }
        return {session: own[:FRAMES_MAX] for session, own in waiting.items()}

    def _score(self, frames: dict[SessionId, NDArray[np.int16]]) -> Scores:
        """Score everything in one batch."""
        if not frames:
            return []
        counts = [len(own) for own in frames.values()]
        batch = int16_to_float32(np.concatenate(list(frames.values())))
        slots = np.repeat(np.array([self._slot(session) for session in frames], dtype=np.intp), counts)
        scores = iter(self._scorer.score(batch, slots, self._states).tolist())
        return [(session, list(islice(scores, count))) for session, count in zip(frames, counts, strict=True)]

    def _slot(self, session: SessionId) -> int:
        if session not in self._slots:
            self._slots[session] = self._states.open()
        return self._slots[session]
