"""Where the time goes between a sound and its caption: the stages a window passes, and the time at each.

Times are ``time.monotonic()`` seconds, which on Linux is one clock for all processes.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Hops:
    """When a window passed each stage, monotonic seconds; 0.0 for a stage not yet reached."""

    received_s: float = 0.0
    """The message with the last sample was read: of a partial's window, of a final's speech."""
    heard_s: float = 0.0
    """The message that decided was read: for a final, the one that made the silence long enough."""
    submitted_s: float = 0.0
    """Its speech scores were in and the session asked for the decode."""
    batched_s: float = 0.0
    """It left the queue."""
    started_s: float = 0.0
    """The engine had its batch."""
    decoded_s: float = 0.0
    """The engine had its text."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds that a window spent at each stage.

    The sum is from its last sample read, of a final the last that the detector heard as speech, to its text
    written.
    """

    pause: float
    """Waiting, behind the last speech, for enough silence to be sure that the speaker paused."""
    vad: float
    """Waiting for the tick of the speech detector, and its work."""
    queue: float
    """Waiting for a place in a batch."""
    batch: float
    """On the way to the engine."""
    decode: float
    """Being decoded, with all of its batch."""
    send: float
    """Back from the engine, behind the segments before it, and in the outbox."""


def budget_of(hops: Hops, sent_s: float) -> Budget:
    """The time between the stages.

    Args:
        hops: When each was passed; one that was not passed took no time.
        sent_s: When the text was written to the socket.
    """
    passed = [hops.received_s]
    for at_s in (hops.heard_s, hops.submitted_s, hops.batched_s, hops.started_s, hops.decoded_s, sent_s):
        passed.append(max(at_s, passed[-1]))
    return Budget(*(later - earlier for earlier, later in pairwise(passed)))


class FrameTimes:
    """When each frame that a window may still end with was received."""

    def __init__(self) -> None:
        self._first = 0
        self._times_s: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._times_s)

    def append(self, n_frames: int, now_s: float) -> None:
        """The stream's next frames came."""
        self._times_s.extend([now_s] * n_frames)

    def at(self, frame: int) -> float:
        """When a frame came; ``frame`` is one that came and was not forgotten."""
        assert self._first <= frame < self._first + len(self._times_s)
        return self._times_s[frame - self._first]

    def forget_before(self, frame: int) -> None:
        """Drop the times of frames before ``frame``; those already dropped change nothing."""
        while self._first < frame and self._times_s:
            self._times_s.popleft()
            self._first += 1
