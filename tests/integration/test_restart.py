"""An engine that dies, hangs or is short of memory under real streams: they notice a delay and no more."""

import asyncio
from pathlib import Path

import pytest
import soundfile
from exact_streams import dictate, speak, speak_all
from live_server import FINISH, START, LiveServer, live_server, wire
from ops_page import get
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_frame, numbered_speech
from stream_server.engine.faults import Fault, Faults

N_STREAMS = 6
N_FRAMES = 1_500
"""48 s of speech, which is 10 segments and about 70 partials as fast as the server takes it."""


@pytest.mark.slow
async def test_two_kills_under_several_streams_lose_nothing_and_double_nothing(
    pki: Pki, source: ClientPair
) -> None:
    kills = (Faults(at={5: Fault.KILL}), Faults(at={12: Fault.KILL}))
    with live_server(pki, faults=kills) as server:
        heard = await speak_all(server, pki, source, N_STREAMS, N_FRAMES)
        assert heard.is_exact, heard
        assert server.app._metrics.engine_restarts.labels(reason="killed")._value.get() == 2


@pytest.mark.slow
async def test_a_hang_and_a_shortage_of_memory_lose_nothing_and_double_nothing(
    pki: Pki, source: ClientPair
) -> None:
    faults = (Faults(at={3: Fault.OUT_OF_MEMORY, 6: Fault.OUT_OF_MEMORY, 9: Fault.STOP}),)
    with live_server(pki, faults=faults, engine={"hang_s": 0.5}) as server:
        heard = await speak_all(server, pki, source, N_STREAMS, N_FRAMES)
        assert heard.is_exact, heard
        assert server.app._metrics.engine_restarts.labels(reason="hung")._value.get() == 1
        assert server.app._decoding.status.n_out_of_memory == 2


@pytest.mark.slow
@pytest.mark.model
async def test_the_model_says_the_same_whatever_happens_to_its_process(
    real: LiveServer, recordings: Path, pki: Pki, source: ClientPair
) -> None:
    names = ("01.flac", "03.flac", "05.flac")
    audio = [soundfile.read(recordings / name, dtype="int16")[0].tobytes() for name in names]

    async def texts(server: LiveServer) -> list[list[str]]:
        return await asyncio.gather(*(dictate(server, pki, source, one) for one in audio))

    faults = (Faults(at={1: Fault.OUT_OF_MEMORY, 2: Fault.KILL}),)
    with live_server(pki, faults=faults, engine={"fake": False}) as server:
        assert await texts(server) == await texts(real)
        assert server.app._metrics.engine_restarts.labels(reason="killed")._value.get() == 1


async def test_a_stream_whose_finish_waits_on_an_engine_that_hangs_still_ends(
    pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, faults=(Faults(at={1: Fault.STOP}),), engine={"hang_s": 0.3}) as server:
        assert await speak(server, pki, source, range(20)) == [list(range(20))]


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
        assert [number for final in await other for number in final] == list(range(1_000, 1_400))
        assert server.app._metrics.engine_undecodable._value.get() == 1


def readiness(port: int) -> int:
    """The status of ``/readyz``."""
    return get(port, "/readyz")[0]


async def test_a_server_whose_engine_is_replaced_is_not_ready_but_takes_streams(
    pki: Pki, source: ClientPair, free_port: int
) -> None:
    lie = Faults(wrong_canaries=frozenset({1}))
    with live_server(pki, faults=(Faults(), lie), server={"ops_port": free_port}) as server:
        assert await asyncio.to_thread(readiness, free_port) == 200
        server.worker.kill()
        await server.until(lambda: not server.app._decoding.status.is_ready)
        assert await asyncio.to_thread(readiness, free_port) == 503
        assert await speak(server, pki, source, range(30)) == [list(range(30))]
        assert await asyncio.to_thread(readiness, free_port) == 200


async def test_a_server_stops_while_its_engine_is_replaced(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, server={"drain_s": 0.5}) as server:
        async with wire(server.url, pki, source) as client:
            await client.send(START, numbered_speech(range(20)).tobytes())
            await client.receive("speech_started")
            server.worker.kill()
            await server.until(lambda: not server.app._decoding.status.is_ready)
            server.loop.call_soon_threadsafe(server.app.stop)
            events = await client.rest_or_error()
        assert events[-1]["code"] == "shutting_down"
        assert await asyncio.to_thread(server.join) == 0
