"""The product's own VAD, sessions, scheduler and engine over recordings, in a for-loop, as fast as it goes.

Many recordings go through at once, as sessions of one hub, so that VAD and engine work in full batches.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from driver import LIMITS, START, FakeWatcher, as_bytes
from numpy.typing import NDArray

from stream_server.core.hub import Hub
from stream_server.core.jobs import DecodeResult
from stream_server.core.messages import Audio, Final, Finish, Finished, ServerEvent, SessionId, Tier
from stream_server.core.scheduler import Scheduler
from stream_server.core.seats import Owner
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.engine.transcriber import Transcriber
from vad.audio import Float32Array, int16_to_float32
from vad.config import SegmenterConfig
from vad.model import SileroVad
from vad.states import VadStates

BATCH = 8
CHUNK_SAMPLES = 16_000
OWNER = Owner("one", "/source/one", "00c0ffee")


class _BatchedVad:
    """The VAD stage without its thread: scores the next frame of every session at once."""

    def __init__(self, network: SileroVad) -> None:
        self._network = network
        self._states = VadStates()
        self._slots: dict[SessionId, int] = {}
        self._waiting: dict[SessionId, list[Float32Array]] = {}

    def submit(self, session: SessionId, frames: NDArray[np.int16]) -> None:
        if session not in self._slots:
            self._slots[session] = self._states.open()
        self._waiting.setdefault(session, []).extend(int16_to_float32(frames))

    def withdraw(self, session: SessionId) -> None:
        self._waiting.pop(session, None)
        self._states.close(self._slots.pop(session))

    def score(self) -> dict[SessionId, float]:
        """The probability of each session's next frame, for those that have one."""
        sessions = [session for session, frames in self._waiting.items() if frames]
        if not sessions:
            return {}
        frames = np.stack([self._waiting[session].pop(0) for session in sessions])
        slots = np.array([self._slots[session] for session in sessions], dtype=np.intp)
        scores = self._network.score(frames, slots, self._states)
        return dict(zip(sessions, scores.tolist(), strict=True))


def transcribe_all(
    recordings: Sequence[NDArray[np.int16]], network: SileroVad, transcriber: Transcriber
) -> tuple[list[list[Final]], list[DecodeResult]]:
    """Stream recordings, int16 (n,) at 16 kHz, through the product; returns finals and engine results."""
    scheduler, vad = Scheduler(BATCH, 100_000), _BatchedVad(network)
    bugs: list[SessionId] = []
    settings = SessionSettings(Tiers({Tier.LIVE: transcriber.facts}), LIMITS, SegmenterConfig())
    hub = Hub(settings, vad, scheduler, report_bug=bugs.append, watcher=FakeWatcher())
    seats = [hub.open(SessionId(str(i)), lambda: None, 0.0, owner=OWNER) for i in range(len(recordings))]
    events: list[list[ServerEvent]] = [[] for _ in recordings]
    results: list[DecodeResult] = []

    def decode() -> None:
        while (batch := scheduler.next_batch()) is not None:
            for result in transcriber.transcribe(batch):
                results.append(result)
                hub.receive_result(result, 0.0)

    def settle() -> None:
        while scores := vad.score():
            for session, probability in scores.items():
                hub.receive_scores(session, [probability], 0.0)
            decode()
        decode()  # A finish at the end of a frame closes a segment without a further score.
        for seat, said in zip(seats, events, strict=True):
            while (numbered := seat.outbox.pop()) is not None:
                said.append(numbered.event)

    for seat in seats:
        hub.receive(seat.session.id, START, 0.0)
    for start in range(0, max(map(len, recordings)), CHUNK_SAMPLES):
        for seat, samples in zip(seats, recordings, strict=True):
            chunk = samples[start : start + CHUNK_SAMPLES]
            if len(chunk):
                hub.receive(seat.session.id, Audio(as_bytes(chunk)), 0.0)
        settle()
    for seat in seats:
        hub.receive(seat.session.id, Finish(), 0.0)
    settle()
    assert not bugs
    assert all(isinstance(said[-1], Finished) for said in events)
    return [[event for event in said if isinstance(event, Final)] for said in events], results


def rules_of(results: Sequence[DecodeResult]) -> Counter[str]:
    """How many windows each rule stopped, and how many it had decoded again."""
    counts: Counter[str] = Counter()
    for result in results:
        kind = "final" if result.final else "partial"
        if result.dropped is not None:
            counts[f"{kind} dropped: {result.dropped}"] += 1
        counts.update(f"{kind} retried: {rule}" for rule in result.retried)
    return counts
