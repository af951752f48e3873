"""The process that runs a share of the clients: ``python -m stream_server.load.worker ORDER.json``.

It reads commands from standard input and writes reports to standard output, see ``messages``. When its
input ends, whoever commanded it is gone, and it stops.
"""

import asyncio
import mmap
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from certs.tls import client_context
from stream_server.load.messages import (
    ClientResult,
    Command,
    Go,
    Order,
    Progress,
    Ready,
    Report,
    Stop,
    WorkerDone,
)
from stream_server.load.player import Counts, Player, Stage, native_stream

PROGRESS_S = 0.5
LAG_S = 0.05
"""How often the loop's lateness is looked at."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Command)


def _report(report: Report) -> None:
    sys.stdout.buffer.write(_encoder.encode(report) + b"\n")
    sys.stdout.buffer.flush()


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    return reader


async def _next(commands: asyncio.StreamReader) -> Command:
    line = await commands.readline()
    return _decoder.decode(line) if line else Stop()


async def _watch_loop(lags_s: list[float]) -> None:
    while True:
        due_s = time.monotonic() + LAG_S
        await asyncio.sleep(LAG_S)
        lags_s.append(max(0.0, time.monotonic() - due_s))


async def _tell_progress(counts: Counts) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        _report(Progress(counts.live, counts.refused, counts.failed))


async def _wait_stop(commands: asyncio.StreamReader, stopping: asyncio.Event) -> None:
    while not isinstance(await _next(commands), Stop):
        continue
    stopping.set()


async def _run(order: Order, samples: memoryview) -> None:
    commands = await _commands()
    tls = client_context(Path(order.ca), Path(order.cert), Path(order.key))
    _report(Ready())
    go = await _next(commands)
    if not isinstance(go, Go):
        return
    stopping, counts, lags_s = asyncio.Event(), Counts(), list[float]()
    counted_s = (order.ramp_s, order.ramp_s + order.measure_s)
    stage = Stage(
        partial(native_stream, order.url, tls, order.language),
        order.clips,
        samples,
        go.at_s,
        counted_s,
        stopping,
    )
    aside = [
        asyncio.create_task(step)
        for step in (_watch_loop(lags_s), _tell_progress(counts), _wait_stop(commands, stopping))
    ]
    async with asyncio.TaskGroup() as group:
        playing = [group.create_task(Player(plan, stage, counts).play()) for plan in order.clients]
    for task in aside:
        task.cancel()
    await asyncio.gather(*aside, return_exceptions=True)
    scores: list[Callable[[], ClientResult]] = [task.result() for task in playing]
    _report(WorkerDone(tuple(score() for score in scores), tuple(lags_s)))


def main() -> None:
    """Read the order and run it."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    with (
        Path(order.samples).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        samples = memoryview(mapped)
        uvloop.run(_run(order, samples))
        samples.release()


if __name__ == "__main__":
    main()
