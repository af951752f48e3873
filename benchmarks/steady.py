"""What live sessions cost as they grow old: processor time and memory, minute by minute.

The server and the clients of ``benchmarks.gateway``: real TLS, protocol and speech detection, a fake engine,
speech half the time at real time. After the first fifth of the time, straight lines are laid through the
processor time and the memory of the server's own process; neither may rise. Ends with 1 if one does, or if
a final is wrong or missing. Two hours by a simulated clock are ``test_long_session.py`` in ``tests``.

Run: ``python -m benchmarks.steady``, or ``make steady``. Processor time is that of the server alone, which
other load on the machine stretches little.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.gateway import Server, running, spawn
from stream_server.cli.machine import cpu_name

SHARE = 0.5
"""Of the time that is speech."""
KB_PER_MINUTE_MAX = 5.0
"""A session that lost one event or one partial in each utterance would rise by more."""
CPU_RISE_MAX = 0.15
"""Of the mean, from one end of the line to the other."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the server, all sessions open."""

    at_min: float
    cores: float
    """Since the look before."""
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Rise:
    """How the lines rise."""

    kb_per_minute: float
    """Of one session."""
    cpu_share: float
    """Processor time at the end less that at the beginning, of the mean."""

    @property
    def is_steady(self) -> bool:
        """Whether neither rises."""
        return self.kb_per_minute <= KB_PER_MINUTE_MAX and self.cpu_share <= CPU_RISE_MAX


def rise_of(samples: Sequence[Sample], n_sessions: int) -> Rise:
    """Lay the lines.

    Args:
        samples: Evenly spaced; the first fifth of them is left out.
        n_sessions: Open in each of them.
    """
    kept = samples[len(samples) // 5 :]
    minutes = [sample.at_min for sample in kept]
    memory = statistics.linear_regression(minutes, [sample.rss_bytes for sample in kept])
    cores = statistics.linear_regression(minutes, [sample.cores for sample in kept])
    mean = statistics.fmean(sample.cores for sample in kept)
    return Rise(memory.slope / 1_000 / n_sessions, cores.slope * (minutes[-1] - minutes[0]) / mean)


async def watch(server: Server, minutes: float, step_s: float) -> list[Sample]:
    """Look at the server, and print what is seen."""
    samples: list[Sample] = []
    began_s = then_s = time.monotonic()
    cpu_s = server.cpu_s()
    while time.monotonic() < began_s + 60 * minutes:
        await asyncio.sleep(step_s)
        # It keeps them until they are asked for, which would look as if sessions grew.
        lag_s = max(await server.lags_s())
        now_s, now_cpu_s = time.monotonic(), server.cpu_s()
        used = (now_cpu_s - cpu_s) / (now_s - then_s)
        samples.append(Sample((now_s - began_s) / 60, used, server.rss_bytes()))
        then_s, cpu_s = now_s, now_cpu_s
        print(
            f"{samples[-1].at_min:5.1f} min {used:8.3f} cores {samples[-1].rss_bytes / 1e6:8.1f} MB"
            f" {1000 * lag_s:6.0f} ms lag",
            flush=True,
        )
    return samples


async def measure(n_sessions: int, minutes: float) -> bool:
    """Let the sessions speak; whether all was steady and right."""
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    ramp_s = min(10.0, n_sessions / 5)
    async with running(server_core, realtime=False) as server:
        seconds = 60 * minutes + ramp_s + 10.0
        arguments = (server.url, str(server.certs), str(n_sessions), str(seconds), str(ramp_s), str(SHARE))
        clients = await spawn("clients", *arguments, core=client_core)
        assert clients.stdout is not None
        await clients.stdout.readline()
        await asyncio.sleep(ramp_s + 5.0)
        samples = await watch(server, minutes, max(2.0, 3 * minutes))
        seen = json.loads(await clients.stdout.readline())
        await clients.wait()
    rise = rise_of(samples, n_sessions)
    is_right = seen["wrong"] == seen["unfinished"] == 0
    print(
        f"{n_sessions} sessions, {seen['finals']} finals, {seen['wrong']} of them wrong,"
        f" {seen['unfinished']} streams unfinished; of a session memory rose by"
        f" {rise.kb_per_minute:.2f} kB a minute (at most {KB_PER_MINUTE_MAX:g}), processor time by"
        f" {rise.cpu_share:.1%} in all (at most {CPU_RISE_MAX:.0%}):"
        f" {'steady' if rise.is_steady and is_right else 'NOT steady'}"
    )
    return rise.is_steady and is_right


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What live sessions cost as they grow old.")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cpu_name()}, load average {os.getloadavg()[0]:.1f}")
    sys.exit(0 if asyncio.run(measure(options.sessions, options.minutes)) else 1)


if __name__ == "__main__":
    main()
