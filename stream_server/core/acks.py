"""When a client is told how much of its audio was accepted for good."""

INTERVAL_S = 1.0
"""Between acks at real time; a client keeps about so much audio and what is under way."""
AUDIO_S = 5.0
"""Audio after which an ack comes at once, for clients that send faster than real time."""


class AckClock:
    """Counts samples as the client does, see ``messages.Ack``.

    Args:
        now_s: Monotonic seconds, as in every method.
    """

    def __init__(self, now_s: float) -> None:
        self._n_acked = 0
        self._acked_s = now_s

    def note(self, n_samples: int, now_s: float) -> None:
        """The client has been told of ``n_samples``."""
        self._n_acked = n_samples
        self._acked_s = now_s

    def is_due(self, n_samples: int, sample_rate_hz: int, now_s: float) -> bool:
        """Whether it is time to tell that ``n_samples`` have been accepted."""
        n_untold = n_samples - self._n_acked
        is_much = n_untold >= AUDIO_S * sample_rate_hz
        return n_untold > 0 and (is_much or now_s - self._acked_s >= INTERVAL_S)
