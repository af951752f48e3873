"""The engine as the server sees it: jobs in, texts out, decoded by a process of its own.

``core.supervisor`` decides; here its orders are carried out on the event loop, and its clock is read.
A worker that dies is replaced, and what it had under way is decoded again: its owner sees a delay.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId, Tier
from stream_server.core.orders import (
    Death,
    Decode,
    GaveUp,
    KillWorker,
    Order,
    Report,
    Restarting,
    Results,
    StartWorker,
    Undecodable,
)
from stream_server.core.scheduler import Scheduler
from stream_server.core.supervisor import Patience, Supervisor
from stream_server.engine.canary import canary_jobs
from stream_server.engine.child import Child, Said
from stream_server.engine.spec import Decoded, EngineSpec, ExitCode, Loaded, LoadFailed, Ready
from stream_server.errors import ModelError
from stream_server.ops.log import fields

_log = logging.getLogger(__name__)

STOP_S = 3.0
"""How long a stopping worker may finish its batch before it is killed."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an operator looks at."""

    is_ready: bool
    batch_max: Mapping[Tier, int]
    """Jobs that are decoded at once; lower than configured while memory is short."""
    canary_s: Mapping[Tier, float]
    """How long the last check of each model took."""
    silent_s: float
    """Since the worker last answered."""
    n_out_of_memory: int


