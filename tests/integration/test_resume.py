"""Connections break, streams go on: nothing lost, nothing doubled, over real TLS."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import websockets
from cutting_proxy import cutting_proxy
from live_server import FINISH, START, LiveServer, WireClient, live_server, pieces, wire
from pki import ClientPair, Pki

from certs.identity import Role
from certs.tls import client_context
from stream_server.client import (
    CaptionError,
    ConnectionState,
    FinalEvent,
    FinishedEvent,
    Reconnect,
    connect,
    transcribe,
)
from stream_server.engine.fake import numbered_speech, numbers_in, silence

AT_ONCE = Reconnect(first_s=0.001, longest_s=0.02)
N_STREAMS = 4
N_CUTS = 200


@pytest.fixture(scope="module")
def patient(pki: Pki) -> Iterator[LiveServer]:
    """A server that allows any number of new connections."""
    with live_server(pki, limits={"resumes_per_minute": 100_000}) as running:
        yield running


def dialogue(first: int, n_frames: int) -> bytes:
    """Numbered speech with a pause after every 90 frames."""
    parts = []
    for begin in range(first, first + n_frames, 90):
        parts += [numbered_speech(range(begin, min(begin + 90, first + n_frames))), silence(20)]
    return b"".join(part.tobytes() for part in parts)


async def texts_of(
    url: str, pki: Pki, pair: ClientPair, chunks: AsyncIterator[bytes]
) -> tuple[list[tuple[float, float, str]], int]:
    """Start, end and text of every final, and how often the stream was resumed."""
    states: list[ConnectionState] = []
    tls = client_context(pki.ca, pair.cert, pair.key)
    finals = []
    async with connect(url, tls=tls, reconnect=AT_ONCE, on_connection=states.append) as stream:
        async for event in transcribe(stream, chunks):
            if isinstance(event, FinalEvent):
                finals.append((event.start, event.end, event.text))
            if isinstance(event, FinishedEvent):
                assert event.segments == len(finals)
    return finals, states.count(ConnectionState.RESUMED)


async def spoken(audio: bytes, size: int, until: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """Audio in chunks; then silence until it is enough."""
    for piece in pieces(audio, size):
        yield piece
        await asyncio.sleep(0)
    while until is not None and not until.is_set():
        yield bytes(3_200)
        await asyncio.sleep(0.002)


async def test_two_hundred_cuts_at_random_bytes_lose_and_double_nothing(
    patient: LiveServer, pki: Pki, source: ClientPair
) -> None:
    chance = random.Random(20)
    # TLS and the upgrade take about 6 kB both ways: some cuts come before a session is resumed.
    lives = [chance.choice([chance.randint(1, 9_000), chance.randint(5_000, 120_000)]) for _ in range(N_CUTS)]
    # The first connections must start, for only then there is a session to resume.
    lives = [40_000] * N_STREAMS + lives
    enough = asyncio.Event()
    async with cutting_proxy(patient.ready.addresses[0][1], iter(lives)) as proxy:
        url = f"wss://localhost:{proxy.port}/v1/stream"

        async def one(number: int) -> None:
            audio = dialogue(10_000 * number, 1_500)
            cut, n_resumed = await texts_of(url, pki, source, spoken(audio, 2_000 + 777 * number, enough))
            plain, _ = await texts_of(patient.url, pki, source, spoken(audio, 3_200))
            assert cut == plain
            said = [n for _, _, text in cut for n in numbers_in(text)]
            assert said == list(range(10_000 * number, 10_000 * number + 1_500))
            assert n_resumed > 5

        async with asyncio.timeout(120):
            tasks = [asyncio.create_task(one(number)) for number in range(N_STREAMS)]
            while proxy.n_cuts < N_CUTS and not any(task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=0.02)
            enough.set()
            await asyncio.gather(*tasks)
        assert proxy.n_cuts >= N_CUTS
    await patient.until(lambda: not patient.app._metrics.sessions_detached._value.get())


# ---------------------------------------------------------------- without the client library


async def begun(server: LiveServer, client: WireClient, n_frames: int = 60) -> str:
    """Start, say some frames, and break the connection; the session's name."""
    await client.send(START, numbered_speech(range(n_frames)).tobytes())
    await client.receive("speech_started")
    client.socket.transport.abort()
    return str(client.events[0]["session"])


def resume(session: str, event: int) -> dict[str, Any]:
    return {"type": "resume", "session": session, "event": event}


def wire_again(server: LiveServer, pki: Pki, pair: ClientPair) -> Any:
    return wire(f"{server.url}?resume", pki, pair)


