"""When a lighter model reads live speech in place of the live one, and when the live one does again.

The policy knows neither clock nor engine: it is told about once a second how long the oldest live final has
been waiting for its text, and when memory ran out, and answers with a step. Rules, each a test:

1. Down after ``overload_s`` in which that wait never was below ``wait_s``. The smallest wait of an interval
   tells a queue that stands from a burst, as in CoDel (RFC 8289, section 3.2).
2. Down at once when memory ran out: smaller batches keep the process alive, and are what overload comes from.
3. Back after ``recovery_s`` in which the wait never reached half of ``wait_s`` and memory did not run out.
4. A step down that comes within ``recovery_s`` of a step back shows that nothing has changed: from then on
   recovery takes twice as long, at most ``BACKOFF_MAX`` times ``recovery_s``. It is what it was once the live
   model has held out longer. So the steps of a load that stays are few, and fewer with time.
5. While the engine is being replaced nothing is measured, and what was measured before does not count.
"""

from dataclasses import dataclass
from enum import StrEnum

BACKOFF_MAX = 16


@dataclass(frozen=True, slots=True)
class Overload:
    """What counts as overload, and as recovery; seconds."""

    wait_s: float = 1.0
    overload_s: float = 5.0
    recovery_s: float = 30.0


class StepReason(StrEnum):
    """Why another model reads live speech; the values are labels of a metric."""

    OVERLOAD = "overload"
    OUT_OF_MEMORY = "out_of_memory"
    RECOVERED = "recovered"


class StepDown:
    """Whether live speech is read by the lighter model.

    Args:
        overload: What counts as overload.
    """

    def __init__(self, overload: Overload) -> None:
        self.is_down = False
        self._overload = overload
        self._recovery_s = overload.recovery_s
        self._since_s: float | None = None
        """Since when every wait was one that asks for a step."""
        self._back_s: float | None = None
        """When the last step back was."""

    def observe(self, wait_s: float, now_s: float) -> StepReason | None:
        """Take a sample of the wait; returns the reason of a step if one is due, which is then taken."""
        limit_s = self._overload.wait_s
        if (wait_s >= limit_s / 2) if self.is_down else (wait_s < limit_s):
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < (self._recovery_s if self.is_down else self._overload.overload_s):
            return None
        return self._step_back(now_s) if self.is_down else self._step_down(StepReason.OVERLOAD, now_s)

    def run_out_of_memory(self, now_s: float) -> StepReason | None:
        """Take note that memory ran out; returns as ``observe`` does."""
        if self.is_down:
            self._since_s = None
            return None
        return self._step_down(StepReason.OUT_OF_MEMORY, now_s)

    def interrupt(self) -> None:
        """The engine is being replaced."""
        self._since_s = None

    def _step_down(self, reason: StepReason, now_s: float) -> StepReason:
        base_s = self._overload.recovery_s
        has_relapsed = self._back_s is not None and now_s - self._back_s <= self._recovery_s
        self._recovery_s = min(2 * self._recovery_s, BACKOFF_MAX * base_s) if has_relapsed else base_s
        self.is_down, self._since_s = True, None
        return reason

    def _step_back(self, now_s: float) -> StepReason:
        self.is_down, self._since_s, self._back_s = False, None, now_s
        return StepReason.RECOVERED
