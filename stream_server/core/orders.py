"""What the supervisor of the engine's worker has its owner do: to the worker, or by telling others."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult


class Death(Enum):
    """Why a worker died; the values are labels of a metric."""

    CRASHED = "crashed"
    """It ended by itself, with an exit code of no meaning or by an exception of ours."""
    KILLED = "killed"
    """By a signal that we did not send: an operator, or the system short of memory."""
    HUNG = "hung"
    """It exceeded a time limit and was killed."""
    WRONG_ANSWER = "wrong_answer"
    """It read the canary otherwise than before and was killed."""
    OUT_OF_MEMORY = "out_of_memory"
    """Not even one window fits into its memory."""
    ACCELERATOR = "accelerator"
    """The device reported an error after which nothing it computes can be trusted."""
    UNLOADABLE = "unloadable"
    """The model could not be loaded."""
    STUCK = "stuck"
    """It was killed and did not go away."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process; answered by ``ready`` or ``ended``."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Give this to the worker; answered by ``answered`` or ``ended``."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill the process; answered by ``ended``."""


@dataclass(frozen=True, slots=True)
class Results:
    """Texts for the sessions, one for each job of a batch."""

    results: Sequence[DecodeResult]


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The window of this final kills the engine: it gets no text."""

    job: DecodeJob


@dataclass(frozen=True, slots=True)
class Restarting:
    """A worker died and another one is started after a pause."""

    death: Death
    exit_code: int | None
    n_jobs: int
    """Of its batch that are decoded again."""
    pause_s: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No worker is started any more; nothing follows."""

    death: Death
    exit_code: int | None


Report = Results | Undecodable | Restarting | GaveUp
Order = StartWorker | Decode | KillWorker | Report
