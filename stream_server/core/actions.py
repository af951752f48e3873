"""What a session asks its owner to do, in order. Values only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import Numbered


@dataclass(frozen=True, slots=True)
class Send:
    """Queue an event for the client."""

    numbered: Numbered


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Score these frames, in order: int16 (k, 512)."""

    frames: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Submit:
    """Decode this window."""

    job: DecodeJob


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nobody waits for this second look any more; it may have been submitted, or not."""

    job: DecodeJob


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything queued is written; no action follows."""

    code: int


Action = Send | Score | Submit | Abandon | Close
