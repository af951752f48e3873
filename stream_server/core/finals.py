"""The finals of one session on their way: whatever order texts come in, they leave in that of the segments.

A *mark* is a flush that was reached; it leaves when the finals of all segments before it have.
"""

from collections import deque
from dataclasses import dataclass

from stream_server.core.jobs import DecodeResult


@dataclass(slots=True)
class PendingFinal:
    """A closed segment whose text is on its way, or waits for those before it."""

    segment: int
    start: int
    end: int
    """Positions of its window in the session, samples."""
    utterance_end: bool
    next_start: int | None = None
    """Where the next window begins, if it overlaps with this one and their texts are to be joined."""
    result: DecodeResult | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """All finals before it have left."""


class FinalQueue:
    """Closed segments and marks, in their order."""

    def __init__(self) -> None:
        self._pending: deque[PendingFinal] = deque()
        self._marks: deque[int] = deque()
        """Each the number of the segment that it stands before."""

    def __len__(self) -> int:
        """Segments that have not left."""
        return len(self._pending)

    @property
    def n_marks(self) -> int:
        """Marks that have not left."""
        return len(self._marks)

    @property
    def start(self) -> int | None:
        """Where the first segment begins that has not left; None if all have."""
        return self._pending[0].start if self._pending else None

    def append(self, pending: PendingFinal) -> None:
        """A segment has closed; segments come in their order."""
        self._pending.append(pending)

    def mark(self, n_segments: int) -> None:
        """Put a mark behind the segments closed so far."""
        self._marks.append(n_segments)

    def resolve(self, result: DecodeResult) -> None:
        """The text of a segment has come, for the first time."""
        for pending in self._pending:
            if pending.segment == result.segment and pending.result is None:
                pending.result = result
                return
        raise AssertionError(f"no final is awaited for segment {result.segment}")

    def pop_ready(self) -> list[tuple[PendingFinal, DecodeResult] | Mark]:
        """Take what may leave, in order."""
        ready: list[tuple[PendingFinal, DecodeResult] | Mark] = []
        while True:
            first = self._pending[0] if self._pending else None
            if self._marks and (first is None or self._marks[0] <= first.segment):
                self._marks.popleft()
                ready.append(Mark())
            elif first is not None and first.result is not None:
                self._pending.popleft()
                ready.append((first, first.result))
            else:
                return ready
