"""One run: starts the workers, lets them begin together, watches usage, and gathers what they saw."""

import asyncio
import contextlib
import itertools
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from stream_server.load.messages import Command, Go, Order, Progress, Ready, Report, Stop, WorkerDone
from stream_server.load.plan import ClientPlan, Clip, make_plans, share_out
from stream_server.load.player import LATE_S_MAX
from stream_server.load.result import RunResult, summarise_run
from stream_server.load.usage import Meter

CLIENTS_PER_WORKER = 50
"""What one process streams without being late, also on a slow core."""
START_S = 60.0
"""For a worker to start."""
BEGIN_S = 0.3
"""From the command to begin to the beginning."""
SAMPLE_S = 1.0
"""How often usage is looked at."""
SPARE_S = 30.0
"""A worker that has not reported so long after the last possible end of its clients is killed."""
LINE_BYTES_MAX = 256 * 1024 * 1024
"""Of a worker's last report."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Report)


class LoadFailed(Exception):
    """Raised when the clients cannot be run; one line for the user."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and the certificate to show it."""

    url: str
    ca: Path
    cert: Path
    key: Path
    pid: int | None = None
    """Of the server's main process, when it runs on this machine."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is sent."""

    samples: Path
    """File, int16 little-endian at 16 kHz."""
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all runs of a command."""

    ramp_s: float
    measure_s: float
    gap_s: float
    language: str | None = None
    seed: int = 1
    workers: int = 0
    """0 chooses by the number of clients."""


@dataclass(slots=True)
class _State:
    """What the workers have told so far."""

    progress: dict[int, Progress] = field(default_factory=dict)
    done: dict[int, WorkerDone] = field(default_factory=dict)

    @property
    def total(self) -> Progress:
        told = self.progress.values()
        return Progress(
            sum(one.live for one in told), sum(one.refused for one in told), sum(one.failed for one in told)
        )


OnProgress = Callable[[float, Progress], None]
"""Is told the seconds since the beginning of the run, and how many clients are where."""


async def run_load(
    target: Target,
    material: Material,
    settings: Settings,
    sessions: int,
    *,
    on_progress: OnProgress,
    stopping: asyncio.Event,
    normalise: Callable[[str], str],
) -> RunResult:
    """Run so many clients, each a stream of its own, and measure.

    Args:
        target: The server.
        material: What is sent.
        settings: How.
        sessions: How many clients.
        on_progress: Called about once a second.
        stopping: When set, the run is ended early and what was seen so far is returned.
        normalise: Of text, before words are compared.

    Raises:
        LoadFailed: A worker died or hangs.
        PermissionError: The server's processes belong to somebody else.
    """
    plans = make_plans(
        material.clips,
        sessions,
        ramp_s=settings.ramp_s,
        measure_s=settings.measure_s,
        gap_s=settings.gap_s,
        seed=settings.seed,
    )
    shares = share_out(plans, _n_workers(settings, sessions))
    server, client = Meter([target.pid] if target.pid else []), Meter([])
    state = _State()
    with TemporaryDirectory(prefix="stream-server-bench-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            workers = []
            for number, share in enumerate(shares):
                order = Path(folder, f"{number}.json")
                await asyncio.to_thread(
                    order.write_bytes, _encoder.encode(_order(target, material, settings, share))
                )
                process = await _start_worker(order)
                stack.push_async_callback(_end, process)
                workers.append(process)
            client = Meter([process.pid for process in workers])
            await _play(workers, settings, state, (server, client), on_progress, stopping)
    results = [one for done in state.done.values() for one in done.results]
    return await asyncio.to_thread(
        summarise_run,
        results,
        sessions=sessions,
        measured_s=settings.measure_s,
        is_interrupted=stopping.is_set(),
        server=server.usage,
        client=client.usage,
        loop_lags_s=list(itertools.chain(*(done.loop_lags_s for done in state.done.values()))),
        normalise=normalise,
    )


def _n_workers(settings: Settings, sessions: int) -> int:
    chosen = settings.workers or min(len(os.sched_getaffinity(0)), -(-sessions // CLIENTS_PER_WORKER))
    return min(chosen, sessions)


def _order(target: Target, material: Material, settings: Settings, clients: tuple[ClientPlan, ...]) -> Order:
    return Order(
        url=target.url,
        ca=str(target.ca),
        cert=str(target.cert),
        key=str(target.key),
        samples=str(material.samples),
        clips=material.clips,
        clients=clients,
        language=settings.language,
        ramp_s=settings.ramp_s,
        measure_s=settings.measure_s,
    )


async def _start_worker(order: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stream_server.load.worker",
        str(order),
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_BYTES_MAX,
        # Ctrl-C reaches the command only, which then ends its clients in order.
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _play(
    workers: Sequence[Process],
    settings: Settings,
    state: _State,
    meters: tuple[Meter, Meter],
    on_progress: OnProgress,
    stopping: asyncio.Event,
) -> None:
    async with asyncio.timeout(START_S):
        for worker in workers:
            if not isinstance(await _next(worker), Ready):
                raise LoadFailed("a client process did not start; its last words stand above")
    go_s = time.monotonic() + BEGIN_S
    for worker in workers:
        await _tell(worker, Go(go_s))
    longest_s = settings.ramp_s + settings.measure_s + 2 * LATE_S_MAX + SPARE_S
    aside = [
        asyncio.create_task(_watch(go_s, settings, state, meters, on_progress)),
        asyncio.create_task(_pass_on(stopping, workers)),
    ]
    try:
        async with asyncio.timeout(longest_s):
            await asyncio.gather(*(_listen(number, worker, state) for number, worker in enumerate(workers)))
    except TimeoutError as exc:
        raise LoadFailed(f"the clients did not end within {longest_s:g} s") from exc
    finally:
        for task in aside:
            task.cancel()
        ended = await asyncio.gather(*aside, return_exceptions=True)
    for error in ended:
        if isinstance(error, PermissionError):
            raise error


async def _listen(number: int, worker: Process, state: _State) -> None:
    while number not in state.done:
        match await _next(worker):
            case Progress() as progress:
                state.progress[number] = progress
            case WorkerDone() as done:
                state.done[number] = done
            case Ready():
                raise LoadFailed("a client process started twice")
            case None:
                raise LoadFailed("a client process died; its last words stand above")


async def _next(worker: Process) -> Report | None:
    assert worker.stdout is not None
    line = await worker.stdout.readline()
    return _decoder.decode(line) if line else None


async def _tell(worker: Process, command: Command) -> None:
    assert worker.stdin is not None
    # A worker that is gone is noticed by whoever listens to it.
    with contextlib.suppress(ConnectionError):
        worker.stdin.write(_encoder.encode(command) + b"\n")
        await worker.stdin.drain()


async def _pass_on(stopping: asyncio.Event, workers: Sequence[Process]) -> None:
    await stopping.wait()
    for worker in workers:
        await _tell(worker, Stop())


async def _watch(
    go_s: float,
    settings: Settings,
    state: _State,
    meters: tuple[Meter, Meter],
    on_progress: OnProgress,
) -> None:
    """Show progress to the end; look at usage while all clients are live."""
    first_s, last_s = go_s + settings.ramp_s, go_s + settings.ramp_s + settings.measure_s
    while True:
        now_s = time.monotonic()
        on_progress(max(0.0, now_s - go_s), state.total)
        if first_s <= now_s <= last_s:
            for meter in meters:
                await asyncio.to_thread(meter.sample)
        await asyncio.sleep(max(0.01, min(SAMPLE_S, first_s - now_s if now_s < first_s else SAMPLE_S)))
