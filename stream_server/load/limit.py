"""The search for the largest number of sessions that a server carries; pure.

Doubles until a run fails, then halves the range until it is a twentieth of the number, then runs the
number twice more: a limit that holds only sometimes is none, and a machine that others use, too, has faster
and slower minutes. When one of these fails, the next smaller step is tried and confirmed in the same way. The
steps of the search may be short runs, the confirmations should not.
"""

from math import ceil

RESOLUTION = 0.05
CONFIRMATIONS = 2


class LimitSearch:
    """Asks for runs until the limit is known.

    Args:
        first: Sessions of the first run.
        most: Never asks for more.
    """

    def __init__(self, first: int, most: int) -> None:
        if not 1 <= first <= most:
            raise ValueError(f"the first run must have 1 to {most} sessions, not {first}")
        self._next = first
        self._most = most
        self._carried: dict[int, int] = {0: 1 + CONFIRMATIONS}
        """How often so many sessions were carried; no sessions always are."""
        self._failed = most + 1
        """The fewest that were not carried."""

    @property
    def limit(self) -> int | None:
        """The largest number that was carried each time, None while the search goes on."""
        best = max(self._carried)
        is_narrow = self._failed - best <= max(1, ceil(RESOLUTION * best))
        return best if is_narrow and self._carried[best] > CONFIRMATIONS else None

    @property
    def next(self) -> int:
        """How many sessions the next run has; only while ``limit`` is None."""
        return self._next

    @property
    def is_confirmation(self) -> bool:
        """Whether that run has been carried before, and decides."""
        return self._next in self._carried

    @property
    def n_left(self) -> int | None:
        """How many more runs it takes at most, if the server is steady; None before one has failed."""
        if self._failed > self._most:
            return None
        best = max(self._carried)
        width, n_steps = self._failed - best, 0
        while width > max(1, ceil(RESOLUTION * best)):
            width = ceil(width / 2)
            n_steps += 1
        # A number found by the last step has been carried once.
        return n_steps + CONFIRMATIONS + (0 if n_steps else 1 - self._carried[best])

    def note(self, is_carried: bool) -> None:
        """Take the outcome of the run with ``next`` sessions."""
        if is_carried:
            self._carried[self._next] = self._carried.get(self._next, 0) + 1
        else:
            self._failed = min(self._failed, self._next)
            self._carried = {n: times for n, times in self._carried.items() if n < self._next}
        best = max(self._carried)
        if self._failed > self._most and best < self._most:
            self._next = min(self._most, 2 * best)
        elif self._failed - best <= max(1, ceil(RESOLUTION * best)):
            self._next = best
        else:
            self._next = (best + self._failed) // 2
