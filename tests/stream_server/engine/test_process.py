"""The engine over a real process: start, work, death and stop, on both event loops.

A worker is held by SIGSTOP, so that what happens while it is busy needs no luck.
"""

import asyncio
import dataclasses
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
import torch
import uvloop
from models import decode_job

from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Tier
from stream_server.core.orders import Death, GaveUp, Report, Restarting, Results, Undecodable
from stream_server.core.scheduler import Scheduler
from stream_server.core.settings import ModelFacts
from stream_server.core.supervisor import Patience
from stream_server.engine import child, process
from stream_server.engine.fake import numbered_speech
from stream_server.engine.faults import Fault, Faults
from stream_server.engine.manifest import embedded_model
from stream_server.engine.process import Engine
from stream_server.engine.spec import EngineSpec, Loaded
from stream_server.errors import ModelError, Overloaded

FAKE = EngineSpec(models={Tier.LIVE: None}, device="cpu", threads=1, batch_max=4)
MORTAL = Patience(restarts=0)
"""The first death is the end."""
KILLED = GaveUp(Death.KILLED, -signal.SIGKILL)
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

    def __init__(
        self, *, finals_max: int = 100, patience: Patience = MORTAL, faults: tuple[Faults, ...] = ()
    ) -> None:
        self.events: list[DecodeResult | Report] = []
        self._changed = asyncio.Event()
        scheduler = Scheduler(FAKE.batch_max, finals_max)
        spec = dataclasses.replace(FAKE, faults=faults)
        self.engine = Engine(spec, scheduler, self._take, patience)

    def _take(self, report: Report) -> None:
        self.events.extend(report.results if isinstance(report, Results) else [report])
        self._changed.set()

    async def events_when(self, n_events: int) -> list[DecodeResult | Report]:
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
async def running(**options: Any) -> AsyncIterator[Harness]:
    harness = Harness(**options)
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
        facts = ModelFacts("fake", frozenset({"en"}), can_translate=False, can_time_words=True)
        assert await harness.engine.start() == {Tier.LIVE: Loaded(facts, FAKE.batch_max, 0)}
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


@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_process_that_cannot_be_killed_is_left_behind_and_holds_nobody_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.1)
    monkeypatch.setattr(child, "KILL_S", 0.1)

    async def main() -> None:
        async with running() as harness:
            (worker,) = workers()
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(job(1))
            # To the engine, what SIGKILL does not end and what it does not reach are the same.
            monkeypatch.setattr(child.Child, "kill", lambda self: None)
        assert workers() == []
        assert "engine_process_stays" in caplog.text
        worker.kill()
        while engine_threads():  # noqa: ASYNC110  # the thread ends with the process, and tells nobody
            await asyncio.sleep(0.01)

    run(main())


