"""Memory over 10,000 jobs through a whole server with the embedded model: ``make soak``.

Clients open streams, send a recording as fast as the server takes it, read its finals and leave, until the
engine has decoded ``SOAK_JOBS`` windows that count. Meanwhile the resident memory of the server's two
processes is read; a straight line through it must rise by less than ``BYTES_PER_JOB``. A window is up to
160,000 bytes of audio and several MB in the model; a session, of about five jobs, some 10,000 bytes. Losing
any of them would rise more.

Before those come ``SOAK_SETTLING`` jobs of the same streams, whose memory is not judged: a fresh server's C
heap grows over its first thousands of jobs, ever more slowly, while Python's own stays as it is.
"""

import asyncio
import itertools
import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from live_server import FINISH, START, pieces, wire
from ops_page import metrics_of
from pki import ClientPair, Pki
from rich.console import Console
from rich.table import Table
from serve_command import address_printed, serve

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.timeout(3_600)]

N_JOBS = int(os.environ.get("SOAK_JOBS", "10000"))
N_SETTLING = int(os.environ.get("SOAK_SETTLING", "10000"))
N_CLIENTS = 8
BYTES_PER_JOB = 1_000
SAMPLE_S = 0.5
WINDOW_BYTES = 19_200
"""0.6 s of audio, after which the client flushes: short windows make many jobs."""
FLUSH = {"type": "flush"}


@dataclass(frozen=True)
class Sample:
    """The memory of both processes after some jobs."""

    n_jobs: float
    server: int
    engine: int


def resident_bytes(pid: int) -> int:
    """What a process has in memory."""
    [kilobytes] = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return 1_024 * int(kilobytes)


def engine_of(pid: int) -> int:
    """The process of a server that has the most memory of its own: Python's helpers have little."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = [Path(task, "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    every = {int(child) for child in itertools.chain(children, *threads)}
    return max(every, key=resident_bytes)


def n_decoded(port: int) -> float:
    """Windows that the engine has decoded."""
    values = metrics_of(port)
    return values["stt_final_decode_seconds_count"] + values["stt_partial_decode_seconds_count"]


async def stream_until(
    done: asyncio.Event, url: str, pki: Pki, source: ClientPair, recordings: list[bytes], first: int
) -> int:
    """Stream one recording after another; returns how many."""
    for n_streams, audio in enumerate(itertools.cycle(recordings[first:] + recordings[:first])):
        if done.is_set():
            return n_streams
        async with wire(url, pki, source, ping_timeout=None) as client:
            await client.send(START)
            for piece in pieces(audio, WINDOW_BYTES):
                await client.send(piece, FLUSH)
            await client.send(FINISH)
            await client.rest()
            assert client.of("final")
    raise AssertionError("a cycle does not end")


async def sample_until_done(done: asyncio.Event, pid: int, port: int) -> list[Sample]:
    """Read the memory until enough jobs are decoded; the samples that count."""
    engine = engine_of(pid)
    samples = []
    while not done.is_set():
        n_jobs = await asyncio.to_thread(n_decoded, port) - N_SETTLING
        if n_jobs >= 0:
            samples.append(Sample(n_jobs, resident_bytes(pid), resident_bytes(engine)))
        if n_jobs >= N_JOBS:
            done.set()
        await asyncio.sleep(SAMPLE_S)
    return samples


def show(samples: list[Sample], rises: dict[str, float], n_streams: int, took_s: float) -> None:
    n_jobs = N_SETTLING + samples[-1].n_jobs
    title = f"{n_jobs:.0f} jobs of {n_streams} streams in {took_s:.0f} s, judged after {N_SETTLING}"
    table = Table("process", f"after {N_SETTLING}", "at the end", "rise per job", "bound", title=title)
    first, last = samples[0], samples[-1]
    for name, rise in rises.items():
        before, after = (f"{getattr(sample, name) / 1e6:.1f} MB" for sample in (first, last))
        table.add_row(name, before, after, f"{rise:+.0f} B", f"{BYTES_PER_JOB} B")
    Console(width=100).print(table)


async def test_memory_is_flat(recordings: Path, pki: Pki, source: ClientPair, free_port: int) -> None:
    files = sorted(recordings.glob("[0-9]*.flac"))  # noqa: ASYNC240  # nothing else runs yet
    audio = [soundfile.read(file, dtype="int16")[0].tobytes() for file in files]
    config = (
        f"[server]\nport = 0\nops_port = {free_port}\n[log]\nlevel = 'error'\n"
        "[limits]\nsessions_per_identity = 100\nconnects_per_minute = 1000000\n"
    )
    with serve(pki, config) as process:
        url = address_printed(process)
        began_s = time.monotonic()
        done = asyncio.Event()
        clients = [stream_until(done, url, pki, source, audio, first) for first in range(N_CLIENTS)]
        samples, *n_streams = await asyncio.gather(sample_until_done(done, process.pid, free_port), *clients)
        process.terminate()
        assert process.wait(20) == 0
    jobs = [sample.n_jobs for sample in samples]
    rises = {
        name: statistics.linear_regression(jobs, [getattr(sample, name) for sample in samples]).slope
        for name in ("server", "engine")
    }
    show(samples, rises, sum(n_streams), time.monotonic() - began_s)
    assert samples[-1].n_jobs >= N_JOBS
    assert max(rises.values()) < BYTES_PER_JOB, rises
