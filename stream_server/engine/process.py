"""The engine as the server sees it: jobs in, results out, decoded by a process of its own.

The scheduler lives here, on the loop. One batch at a time is under way: while the worker decodes it,
newer partials replace older ones in the queue. A thread does the blocking pipe IO. If the worker
dies, ``on_death`` is called once and no result comes any more.
"""

import asyncio
import atexit
import dataclasses
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId
from stream_server.core.scheduler import Scheduler
from stream_server.core.settings import ModelFacts
from stream_server.engine.spec import EngineSpec, LoadFailed, Ready
from stream_server.engine.worker import run_worker
from stream_server.errors import ModelError

STOP_S = 3.0
"""How long a stopping worker may finish its batch before it is killed."""


class Engine:
    """One worker process and the queue before it. All methods on the loop's thread.

    Args:
        spec: What the worker loads.
        scheduler: The queue; owned by the engine.
        on_results: Called on the loop with the results of each batch.
        on_death: Called on the loop, once, if the worker ends without being asked to; takes its exit
            code.
    """

    def __init__(
        self,
        spec: EngineSpec,
        scheduler: Scheduler,
        on_results: Callable[[list[DecodeResult]], None],
        on_death: Callable[[int | None], None],
    ) -> None:
        self._spec = spec
        self._scheduler = scheduler
        self._on_results = on_results
        self._on_death = on_death
        self._is_busy = False
        self._is_stopping = False
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()

    async def start(self) -> ModelFacts:
        """Start the worker and wait until its model is loaded and warm.

        Raises:
            ModelError: The model cannot be loaded, or the worker died while loading it.
        """
        self._loop = asyncio.get_running_loop()
        # spawn: a forked child of a process with threads and CUDA is not safe.
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(
            target=run_worker, args=(child_end, self._spec), name="engine", daemon=True
        )
        try:
            await asyncio.to_thread(self._spawn, child_end)
            facts = await self._ready()
        except BaseException:  # A cancelled start, too: nobody would stop the worker.
            await self._end_process(0.0)
            raise
        self._loop.add_reader(self._process.sentinel, self._notice_death)
        self._thread = threading.Thread(target=self._exchange, name="engine-pipe", daemon=True)
        self._thread.start()
        return facts

    async def stop(self) -> None:
        """Stop the worker; jobs still waiting are dropped."""
        self._is_stopping = True
        self._loop.remove_reader(self._process.sentinel)
        self._batches.put(None)
        await self._end_process(STOP_S)
        await asyncio.to_thread(self._thread.join)
        self._pipe.close()

    @property
    def n_waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._scheduler)

    def submit(self, job: DecodeJob) -> None:
        """Queue a job.

        Raises:
            Overloaded: See ``Scheduler.submit``.
        """
        self._scheduler.submit(job)
        self._pump()

    def withdraw(self, session: SessionId) -> None:
        """Forget a session's waiting jobs; one under way still comes back."""
        self._scheduler.withdraw(session)

    def _spawn(self, child_end: Connection) -> None:
        self._process.start()
        # Python ends its daemons by a signal that the worker ignores, and then waits for them: an owner
        # that dies of a bug without stopping us would hang.
        atexit.register(self._process.kill)
        child_end.close()

    async def _end_process(self, patience_s: float) -> None:
        """Wait for the worker's end, then enforce it."""
        if self._process.pid is None:
            return  # It could not be started, or is being started by a thread that nobody waits for.
        await asyncio.to_thread(self._process.join, patience_s)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)
        atexit.unregister(self._process.kill)

    async def _ready(self) -> ModelFacts:
        pipe: Connection = self._pipe
        try:
            said: Ready | LoadFailed = await asyncio.to_thread(pipe.recv)
        except EOFError:
            await asyncio.to_thread(self._process.join)
            raise ModelError(
                f"the engine's process ended while loading the model (exit code {self._process.exitcode}); "
                "its last words stand above"
            ) from None
        if isinstance(said, LoadFailed):
            await asyncio.to_thread(self._process.join)
            raise ModelError(said.message)
        return said.facts

    def _pump(self) -> None:
        if self._is_busy or self._is_stopping:
            return
        batch = self._scheduler.next_batch()
        if batch is not None:
            self._is_busy = True
            now_s = time.monotonic()
            stamped = (
                dataclasses.replace(job, hops=dataclasses.replace(job.hops, batched_s=now_s))
                for job in batch.jobs
            )
            self._batches.put(Batch(tuple(stamped)))

    def _finish_batch(self, results: list[DecodeResult]) -> None:
        self._is_busy = False
        self._pump()
        self._on_results(results)

    def _notice_death(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._is_stopping = True
        self._process.join()
        # What the worker sent before it died reaches the loop first. The pipe has ended: no long wait.
        self._batches.put(None)
        self._thread.join()
        self._loop.call_soon(self._on_death, self._process.exitcode)

    def _exchange(self) -> None:
        """Thread: one batch to the worker, its results back, until stopped or the worker is gone."""
        while True:
            batch = self._batches.get()
            try:
                self._pipe.send(batch)
                if batch is None:
                    return
                results = self._pipe.recv()
            except (EOFError, OSError):
                return  # The loop learns of the death from the process's sentinel.
            self._loop.call_soon_threadsafe(self._finish_batch, results)