async def test_the_wire_says_where_to_go_on_and_repeats_what_was_missed(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        session = await begun(server, client)
    async with wire_again(server, pki, source) as again:
        await again.send(resume(session, 1))
        await again.receive("speech_started")
        samples = again.events[0]["samples"]
        # Whole frames before the break: the server had not heard of it when it took them.
        await again.send(numbered_speech(range(samples // 512, 80)).tobytes(), FINISH)
        await again.rest()
        assert again.socket.close_code == 1000
    resumed, *others = again.events
    assert {key: resumed[key] for key in ("type", "seq", "session", "flushes", "closing")} == {
        "type": "resumed",
        "seq": 1,
        "session": session,
        "flushes": 0,
        "closing": False,
    }
    assert [event["event"] for event in others if "event" in event] == list(
        range(2, 2 + len(again.of("final")) + 2)
    )
    assert [n for final in again.of("final") for n in numbers_in(final["text"])] == list(range(80))


async def test_a_renewed_certificate_of_the_same_name_goes_on_and_another_name_does_not(
    server: LiveServer, pki: Pki
) -> None:
    first = pki.client("desk", "source")
    async with wire(server.url, pki, first) as client:
        session = await begun(server, client)
    thief = pki.client("thief", "source")
    async with wire(server.url, pki, thief), wire_again(server, pki, thief) as other:
        await other.send(resume(session, 1))
        assert [event["code"] for event in await other.rest_or_error()] == ["unknown_session"]
        assert other.socket.close_code == 1008
    files = pki.store.issue_client(Role.SOURCE, "desk", force=True)
    renewed = ClientPair(files.cert, files.key, files.entry.serial)
    assert renewed.serial != first.serial
    async with wire_again(server, pki, renewed) as again:
        await again.send(resume(session, 2), FINISH)
        assert (await again.rest())[0]["type"] == "resumed"
        assert [n for final in again.of("final") for n in numbers_in(final["text"])]


async def test_nobody_has_a_place_to_resume_nothing(server: LiveServer, pki: Pki) -> None:
    stranger = pki.client("stranger", "source")
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with wire_again(server, pki, stranger):
            pass
    assert caught.value.response.status_code == 404
    assert b"unknown_session" in caught.value.response.body


async def test_a_connection_taken_over_is_told_so(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with wire(server.url, pki, source) as old:
        await old.send(START)
        session = str((await old.receive("started"))["session"])
        async with wire_again(server, pki, source) as again:
            await again.send(resume(session, 1))
            await again.receive("resumed")
            await old.rest_or_error()
            assert (old.socket.close_code, old.socket.close_reason) == (
                4001,
                "the session was resumed over another connection",
            )
            await again.send(FINISH)
            assert (await again.rest())[-1]["type"] == "finished"


async def test_a_waiting_session_keeps_its_place_and_gives_it_back(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, limits={"sessions": 1, "resume_s": 1}) as server:
        async with wire(server.url, pki, source) as client:
            session = await begun(server, client)
        await server.until(lambda: server.app._hub.n_detached == 1)
        with pytest.raises(websockets.InvalidStatus, match="503"):
            async with wire(server.url, pki, source):
                pass
        async with wire_again(server, pki, source) as again:
            await again.send(resume(session, 2))
            await again.receive("resumed")
            again.socket.transport.abort()
        await server.until(lambda: len(server.app._hub) == 0)
        metrics = server.app._metrics.exposition().decode()
        for line in (
            "stt_sessions_active 0.0",
            "stt_sessions_detached 0.0",
            "stt_connections_lost_total 2.0",
            "stt_sessions_resumed_total 1.0",
            "stt_sessions_expired_total 1.0",
            'stt_sessions_ended_total{code="1008"} 1.0',
        ):
            assert f"\n{line}\n" in metrics
        async with wire(server.url, pki, source) as client:
            await client.send(START, FINISH)
            assert (await client.rest())[-1]["type"] == "finished"


async def test_a_ping_that_the_client_gives_up_on_does_not_end_its_session(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START)
        session = str((await client.receive("started"))["session"])
        await client.socket.close(1011, "keepalive ping timeout")
    async with wire_again(server, pki, source) as again:
        await again.send(resume(session, 1), FINISH)
        assert [event["type"] for event in await again.rest()] == ["resumed", "finished"]


async def test_the_client_says_why_a_session_cannot_go_on(pki: Pki, source: ClientPair) -> None:
    """The server is another one by the time the client is back: it knows nothing of the session."""
    tls = client_context(pki.ca, source.cert, source.key)
    with live_server(pki) as server:
        async with connect(server.url, tls=tls, reconnect=AT_ONCE) as stream:
            seat = await asyncio.to_thread(_only_seat, server)
            server.loop.call_soon_threadsafe(server.app._hub._remove, seat, time.monotonic())
            stream._link.websocket.transport.abort()
            with pytest.raises(CaptionError) as caught:
                await anext(stream)
    assert caught.value.code == "unknown_session"
    assert "start another one" in str(caught.value)


def _only_seat(server: LiveServer) -> Any:
    [seat] = server.app._hub._seats.values()
    return seat
