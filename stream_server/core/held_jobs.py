"""The way of jobs to the engine: what it has no room for is held, in order, and offered again."""

from collections import deque
from typing import Protocol

from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId
from stream_server.errors import Overloaded


class Decoder(Protocol):
    """The engine, as the hub needs it."""

    def submit(self, job: DecodeJob) -> None:
        """Decode a window; the text comes back by ``Hub.receive_result``.

        Raises:
            Overloaded: There is no room for another final; it may be offered again after the next result.
        """

    def abandon(self, job: DecodeJob) -> None:
        """Forget a second look, if it waits."""

    def withdraw(self, session: SessionId) -> None:
        """Forget whatever a session has waiting."""


class HeldJobs:
    """Jobs before the engine's queue.

    What is held is bounded: a session whose finals do not come back soon wants no more audio.

    Args:
        decoder: The engine.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._held: deque[DecodeJob] = deque()

    def __len__(self) -> int:
        """Jobs held."""
        return len(self._held)

    def submit(self, job: DecodeJob) -> None:
        """Give a job to the engine, or hold a final that it has no room for.

        Early finals are dropped while others are held: they would go before those.
        """
        if job.early and self._held:
            return
        if job.final and not job.is_look and self._held:
            self._held.append(job)
            return
        try:
            self._decoder.submit(job)
        except Overloaded:
            self._held.append(job)

    def abandon(self, job: DecodeJob) -> None:
        """Forget a second look, if it waits."""
        self._decoder.abandon(job)

    def offer(self) -> None:
        """Give the engine what it had no room for, oldest first, as far as it has room."""
        while self._held:
            try:
                self._decoder.submit(self._held[0])
            except Overloaded:
                return
            self._held.popleft()

    def withdraw(self, session: SessionId) -> None:
        """Forget whatever a session has waiting, here and there."""
        self._decoder.withdraw(session)
        self._held = deque(job for job in self._held if job.session != session)
