"""Clips for tests of the load generator."""

from stream_server.client.latency import Utterance
from stream_server.load.plan import Clip


def clip_of(first_sample: int, n_samples: int) -> Clip:
    """A recording in which one untimed utterance is said."""
    said = (Utterance(0.0, n_samples / 16_000, "a b"),)
    return Clip(first_sample, n_samples, said, False, ())
