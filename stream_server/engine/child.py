"""One worker process from its start to its end: what it is sent, what it says, and that it goes.

A thread starts the process and does the blocking pipe IO; everything else happens on the loop's thread.
Nothing here decides.
"""

import asyncio
import atexit
import functools
import logging
import multiprocessing
import multiprocessing.process
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from stream_server.core.jobs import Batch
from stream_server.engine.spec import Decoded, EngineSpec, LoadFailed, Ready
from stream_server.engine.worker import run_worker

_log = logging.getLogger(__name__)

KILL_S = 5.0
"""How long a killed process may take to go; one that hangs in a driver's call does not go at all."""

Said = Ready | LoadFailed | Decoded


class Child:
    """A worker process. All methods on the loop's thread, each process once.

    Args:
        spec: What it loads.
        on_said: Called on the loop with each message of the process.
        on_end: Called on the loop, once and last, when the process is gone; takes its exit code, None when
            it could not be started.
    """

    def __init__(
        self, spec: EngineSpec, on_said: Callable[[Said], None], on_end: Callable[[int | None], None]
    ) -> None:
        self._on_said = on_said
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._is_to_die = False
        self._has_ended = asyncio.Event()
        # spawn: a forked child of a process with threads and CUDA is not safe.
        context = multiprocessing.get_context("spawn")
        self._pipe, self._child_end = context.Pipe()
        self._process = context.Process(
            target=run_worker, args=(self._child_end, spec), name="engine", daemon=True
        )
        self._thread = threading.Thread(target=self._run, name="engine-pipe", daemon=True)

    def start(self) -> None:
        """Start the process; it says that it is ready, or why not, or ends."""
        self._thread.start()

    def send(self, batch: Batch) -> None:
        """Let the process decode a batch; only when it owes no answer."""
        self._outgoing.put(batch)

    def kill(self) -> None:
        """Kill the process, also one that is just being started."""
        self._is_to_die = True
        if self._process.pid is not None:
            self._process.kill()

    async def stop(self, patience_s: float) -> None:
        """Let the process finish its batch, but no longer than ``patience_s``, then enforce its end.

        A process that cannot even be killed is left behind after ``KILL_S``.
        """
        self._outgoing.put(None)
        for wait_s in (patience_s, KILL_S):
            try:
                async with asyncio.timeout(wait_s):
                    await self._has_ended.wait()
            except TimeoutError:
                self.kill()
            else:
                return
        _log.error("engine_process_stays")
        # Python waits for its children before it exits, and would wait for this one for ever.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]  # no public way

    # ------------------------------------------------------------ loop

    def _watch(self) -> None:
        """The process runs: learn of its end."""
        self._loop.add_reader(self._process.sentinel, self._notice_end)

    def _notice_end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        atexit.unregister(self._process.kill)
        # What it sent before its end reaches the loop first. The pipe has ended: no long wait.
        self._outgoing.put(None)
        self._thread.join()
        self._loop.call_soon(self._finish, self._process.exitcode)

    def _finish(self, exit_code: int | None) -> None:
        self._pipe.close()
        self._has_ended.set()
        self._on_end(exit_code)

    # ------------------------------------------------------------ thread

    def _run(self) -> None:
        try:
            self._process.start()
        except Exception:  # No memory or no process is left, or whatever else: its owner waits for an answer.
            _log.exception("engine_process_not_started")
            self._child_end.close()
            self._post(functools.partial(self._finish, None))
            return
        # Python ends its daemons by a signal that the worker ignores, and then waits for them: an owner
        # that dies of a bug without stopping us would hang.
        atexit.register(self._process.kill)
        self._child_end.close()
        if self._is_to_die:  # Killed before there was a process.
            self._process.kill()
        self._post(self._watch)
        self._exchange(self._pipe)

    def _exchange(self, pipe: Connection) -> None:
        """One message of the process, one batch to it, until stopped or it is gone."""
        while True:
            try:
                said: Said = pipe.recv()
            except (EOFError, OSError):
                return  # The loop learns of the end from the process's sentinel.
            self._post(functools.partial(self._on_said, said))
            batch = self._outgoing.get()
            try:
                pipe.send(batch)
            except OSError:
                return
            if batch is None:
                return
            del batch  # Its audio would lie here until the next one comes.

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The owner's loop has ended without a stop; atexit kills the process.
            return
