"""Somebody floods the server: he is thrown out, for a reason that is counted, and the others feel nothing.

``make floods`` measures all attacks against a process of its own; here are the quick ones, within limits that
a busy machine keeps.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets
from live_server import FINISH, START, LiveServer, live_server, wire
from pki import Bad, ClientPair, Pki

from benchmarks.flood_attacks import Attacker, Victim
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.transport import connection as connections

FEW = {"handshakes": 16, "handshakes_per_address": 4, "handshakes_per_second": 10}
"""A handshake has 1.6 s before its place is wanted, also on a machine that does much else."""
SPEECH = numbered_speech(range(60))


@asynccontextmanager
async def attacked(
    server: LiveServer, pki: Pki, name: str, *, n_hands: int, spread: bool = True
) -> AsyncIterator[Attacker]:
    """An attack under way."""
    good, bad = flooder(pki), pki.bad(Bad.FOREIGN_CA)
    victim = Victim(
        server.ready.addresses[0][1], pki.ca, (good.cert, good.key), (bad.cert, bad.key), spread=spread
    )
    attacker = Attacker(victim)
    attack = asyncio.create_task(attacker.run(name, n_hands))
    try:
        yield attacker
    finally:
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)
        listener = server.app._listener
        await server.until(lambda: not listener._openings and not listener._addresses)


def flooder(pki: Pki) -> ClientPair:
    files = [path for path in (pki.store.folder / "clients").glob("source-flooder.pem")]
    if not files:
        return pki.client("flooder")
    return ClientPair(files[0], files[0].with_suffix(".key"), 0)


def refused(server: LiveServer, reason: str) -> float:
    """How often, in TLS or later."""
    metrics = server.app._metrics
    return sum(
        sample.value
        for counter in (metrics.refused, metrics.handshakes_failed)
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["reason"] == reason
    )


async def is_served_whole(server: LiveServer, pki: Pki, pair: ClientPair) -> bool:
    """A client that comes during the attack gets every word."""
    async with wire(server.url, pki, pair) as client:
        await client.send(START, SPEECH.tobytes(), FINISH)
        await client.rest()
        return [n for final in client.of("final") for n in numbers_in(final["text"])] == list(range(60))


@pytest.mark.parametrize("name", ["silent_connects", "half_handshakes"])
async def test_connections_that_say_nothing_keep_nobody_out(name: str, pki: Pki, source: ClientPair) -> None:
    with live_server(pki, limits=FEW) as server:
        async with attacked(server, pki, name, n_hands=24):
            await server.until(lambda: refused(server, "too_many_handshakes") > 0)
            assert await is_served_whole(server, pki, source)
            assert await is_served_whole(server, pki, source)
            assert len(server.app._listener._openings) <= FEW["handshakes"]


async def test_one_address_cannot_take_the_places_of_others(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, limits=FEW) as server:
        async with attacked(server, pki, "silent_connects", n_hands=24, spread=False):
            await server.until(lambda: refused(server, "too_many_handshakes_of_address") > 0)
            assert await is_served_whole(server, pki, source)
            assert refused(server, "too_many_handshakes") == 0


async def test_a_request_that_does_not_come_holds_a_place_only_until_others_want_it(
    pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, limits=FEW) as server:
        async with attacked(server, pki, "slow_headers", n_hands=24):
            await server.until(lambda: refused(server, "too_many_handshakes") > 0)
            assert await is_served_whole(server, pki, source)
            assert len(server.app._listener._openings) <= FEW["handshakes"]


@pytest.mark.parametrize("name", ["pings", "one_byte_frames", "endless_fragments"])
async def test_a_flood_of_frames_is_cut_off_and_told_why(
    name: str, server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    before = refused(server, connections.TOO_MANY_FRAMES)
    async with attacked(server, pki, name, n_hands=2):
        await server.until(lambda: refused(server, connections.TOO_MANY_FRAMES) > before)
        assert await is_served_whole(server, pki, source)


async def test_who_sends_too_many_frames_reads_why(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START)
        for _ in range(150):
            await client.socket.ping()
        with pytest.raises(websockets.ConnectionClosed):
            await client.receive("nothing")
        assert client.socket.close_code == 1008
        assert "too many small frames" in (client.socket.close_reason or "")


async def test_what_was_cut_off_leaves_no_descriptor_behind(
    pki: Pki, source: ClientPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_server.transport.listener.OPEN_S", 0.2)
    limits = {**FEW, "handshakes_per_second": 100, "resume_s": 0}
    with live_server(pki, limits=limits, tls={"handshake_s": 0.2}) as server:
        assert await is_served_whole(server, pki, source)
        before = n_descriptors()
        for name in ("silent_connects", "half_handshakes", "bad_certificate", "slow_headers", "pings"):
            async with attacked(server, pki, name, n_hands=8) as attacker:
                await server.until(lambda attacker=attacker: attacker.n_tries >= 20)
        await server.until(lambda: n_descriptors() <= before + 2)


def n_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