class Engine:
    """One worker process after another and the queue before them. All methods on the loop's thread.

    Args:
        spec: What a worker loads.
        scheduler: The queue; owned by the engine.
        on_report: Called on the loop with texts and with what happened to workers. After ``GaveUp``
            nothing comes any more.
        patience: How long a worker may take, and how often it may die.
    """

    def __init__(
        self,
        spec: EngineSpec,
        scheduler: Scheduler,
        on_report: Callable[[Report], None],
        patience: Patience,
    ) -> None:
        self._spec = spec
        self._scheduler = scheduler
        self._on_report = on_report
        self._supervisor = Supervisor(scheduler, canary_jobs(spec.models), patience)
        self._loaded: Mapping[Tier, Loaded] = {}
        self._child: Child | None = None
        self._n_started = 0
        self._is_stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s: float | None = None
        self._load_error: str | None = None
        self._n_out_of_memory = 0
        self._n_out_of_memory_before = 0

    async def start(self) -> Mapping[Tier, Loaded]:
        """Start a worker and wait until its models are loaded and warm and have answered the first canaries.

        Raises:
            ModelError: A model cannot be loaded, or the worker died while loading it.
        """
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._perform(self._supervisor.start(time.monotonic()))
        try:
            await self._started
        except BaseException:  # A cancelled start, too: nobody would stop the worker.
            await self.stop()
            raise
        return self._loaded

    async def stop(self) -> None:
        """Stop the worker, also one that is just being started; jobs still waiting are dropped."""
        self._is_stopping = True
        self._set_timer(None)
        if self._child is not None:
            await self._child.stop(STOP_S if self._supervisor.is_ready else 0.0)

    @property
    def n_waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._scheduler)

    @property
    def status(self) -> EngineStatus:
        """How it is."""
        return EngineStatus(
            is_ready=self._supervisor.is_ready and not self._is_stopping,
            batch_max={tier: self._scheduler.batch_max(tier) for tier in self._spec.models},
            canary_s=dict(self._supervisor.canary_s),
            silent_s=time.monotonic() - self._supervisor.alive_s,
            n_out_of_memory=self._n_out_of_memory_before + self._n_out_of_memory,
        )

    def longest_wait_s(self, tiers: Collection[Tier]) -> float:
        """See ``Supervisor.longest_wait_s``."""
        return self._supervisor.longest_wait_s(tiers, time.monotonic())

    def submit(self, job: DecodeJob) -> None:
        """Queue a job.

        Raises:
            Overloaded: See ``Scheduler.submit``.
        """
        self._perform(self._supervisor.submit(job, time.monotonic()))

    def abandon(self, job: DecodeJob) -> None:
        """Forget a second look, if it waits; one under way still comes back."""
        self._scheduler.abandon(job)

    def withdraw(self, session: SessionId) -> None:
        """Forget a session's waiting jobs; one under way still comes back."""
        self._supervisor.withdraw(session)

    # ------------------------------------------------------------ orders

    def _perform(self, orders: Sequence[Order]) -> None:
        for order in orders:
            if self._is_stopping and not isinstance(order, Results):
                continue
            match order:
                case StartWorker():
                    self._start_child()
                case Decode(batch):
                    assert self._child is not None
                    self._child.send(batch)
                case KillWorker():
                    assert self._child is not None
                    self._child.kill()
                case Results() | Undecodable() | Restarting() | GaveUp():
                    self._tell(order)
                case _:
                    assert_never(order)
        self._set_timer(None if self._is_stopping else self._supervisor.due_s)

    def _start_child(self) -> None:
        faults = self._spec.faults[self._n_started : self._n_started + 1]
        self._n_started += 1
        self._n_out_of_memory_before += self._n_out_of_memory
        self._n_out_of_memory = 0
        spec = dataclasses.replace(self._spec, faults=faults)
        self._child = Child(spec, self._take, self._note_end)
        self._child.start()

    def _tell(self, report: Report) -> None:
        match report:
            case GaveUp() if not self._started.done():
                self._started.set_exception(ModelError(self._why_not(report)))
            case Undecodable():
                # Not now: the session that submits the job is in the midst of its actions.
                self._loop.call_soon(self._on_report, report)
            case _:
                self._on_report(report)

    def _why_not(self, report: GaveUp) -> str:
        if self._load_error is not None:
            return self._load_error
        match report.death:
            case Death.HUNG | Death.STUCK:
                return "the engine's process took too long to load its models; raise engine.load_s"
            case Death.OUT_OF_MEMORY:
                return "a model does not fit into memory; take a smaller one, or lower engine.batch"
            case _:
                return (
                    "the engine's process ended while loading its models "
                    f"(exit code {report.exit_code}); its last words stand above"
                )

    # ------------------------------------------------------------ what happens

    def _take(self, said: Said) -> None:
        now_s = time.monotonic()
        match said:
            case Ready():
                self._note_changes(said.models)
                self._loaded = said.models
                batch_max = {tier: loaded.batch_max for tier, loaded in said.models.items()}
                self._perform(self._supervisor.ready(batch_max, now_s))
            case LoadFailed(message):
                self._load_error = message
                _log.error("model_unloadable: %s", message)
            case Decoded():
                if said.n_out_of_memory > self._n_out_of_memory:
                    _log.warning("engine_out_of_memory", extra=fields(batch_max=said.batch_max))
                self._n_out_of_memory = said.n_out_of_memory
                self._perform(self._supervisor.answered(said.results, said.batch_max, now_s))
                if self._supervisor.is_ready and not self._started.done():
                    self._started.set_result(None)
            case _:
                assert_never(said)

    def _note_changes(self, models: Mapping[Tier, Loaded]) -> None:
        """A worker that takes another's place finds the models that lie in their folders by now."""
        for tier, loaded in models.items():
            before = self._loaded.get(tier, loaded)
            if loaded.sha256 != before.sha256:
                told = fields(tier=tier.value, manifest_sha256=loaded.sha256, before=before.sha256)
                _log.warning("model_changed_on_disk", extra=told)
                self._supervisor.forget(tier)

    def _note_end(self, exit_code: int | None) -> None:
        self._child = None
        if not self._is_stopping:
            death = Death.UNLOADABLE if self._load_error is not None else death_of(exit_code)
            self._perform(self._supervisor.ended(death, exit_code, time.monotonic()))
            self._load_error = None

    def _set_timer(self, due_s: float | None) -> None:
        if due_s == self._timer_due_s:
            return
        self._timer_due_s = due_s
        if self._timer is not None:
            self._timer.cancel()
        if due_s is not None:
            self._timer = self._loop.call_later(due_s - time.monotonic(), self._tick)

    def _tick(self) -> None:
        self._timer_due_s = None
        self._perform(self._supervisor.tick(time.monotonic()))


def death_of(exit_code: int | None) -> Death:
    """What a worker's exit code says of its end."""
    if exit_code == ExitCode.OUT_OF_MEMORY:
        return Death.OUT_OF_MEMORY
    if exit_code == ExitCode.ACCELERATOR:
        return Death.ACCELERATOR
    return Death.KILLED if exit_code is not None and exit_code < 0 else Death.CRASHED
