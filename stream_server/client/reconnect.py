"""When to try again after a lost connection, and when not to. Clock, sleep and chance are arguments."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from stream_server.client.errors import ConnectFailed
from stream_server.client.pacing import Clock, Sleep

FINAL_CLOSE_CODES = frozenset({1000, 1002, 1003, 1007, 1008, 1009, 4001})
"""By these the server ends a stream on purpose. All others, and a missing one, are a lost connection."""
TAKEN_OVER = 4001
"""Another connection goes on with the session. Resuming it in turn would never end."""
_STATUSES_THAT_PASS = frozenset({408, 429, 500, 502, 503, 504})


class ConnectionState(Enum):
    """What became of a stream's connection."""

    LOST = "lost"
    """It is being resumed; audio may still be sent, and is kept."""
    RESUMED = "resumed"
    """The stream goes on where it was."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a stream comes back after its connection was lost."""

    first_s: float = 0.1
    """Longest wait before the first try; it doubles with each."""
    longest_s: float = 2.0
    """Longest wait between two tries. Short against the time that a session waits for its client."""
    buffer_s: float = 60.0
    """Audio kept that the server has not acknowledged; more than that waits to be sent."""
    clock: Clock = time.monotonic
    sleep: Sleep = asyncio.sleep
    chance: Callable[[], float] = random.random
    """In [0, 1); spreads the tries of clients that were cut off together."""

    def wait_s(self, n_tried: int, failure: ConnectFailed | None) -> float:
        """How long to wait before the next try.

        Args:
            n_tried: Tries that failed.
            failure: Of the last one; when it says how long to wait, that is believed.
        """
        longest_s = min(self.longest_s, self.first_s * 2.0 ** min(n_tried, 30))
        spread_s = longest_s * (0.5 + 0.5 * self.chance())
        asked_s = failure.retry_after_s if failure is not None and failure.retry_after_s is not None else 0.0
        return max(spread_s, asked_s)


def may_pass(failure: ConnectFailed) -> bool:
    """Whether another try can succeed: nobody answered, or who answered is busy."""
    return failure.status is None or failure.status in _STATUSES_THAT_PASS