def test_nothing_is_decoded_after_stop(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            pass
        harness.engine.submit(job(1))
        assert (workers(), harness.events) == ([], [])

    run(main())


# ---------------------------------------------------------------- a death that is the last


def test_the_death_of_an_idle_worker_is_told_once_with_its_exit_code(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [KILLED]
            assert workers() == []
            harness.engine.submit(job(1))
            harness.engine.withdraw(SessionId("one"))
        assert harness.events == [KILLED]
        assert engine_threads() == []

    run(main())


def test_the_death_of_a_busy_worker_is_told_and_its_batch_waits_again(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            for number in range(3):
                harness.engine.submit(job(number))
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [KILLED]
            assert harness.engine.n_waiting == 3
        assert harness.events == [KILLED]

    run(main())


def test_the_death_of_a_worker_that_reads_no_more_frees_the_sender(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(decode_job(bytes(2_000_000)))
            harness.signal(signal.SIGKILL)
            assert await harness.events_when(1) == [KILLED]

    run(main())


def test_what_was_decoded_before_death_is_told_before_it_and_nothing_after(run: Run) -> None:
    async def main() -> None:
        async with running() as harness:
            for number in range(100):
                harness.engine.submit(job(number))
            await harness.events_when(1)
            harness.signal(signal.SIGKILL)
            while not harness.events or harness.events[-1] != KILLED:
                await harness.events_when(len(harness.events) + 1)
        *results, end = harness.events
        assert end == KILLED
        assert [result.text for result in harness.results] == [str(n) for n in range(len(results))]

    run(main())


# ---------------------------------------------------------------- deaths that are not


def numbers(n_first: int, n_end: int) -> list[str]:
    return [str(number) for number in range(n_first, n_end)]


@pytest.mark.parametrize(
    ("fault", "death"),
    [
        (Fault.KILL, Death.KILLED),
        (Fault.STOP, Death.HUNG),
        (Fault.ERROR, Death.CRASHED),
        (Fault.ACCELERATOR, Death.ACCELERATOR),
    ],
)
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_what_a_dying_worker_had_under_way_is_decoded_by_the_next_once_and_in_order(
    run: Run, fault: Fault, death: Death, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with running(patience=Patience(hang_s=0.3), faults=(Faults(at={3: fault}),)) as harness:
            for number in range(40):
                harness.engine.submit(job(number, session=f"s{number % 7}"))
            await harness.events_when(41)
        restarts = [event for event in harness.events if not isinstance(event, DecodeResult)]
        assert [(r.death, r.n_jobs) for r in restarts if isinstance(r, Restarting)] == [(death, 4)]
        assert [result.text for result in harness.results] == numbers(0, 40)
        assert workers() == []

    run(main())
    told = capfd.readouterr().err
    assert ("Traceback" in told) == (fault in (Fault.ERROR, Fault.ACCELERATOR))


def test_a_worker_that_reads_the_canary_otherwise_is_replaced_before_it_gets_a_job(run: Run) -> None:
    async def main() -> None:
        lies = (Faults(wrong_canaries=frozenset({2})), Faults(wrong_canaries=frozenset({1})))
        async with running(patience=Patience(heartbeat_s=0.05), faults=lies) as harness:
            await harness.events_when(2)
            harness.engine.submit(job(1))
            await harness.events_when(3)
        *restarts, result = harness.events
        assert [r.death for r in restarts if isinstance(r, Restarting)] == [Death.WRONG_ANSWER] * 2
        assert isinstance(result, DecodeResult)
        assert result.text == "1"

    run(main())


def test_a_window_that_kills_is_reported_and_takes_no_other_along(run: Run) -> None:
    async def main() -> None:
        deadly = Faults(deadly=numbered_speech([5]).tobytes())
        async with running(faults=(deadly,) * 4, patience=Patience()) as harness:
            for number in range(12):
                harness.engine.submit(job(number))
            await harness.events_when(3 + 12)
        undecodable = [event.job.segment for event in harness.events if isinstance(event, Undecodable)]
        assert undecodable == [5]
        assert [r.text for r in harness.results] == [text for text in numbers(0, 12) if text != "5"]
        assert sum(isinstance(event, Restarting) for event in harness.events) == 3

    run(main())


def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(run: Run) -> None:
    async def main() -> None:
        faults = Faults(at={2: Fault.OUT_OF_MEMORY, 5: Fault.OUT_OF_MEMORY})
        async with running(patience=Patience(), faults=(faults,)) as harness:
            for number in range(20):
                harness.engine.submit(job(number))
            await harness.events_when(20)
            assert harness.engine.status.batch_max == {Tier.LIVE: 1}
            assert harness.engine.status.n_out_of_memory == 2
        assert [result.text for result in harness.results] == numbers(0, 20)

    run(main())


def test_a_withdrawn_session_is_not_decoded_again(run: Run) -> None:
    async def main() -> None:
        async with running(patience=Patience()) as harness:
            harness.signal(signal.SIGSTOP)
            harness.engine.submit(job(0, "leaving"))
            harness.engine.submit(job(1, "leaving"))
            harness.engine.submit(job(2, "staying"))
            harness.engine.withdraw(SessionId("leaving"))
            harness.signal(signal.SIGKILL)
            await harness.events_when(2)
        assert [result.text for result in harness.results] == ["2"]

    run(main())


def test_an_engine_is_not_ready_while_its_worker_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(patience=Patience()) as harness:
            assert harness.engine.status.is_ready
            harness.signal(signal.SIGKILL)
            await harness.events_when(1)
            assert not harness.engine.status.is_ready
            harness.engine.submit(job(1))
            await harness.events_when(2)
            assert harness.engine.status.is_ready

    run(main())


@pytest.mark.parametrize("n_workers", [0, 1], ids=["in the pause", "while the next is started"])
def test_a_stop_during_a_restart_leaves_nothing(run: Run, n_workers: int) -> None:
    async def main() -> None:
        async with running(patience=Patience()) as harness:
            harness.signal(signal.SIGKILL)
            await harness.events_when(1)
            while len(workers()) < n_workers:  # noqa: ASYNC110  # nothing tells when a child process appears
                await asyncio.sleep(0)
        assert (workers(), engine_threads()) == ([], [])

    run(main())


# ---------------------------------------------------------------- windows that cannot be read


def test_a_window_that_cannot_be_read_is_told_so_and_the_worker_lives(run: Run) -> None:
    wrong = {
        "the window is empty": dataclasses.replace(job(1), pcm=b""),
        "the window of 31.0 s is longer than 30 s": dataclasses.replace(job(2), pcm=bytes(2 * 31 * 16_000)),
        "the model does not read the language asked for": dataclasses.replace(job(3), language="xx"),
        "the prompt of 2001 characters is longer than 2000": dataclasses.replace(job(4), prompt="x" * 2_001),
    }

    async def main() -> None:
        async with running() as harness:
            (before,) = workers()
            for one in wrong.values():
                harness.engine.submit(one)
            tenth_of_a_second = numbered_speech([6, 7, 8]).tobytes()[: 2 * 1_600]
            harness.engine.submit(job(5))
            harness.engine.submit(dataclasses.replace(job(6), pcm=tenth_of_a_second))
            await harness.events_when(6)
            (after,) = workers()
            assert after.pid == before.pid
        told = {result.segment: (result.problem, result.text) for result in harness.results}
        assert [told[number] for number in range(1, 5)] == [(problem, "") for problem in wrong]
        assert told[5] == (None, "5")
        assert told[6] == (None, "6 7 8")

    run(main())


# ---------------------------------------------------------------- a start that fails


def start_error(run: Run, spec: EngineSpec, patience: Patience | None = None) -> str:
    caught: list[str] = []

    async def main() -> None:
        engine = Engine(spec, Scheduler(4, 4), lambda report: None, patience or Patience())
        with pytest.raises(ModelError) as error:
            await engine.start()
        caught.append(str(error.value))
        assert (workers(), engine_threads()) == ([], [])

    run(main())
    return caught[0]


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_model_that_cannot_be_loaded_is_told_as_the_loader_tells_it(run: Run, tmp_path: Path) -> None:
    message = start_error(run, EngineSpec({Tier.LIVE: tmp_path / "gone"}, "cpu", 1, 4))
    assert message.startswith(f"{tmp_path / 'gone'} is not a folder; --model takes a folder with")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_gpu_asked_for_where_there_is_none_is_told_with_the_setting(run: Run) -> None:
    message = start_error(run, EngineSpec({Tier.LIVE: embedded_model()}, "cuda", 1, 4))
    assert message == "engine.device is cuda, but torch finds no CUDA device; set it to auto or cpu"


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_worker_that_dies_while_loading_is_an_error_with_its_exit_code(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    message = start_error(run, EngineSpec({Tier.LIVE: Path("unread")}, "cpu", -1, 4))
    assert "ended while loading its models (exit code 1)" in message
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("run", [asyncio.new_event_loop], indirect=True)
def test_a_worker_that_loads_too_long_is_an_error_that_names_the_setting(run: Run) -> None:
    assert "engine.load_s" in start_error(run, FAKE, Patience(load_s=0.0))


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
from stream_server.core.messages import Tier
from stream_server.core.scheduler import Scheduler
from stream_server.core.supervisor import (Patience)
from stream_server.engine.manifest import embedded_model
from stream_server.engine.process import Engine
from stream_server.engine.spec import EngineSpec

async def main():
    spec = EngineSpec(models={{Tier.LIVE: None}}, device="cpu", threads=1, batch_max=4)
    engine = Engine(spec, Scheduler(4, 4), print, Patience())
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
