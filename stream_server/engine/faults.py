"""Faults on purpose, so that tests can tell when the engine's process dies, hangs, errs or lies.

They travel in ``EngineSpec.faults``, which no configuration and no environment variable reaches.
Calls are counted from 1, from the first canary on; canaries are counted apart.
"""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from stream_server.core.jobs import Batch, DecodeResult
from stream_server.engine.canary import CANARY

if TYPE_CHECKING:
    from stream_server.engine.transcriber import Transcriber


class Fault(Enum):
    """What can go wrong in a call."""

    KILL = "kill"
    """The process gets SIGKILL."""
    STOP = "stop"
    """The process gets SIGSTOP: to its owner it hangs."""
    OUT_OF_MEMORY = "out of memory"
    """Torch finds no memory on the device."""
    ACCELERATOR = "accelerator"
    """The device reports an error that lasts."""
    ERROR = "error"
    """An exception that nobody expected."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in one process."""

    at: Mapping[int, Fault] = field(default_factory=dict)
    """By call. A batch that is tried again after it ran out of memory is another call."""
    wrong_canaries: frozenset[int] = frozenset()
    """Canaries that are answered wrongly."""
    deadly: bytes = b""
    """A window that holds these bytes kills the process; none if empty."""
    delay_s: float = 0.0
    """That every call takes longer."""


class FaultyTranscriber:
    """A transcriber that fails as it is told to."""

    def __init__(self, inner: "Transcriber", faults: Faults) -> None:
        self.facts = inner.facts
        self.n_bytes = inner.n_bytes
        self._inner = inner
        self._faults = faults
        self._n_calls = 0
        self._n_canaries = 0

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """See ``Transcriber.transcribe``."""
        if batch.jobs[0].session == CANARY:
            return self._answer_canary(batch)
        if self._n_canaries:
            self._fail(batch)
        return self._inner.transcribe(batch)

    def _answer_canary(self, batch: Batch) -> list[DecodeResult]:
        self._n_canaries += 1
        results = self._inner.transcribe(batch)
        if self._n_canaries in self._faults.wrong_canaries:
            return [replace(result, text=result.text + "?") for result in results]
        return results

    def _fail(self, batch: Batch) -> None:
        self._n_calls += 1
        time.sleep(self._faults.delay_s)
        if self._faults.deadly and any(self._faults.deadly in bytes(job.pcm) for job in batch.jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        match self._faults.at.get(self._n_calls):
            case Fault.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Fault.OUT_OF_MEMORY:
                raise RuntimeError("CUDA out of memory. A fault on purpose.")
            case Fault.ACCELERATOR:
                raise RuntimeError("CUDA error: device-side assert triggered. A fault on purpose.")
            case Fault.ERROR:
                raise LookupError("A fault on purpose.")
            case None:
                return
