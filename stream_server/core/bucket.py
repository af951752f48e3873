"""A token bucket: so many at once, and so many a second for ever; pure."""


class Bucket:
    """Full at first.

    Args:
        burst: How many it holds, at least 1.
        per_s: How many come back each second.
    """

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._filled_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Take one; False if there is none.

        Args:
            now_s: Any clock that does not go back.
        """
        self._fill(now_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is one; 0 if there is one."""
        self._fill(now_s)
        return max(0.0, (1 - self._left) / self._per_s)

    def _fill(self, now_s: float) -> None:
        if self._filled_s is not None:
            self._left = min(self._burst, self._left + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
