"""An engine that fails in every way we know, under 20 streams: ``make faults``.

Streams over real TLS with the numbered engine, so that "0 lost, 0 doubled" is an equation; then the
embedded model, whose finals must be those of an undisturbed server. Prints a table.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from exact_streams import Heard, dictate, speak_all
from live_server import LiveServer, live_server
from pki import ClientPair, Pki
from rich.console import Console
from rich.table import Table

from stream_server.core.orders import Death
from stream_server.engine.faults import Fault, Faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

N_STREAMS = 20
N_FRAMES = 2_000
"""Of each stream: 64 s of speech. Streams are opened again until every fault has happened."""
N_ROUNDS_MAX = 15
ENGINE = {"restarts": 1_000, "restarts_within_s": 1.0}
"""Restarts without end and with hardly a pause."""
ARRIVAL = {
    "limits": {"handshakes_per_address": 2 * N_STREAMS},
    "tls": {"handshake_s": 60.0},
}
"""All streams connect at once, from one address, while the engine's processes start."""


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """One line for each test, shown at the end."""
    columns = ("fault", "streams", "restarts", "out of memory", "finals", "lost", "doubled", "s")
    lines = Table(*columns, title="faults")
    yield lines
    Console(width=110).print(lines)


def n_restarts(server: LiveServer) -> dict[Death, int]:
    """By reason, those that happened."""
    counter = server.app._metrics.engine_restarts
    counts = {death: int(counter.labels(reason=death.value)._value.get()) for death in Death}
    return {death: n for death, n in counts.items() if n}


def note(table: Table, name: str, n_streams: int, server: LiveServer, heard: Heard, began_s: float) -> None:
    memory = server.app._decoding.status.n_out_of_memory
    deaths = sum(n_restarts(server).values())
    cells = (n_streams, deaths, memory, heard.n_finals, heard.lost, heard.doubled)
    table.add_row(name, *map(str, cells), f"{time.monotonic() - began_s:.0f}")


def each(fault: Fault, n_times: int) -> tuple[Faults, ...]:
    """The fault once in each of so many processes, after a batch's jobs were decoded alone."""
    rng = random.Random(n_times)  # the same places every time
    return tuple(Faults(at={rng.randint(10, 25): fault}, delay_s=0.002) for _ in range(n_times))


@pytest.mark.parametrize(
    ("name", "faults", "deaths"),
    [
        ("killed", each(Fault.KILL, 20), {Death.KILLED: 20}),
        ("stopped", each(Fault.STOP, 10), {Death.HUNG: 10}),
        ("error", each(Fault.ERROR, 10), {Death.CRASHED: 10}),
        ("accelerator", each(Fault.ACCELERATOR, 10), {Death.ACCELERATOR: 10}),
        ("wrong canary", (Faults(wrong_canaries=frozenset({2}), delay_s=0.01),) * 5, {Death.WRONG_ANSWER: 5}),
        ("out of memory", (Faults(at=dict.fromkeys(range(4, 200, 7), Fault.OUT_OF_MEMORY)),), {}),
    ],
)
async def test_nothing_is_lost_and_nothing_is_doubled(
    name: str,
    faults: tuple[Faults, ...],
    deaths: dict[Death, int],
    table: Table,
    pki: Pki,
    source: ClientPair,
) -> None:
    n_shortages = sum(fault is Fault.OUT_OF_MEMORY for one in faults for fault in one.at.values())
    began_s = time.monotonic()
    engine = {**ENGINE, "hang_s": 0.5, "heartbeat_s": 0.1}
    with live_server(pki, faults=faults, engine=engine, **ARRIVAL) as server:
        heard = Heard()
        for _ in range(N_ROUNDS_MAX):
            heard += await speak_all(server, pki, source, N_STREAMS, N_FRAMES)
            if (n_restarts(server), server.app._decoding.status.n_out_of_memory) == (deaths, n_shortages):
                break
        note(table, name, N_STREAMS, server, heard, began_s)
        assert heard.is_exact, heard
        assert n_restarts(server) == deaths
        assert server.app._decoding.status.n_out_of_memory == n_shortages


@pytest.mark.model
async def test_the_model_says_the_same_as_without_faults(
    table: Table, recordings: Path, pki: Pki, source: ClientPair
) -> None:
    files = sorted(recordings.glob("[0-9]*.flac"))[:6]  # noqa: ASYNC240  # nothing else runs yet
    audio = [soundfile.read(file, dtype="int16")[0].tobytes() for file in files]

    async def run(server: LiveServer) -> list[list[str]]:
        return await asyncio.gather(*(dictate(server, pki, source, one) for one in 2 * audio))

    with live_server(pki, engine={"fake": False}, **ARRIVAL) as server:
        undisturbed = await run(server)
    began_s = time.monotonic()
    faults = (
        Faults(at={2: Fault.OUT_OF_MEMORY, 4: Fault.KILL}),
        Faults(at={9: Fault.STOP}),
        Faults(at={9: Fault.ERROR}),
        Faults(at={9: Fault.KILL}),
    )
    engine = {**ENGINE, "fake": False, "hang_s": 3.0}
    with live_server(pki, faults=faults, engine=engine, **ARRIVAL) as server:
        heard = Heard()
        for _ in range(N_ROUNDS_MAX):
            disturbed = await run(server)
            assert disturbed == undisturbed
            heard += Heard(n_finals=sum(map(len, disturbed)))
            if sum(n_restarts(server).values()) == len(faults):
                break
        note(table, "model, mixed", len(2 * audio), server, heard, began_s)
        assert n_restarts(server) == {Death.KILLED: 2, Death.HUNG: 1, Death.CRASHED: 1}
