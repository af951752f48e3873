"""An engine that dies, hangs or is short of memory under real streams: they notice a delay and no more."""

import asyncio
import http.client

import pytest
from live_server import FINISH, START, LiveServer, live_server, pieces, wire
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_frame, numbered_speech, numbers_in
from stream_server.engine.faults import Fault, Faults

N_STREAMS = 6
N_FRAMES = 1_500
"""48 s of speech, which is 10 segments and about 70 partials as fast as the server takes it."""


async def speak(server: LiveServer, pki: Pki, source: ClientPair, numbers: range) -> list[int]:
    """The numbers of all finals of a stream that says ``numbers``, which ends well."""
    async with wire(server.url, pki, source, ping_timeout=None) as client:
        reading = asyncio.create_task(client.rest())
        await client.send(START)
        for piece in pieces(numbered_speech(numbers).tobytes(), 32_768):
            await client.send(piece)
        await client.send(FINISH)
        await reading
        assert client.socket.close_code == 1000
        assert not client.of("warning")
        segments = [final["segment"] for final in client.of("final")]
        assert segments == list(range(len(segments)))
        return [number for final in client.of("final") for number in numbers_in(final["text"])]


async def speak_all(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    """Several streams at once, each of which must get exactly what it said."""
    said = [range(10_000 * k, 10_000 * k + N_FRAMES) for k in range(N_STREAMS)]
    heard = await asyncio.gather(*(speak(server, pki, source, numbers) for numbers in said))
    assert heard == [list(numbers) for numbers in said]


@pytest.mark.slow
async def test_two_kills_under_several_streams_lose_nothing_and_double_nothing(
    pki: Pki, source: ClientPair
) -> None:
    kills = (Faults(at={5: Fault.KILL}), Faults(at={12: Fault.KILL}))
    with live_server(pki, faults=kills) as server:
        await speak_all(server, pki, source)
        assert server.app._metrics.engine_restarts.labels(reason="killed")._value.get() == 2


@pytest.mark.slow
async def test_a_hang_and_a_shortage_of_memory_lose_nothing_and_double_nothing(
    pki: Pki, source: ClientPair
) -> None:
    faults = (Faults(at={3: Fault.OUT_OF_MEMORY, 6: Fault.OUT_OF_MEMORY, 9: Fault.STOP}),)
    with live_server(pki, faults=faults, engine={"hang_s": 0.5}) as server:
        await speak_all(server, pki, source)
        assert server.app._metrics.engine_restarts.labels(reason="hung")._value.get() == 1
        assert server.app._engine.status.n_out_of_memory == 2


async def test_a_stream_whose_finish_waits_on_an_engine_that_hangs_still_ends(
    pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, faults=(Faults(at={1: Fault.STOP}),), engine={"hang_s": 0.3}) as server:
        assert await speak(server, pki, source, range(20)) == list(range(20))


async def test_a_window_that_kills_the_engine_is_empty_and_told_and_others_do_not_notice(
    pki: Pki, source: ClientPair
) -> None:
    deadly = Faults(deadly=numbered_frame(777).tobytes())
    with live_server(pki, faults=(deadly,) * 4) as server:
        other = asyncio.create_task(speak(server, pki, source, range(1_000, 1_400)))
        async with wire(server.url, pki, source) as client:
            await client.send({**START, "partials": False})
            await client.send(numbered_speech([1, 777]).tobytes(), {"type": "flush"})
            await client.receive("flushed")
            await client.send(numbered_speech([2, 3]).tobytes(), FINISH)
            await client.rest()
        assert [final["text"] for final in client.of("final")] == ["", "2 3"]
        assert [warning["code"] for warning in client.of("warning")] == ["segment_undecodable"]
        assert await other == list(range(1_000, 1_400))
        assert server.app._metrics.engine_undecodable._value.get() == 1


def readiness(port: int) -> int:
    """The status of ``/readyz``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


async def test_a_server_whose_engine_is_replaced_is_not_ready_but_takes_streams(
    pki: Pki, source: ClientPair, free_port: int
) -> None:
    lies = tuple(Faults(wrong_canaries=frozenset({1})) for _ in range(3))
    with live_server(pki, faults=(Faults(), *lies), server={"ops_port": free_port}) as server:
        assert await asyncio.to_thread(readiness, free_port) == 200
        server.worker.kill()
        await server.until(lambda: not server.app._engine.status.is_ready)
        assert await asyncio.to_thread(readiness, free_port) == 503
        assert await speak(server, pki, source, range(30)) == list(range(30))
        assert await asyncio.to_thread(readiness, free_port) == 200


async def test_a_server_stops_while_its_engine_is_replaced(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, server={"drain_s": 0.5}) as server:
        async with wire(server.url, pki, source) as client:
            await client.send(START, numbered_speech(range(20)).tobytes())
            await client.receive("speech_started")
            server.worker.kill()
            await server.until(lambda: not server.app._engine.status.is_ready)
            server.loop.call_soon_threadsafe(server.app.stop)
            events = await client.rest_or_error()
        assert events[-1]["code"] == "shutting_down"
        assert await asyncio.to_thread(server.join) == 0
