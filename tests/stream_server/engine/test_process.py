"""The engine over a real process: start, work, death and stop, on both event loops.

A worker is held by SIGSTOP, so that what happens while it is busy needs no luck.
"""

import asyncio
import gc
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import uvloop
from models import decode_job

from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import SessionId
from stream_server.core.scheduler import Scheduler
from stream_server.core.settings import ModelFacts
from stream_server.engine import process
from stream_server.engine.fake import numbered_speech
from stream_server.engine.process import Engine
from stream_server.engine.spec import EngineSpec
from stream_server.errors import ModelError, Overloaded

FAKE = EngineSpec(model=None, device="cpu", threads=1, batch_max=4)
PATIENCE_S = 30
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on a loop of its own."""

    def run_it(main: Coroutine[Any, Any, None]) -> None:
        async def patiently() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await main

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(patiently())

    return run_it


def workers() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == "engine"]


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "engine-pipe"]


class Harness:
    """A running engine and all that it reported, in order."""

    def __init__(self, *, finals_max: int = 100) -> None:
        self.events: list[DecodeResult | int | None] = []
        self._changed = asyncio.Event()
        scheduler = Scheduler(FAKE.batch_max, finals_max)
        self.engine = Engine(FAKE, scheduler, self._take, self._die)

    def _take(self, results: list[DecodeResult]) -> None:
        assert results
        self.events.extend(results)
        self._changed.set()

    def _die(self, exit_code: int | None) -> None:
        self.events.append(exit_code)
        self._changed.set()

    async def events_when(self, n_events: int) -> list[DecodeResult | int | None]:
        while len(self.events) < n_events:
            self._changed.clear()
            await self._changed.wait()
        return self.events

    @property
    def results(self) -> list[DecodeResult]:
        return [event for event in self.events if isinstance(event, DecodeResult)]

    def signal(self, number: signal.Signals) -> None:
        (worker,) = workers()
        assert worker.pid is not None
        os.kill(worker.pid, number)


@asynccontextmanager
async def running(*, finals_max: int = 100) -> AsyncIterator[Harness]:
    harness = Harness(finals_max=finals_max)
    await harness.engine.start()
    try:
        yield harness
    finally:
        await harness.engine.stop()


def job(number: int, session: str = "one", *, revision: int = 1, final: bool = True) -> DecodeJob:
    """A window that says ``number``, which is also its segment unless it is a partial."""
    return decode_job(
        numbered_speech([number]).tobytes(),
        session=session,
        segment=number if final else 0,
        revision=revision,
        final=final,
        start=512 * number,
        submitted_s=time.monotonic(),
    )


# ---------------------------------------------------------------- work


def test_a_started_engine_knows_its_model_and_a_stopped_one_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        harness = Harness()
        assert await harness.engine.start() == ModelFacts("fake", frozenset({"en"}), can_translate=False)
        assert len(workers()) == 1
        await harness.engine.stop()
        assert (workers(), engine_threads(), harness.events) == ([], [], [])

    run(main())


def test_starting_and_stopping_leaves_no_open_file(run: Run) -> None:
    async def main() -> None:
        # The first start also opens what Python keeps for all child processes.
        n_open = []
        for _ in range(2):
            async with running() as harness:
                harness.engine.submit(job(1))
                await harness.events_when(1)
            del harness
            gc.collect()
            n_open.append(len(os.listdir("/proc/self/fd")))
        assert n_open[0] == n_open[1]

    run(main())


def test_every_job_comes_back_once_with_its_address_and_text(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            for number in range(50):
                harness.engine.submit(job(number, session=f"s{number % 7}"))
            await harness.events_when(50)
        assert [result.text for result in harness.results] == [str(number) for number in range(50)]
        assert [result.session for result in harness.results] == [f"s{n % 7}" for n in range(50)]
        assert [result.segment for result in harness.results] == list(range(50))
        assert [(r.start, r.end) for r in harness.results] == [(512 * n, 512 * n + 512) for n in range(50)]

    run(main())


def test_results_carry_the_times_of_their_hops_in_order(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.engine.submit(job(1))
            await harness.events_when(1)
        hops = harness.results[0].hops
        assert 0 < hops.submitted_s <= hops.batched_s <= hops.decoded_s <= time.monotonic()

    run(main())


def test_a_final_overtakes_partials_while_the_worker_is_busy(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(job(0))
            harness.engine.submit(job(1, "two", final=False))
            harness.engine.submit(job(2, "three"))
            assert harness.engine.n_waiting == 2
            harness.signal(signal.SIGCONT)
            await harness.events_when(3)
        assert [result.text for result in harness.results] == ["0", "2", "1"]

    run(main())


def test_a_newer_partial_replaces_an_older_one_while_the_worker_is_busy(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            for revision in range(1, 6):
                harness.engine.submit(job(revision, revision=revision, final=False))
            assert harness.engine.n_waiting == 1
            harness.signal(signal.SIGCONT)
            await harness.events_when(2)
        assert [(result.revision, result.text) for result in harness.results] == [(1, "1"), (5, "5")]

    run(main())


def test_a_withdrawn_session_gets_nothing_that_was_still_waiting(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(job(0, "leaving"))
            harness.engine.submit(job(1, "leaving"))
            harness.engine.submit(job(2, "leaving", final=False))
            harness.engine.submit(job(3, "staying"))
            harness.engine.withdraw(SessionId("leaving"))
            harness.signal(signal.SIGCONT)
            await harness.events_when(2)
        # The first was under way: it still comes, and is for the caller to drop.
        assert [result.text for result in harness.results] == ["0", "3"]

    run(main())


def test_finals_over_the_limit_are_refused_and_those_before_are_kept(run: Run) -> None:
    async def main() -> None:
        async with running(finals_max=2) as harness:
            harness.signal(signal.SIGSTOP)
            for number in range(3):
                harness.engine.submit(job(number))
            with pytest.raises(Overloaded):
                harness.engine.submit(job(3))
            harness.signal(signal.SIGCONT)
            await harness.events_when(3)
        assert [result.text for result in harness.results] == ["0", "1", "2"]

    run(main())


def test_a_signal_to_the_whole_group_does_not_take_the_worker(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                harness.signal(number)
            harness.engine.submit(job(1))
            await harness.events_when(1)
        assert [result.text for result in harness.results] == ["1"]

    run(main())


def test_two_engines_do_not_share_anything(run: Run) -> None:
    async def main() -> None:
        async with running() as one:
            async with running() as other:
                one.engine.submit(job(1))
                other.engine.submit(job(2))
                await one.events_when(1)
                await other.events_when(1)
            one.engine.submit(job(3))
            await one.events_when(2)
        assert [result.text for result in one.results] == ["1", "3"]
        assert [result.text for result in other.results] == ["2"]

    run(main())


# ---------------------------------------------------------------- stop


def test_a_worker_that_does_not_finish_its_batch_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.2)

    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(job(1))
            # More than a pipe holds, so that the sender is stuck, too.
            harness.engine.submit(decode_job(bytes(2_000_000)))
        assert (workers(), engine_threads(), harness.events) == ([], [], [])

    run(main())


def test_nothing_is_decoded_after_stop(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            pass
        harness.engine.submit(job(1))
        assert harness.engine.n_waiting == 1
        assert harness.events == []

    run(main())


# ---------------------------------------------------------------- death


def test_the_death_of_an_idle_worker_is_told_once_with_its_exit_code(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [-signal.SIGKILL]
            assert workers() == []
            harness.engine.submit(job(1))
            harness.engine.withdraw(SessionId("one"))
        assert harness.events == [-signal.SIGKILL]
        assert engine_threads() == []

    run(main())


def test_the_death_of_a_busy_worker_is_told_and_its_batch_does_not_come(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            for number in range(3):
                harness.engine.submit(job(number))
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [-signal.SIGKILL]
            assert harness.engine.n_waiting == 2
        assert harness.events == [-signal.SIGKILL]

    run(main())


def test_the_death_of_a_worker_that_reads_no_more_frees_the_sender(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(decode_job(bytes(2_000_000)))
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [-signal.SIGKILL]

    run(main())


def test_what_was_decoded_before_death_is_told_before_it_and_nothing_after(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            for number in range(100):
                harness.engine.submit(job(number))
            await harness.events_when(1)
            harness.signal(signal.SIGKILL)
            while not harness.events or harness.events[-1] != -signal.SIGKILL:
                await harness.events_when(len(harness.events) + 1)
        *results, exit_code = harness.events
        assert exit_code == -signal.SIGKILL
        assert [result.text for result in harness.results] == [str(n) for n in range(len(results))]

    run(main())


# ---------------------------------------------------------------- a start that fails


def start_error(run: Run, spec: EngineSpec) -> str:
    caught: list[str] = []

    async def main() -> None:
        engine = Engine(spec, Scheduler(4, 4), lambda results: None, lambda exit_code: None)
        with pytest.raises(ModelError) as error:
            await engine.start()
        caught.append(str(error.value))
        assert (workers(), engine_threads()) == ([], [])

    run(main())
    return caught[0]


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_model_that_cannot_be_loaded_is_told_as_the_loader_tells_it(run: Run, tmp_path: Path) -> None:
    message = start_error(run, EngineSpec(tmp_path / "gone", "cpu", 1, 4))
    assert message.startswith(f"{tmp_path / 'gone'} is not a folder; --model takes a folder with")


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_worker_that_dies_while_loading_is_an_error_with_its_exit_code(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    message = start_error(run, EngineSpec(Path("unread"), "cpu", -1, 4))
    assert "ended while loading the model (exit code 1)" in message
    assert "Traceback" in capfd.readouterr().err


def test_a_start_that_is_cancelled_leaves_no_process(run: Run) -> None:
    async def main() -> None:
        harness = Harness()
        starting = asyncio.create_task(harness.engine.start())
        while not workers():  # noqa: ASYNC110  # nothing tells when a child process appears
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert (workers(), engine_threads(), harness.events) == ([], [], [])

    run(main())


# ---------------------------------------------------------------- an owner that ends without a stop

OWNER = """
import asyncio, multiprocessing, os, sys
from stream_server.core.scheduler import Scheduler
from stream_server.engine.process import Engine
from stream_server.engine.spec import EngineSpec

async def main():
    spec = EngineSpec(model=None, device="cpu", threads=1, batch_max=4)
    engine = Engine(spec, Scheduler(4, 4), print, print)
    await engine.start()
    (worker,) = multiprocessing.active_children()
    print(worker.pid, flush=True)
    sys.stdin.read()
    {end}

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        pytest.param("os._exit(3)", 3, id="vanishes"),
        pytest.param("raise SystemExit(4)", 4, id="forgets"),
        pytest.param("1 / 0", 1, id="has a bug"),
    ],
)
def test_an_owner_that_ends_without_a_stop_ends_at_once_and_takes_the_worker_along(
    tmp_path: Path, end: str, exit_code: int
) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER.format(end=end))
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        try:
            assert owner.stdout is not None
            worker = os.pidfd_open(int(owner.stdout.readline()))
            owner.communicate(input="", timeout=PATIENCE_S)
        finally:
            owner.kill()
    assert owner.returncode == exit_code
    # A process's descriptor is readable when it has ended.
    ended, _, _ = select.select([worker], [], [], PATIENCE_S)
    os.close(worker)
    assert ended
