"""One run with so many clients of one server, measured as ``stream-server bench`` measures."""

import asyncio
import time
from dataclasses import dataclass
from functools import cached_property

from benchmarks.peers.servers import Served
from benchmarks.peers.streams import joined_words
from stream_server.engine.text import normalise_english
from stream_server.load.plan import make_plans
from stream_server.load.player import Counts, Player, Stage
from stream_server.load.result import RunResult, summarise_run
from stream_server.load.run import Material, Settings
from stream_server.load.usage import Meter

BEGIN_S = 0.3
SAMPLE_S = 1.0
LAG_S = 0.05


@dataclass(frozen=True)
class Sent:
    """What all runs send, read once."""

    material: Material
    settings: Settings

    @cached_property
    def samples(self) -> memoryview:
        """int16 at 16 kHz."""
        return memoryview(self.material.samples.read_bytes())


async def measure(served: Served, sent: Sent, sessions: int) -> RunResult:
    """Run clients in this process, and look at the server's meanwhile."""
    settings, clips = sent.settings, sent.material.clips
    plans = make_plans(
        clips,
        sessions,
        ramp_s=settings.ramp_s,
        measure_s=settings.measure_s,
        gap_s=settings.gap_s,
        seed=settings.seed,
    )
    go_s = time.monotonic() + BEGIN_S
    counted_s = (settings.ramp_s, settings.ramp_s + settings.measure_s)
    stage = Stage(served.connect, clips, sent.samples, go_s, counted_s, asyncio.Event())
    meter, lags_s, counts = Meter([served.pid]), list[float](), Counts()
    watching = asyncio.create_task(_watch(meter, lags_s, go_s + counted_s[0], go_s + counted_s[1]))
    async with asyncio.TaskGroup() as group:
        playing = [group.create_task(Player(plan, stage, counts).play()) for plan in plans]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return summarise_run(
        [task.result()() for task in playing],
        sessions=sessions,
        measured_s=settings.measure_s,
        is_interrupted=False,
        server=meter.usage,
        client=None,
        loop_lags_s=lags_s,
        normalise=lambda text: normalise_english(joined_words(text)),
    )


async def _watch(meter: Meter, lags_s: list[float], first_s: float, last_s: float) -> None:
    sampled_s = 0.0
    while (now_s := time.monotonic()) <= last_s:
        if now_s >= max(first_s, sampled_s + SAMPLE_S):
            sampled_s = now_s
            await asyncio.to_thread(meter.sample)
        await asyncio.sleep(LAG_S)
        lags_s.append(max(0.0, time.monotonic() - now_s - LAG_S))
