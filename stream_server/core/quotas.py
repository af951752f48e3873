"""How much audio each identity has sent today, and whether that was all it may.

A day begins at midnight UTC. Counted in samples at 16 kHz, each once: what a resumed session sends again
was not received the first time. Memory is one number for each identity that has a quota and has sent
audio today.
"""

from collections import Counter
from collections.abc import Callable

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.core.policy import PolicyInForce

DAY_S = 86_400


class AudioQuotas:
    """Counts the audio of identities whose rule has ``audio_s_per_day``.

    Args:
        policy: Says who has how much.
        unix_s: The clock, in seconds since 1970; a day's border is a matter of the calendar.
    """

    def __init__(self, policy: PolicyInForce, unix_s: Callable[[], float]) -> None:
        self._policy = policy
        self._unix_s = unix_s
        self._day = 0
        self._samples: Counter[str] = Counter()

    def spend(self, path: str, n_samples: int) -> None:
        """Count what an identity has sent."""
        if self._limit_samples(path) is not None:
            self._begin_day()
            self._samples[path] += n_samples

    def is_spent(self, path: str) -> bool:
        """Whether an identity has sent all that it may send today: it may begin no stream."""
        left = self._left_samples(path)
        return left is not None and left <= 0

    def is_exceeded(self, path: str) -> bool:
        """Whether an identity has sent more than it may today: its streams must end."""
        left = self._left_samples(path)
        return left is not None and left < 0

    def used_s(self, path: str) -> float:
        """Audio that was counted for an identity today."""
        self._begin_day()
        return self._samples[path] / SAMPLE_RATE_HZ

    def until_tomorrow_s(self) -> int:
        """Seconds until every quota is whole again; at least 1."""
        return max(1, int(DAY_S - self._unix_s() % DAY_S))

    def _left_samples(self, path: str) -> int | None:
        limit = self._limit_samples(path)
        if limit is None:
            return None
        self._begin_day()
        return limit - self._samples[path]

    def _limit_samples(self, path: str) -> int | None:
        limit_s = self._policy.current.rule_for(path).quota.audio_s_per_day
        return None if limit_s is None else limit_s * SAMPLE_RATE_HZ

    def _begin_day(self) -> None:
        day = int(self._unix_s() // DAY_S)
        if day != self._day:
            # Also when a clock was set back: what was counted then belongs to no day that can be told.
            self._day = day
            self._samples.clear()
