"""A client whose server vanishes: what it says again, how long it tries, and what it tells its user."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fake_caption_server import FakeServer, FakeSession, fake_server, refusing
from pki import ClientPair, Pki
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from stream_server.client import (
    CaptionError,
    CaptionStream,
    ConnectFailed,
    ConnectionState,
    Event,
    FinalEvent,
    FinishedEvent,
    Reconnect,
    connect,
)
from stream_server.client.reconnect import may_pass

Line = Callable[[FakeSession], Awaitable[None]]
LIMITS = {"message_bytes": 65_536, "idle_seconds": 30.0, "ahead_seconds": 10.0, "resume_seconds": 45.0}


class VirtualTime:
    """A clock that sleeping moves on, at once."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def reconnect(self, **options: Any) -> Reconnect:
        return Reconnect(clock=lambda: self.now_s, sleep=self.sleep, chance=lambda: 1.0, **options)


async def start(session: FakeSession) -> None:
    session.start = json.loads(await session.websocket.recv())
    await session.say("started", session="5e55", model="fake-en", limits=LIMITS, features=["resume"])


async def resumed(session: FakeSession, samples: int, event: int, **fields: object) -> None:
    """Read `resume` and answer it; ``event`` is the last that the client has."""
    session.start = json.loads(await session.websocket.recv())
    session.event = event
    values = {"session": "5e55", "samples": samples, "flushes": 0, "closing": False, **fields}
    await session.say("resumed", durable=False, **values)


async def vanish(session: FakeSession) -> None:
    session.websocket.transport.abort()


def lines(*scripts: Line) -> Line:
    """A script for each connection, in turn; further ones are dropped before they begin."""
    waiting = list(scripts)

    async def serve(session: FakeSession) -> None:
        await (waiting.pop(0) if waiting else vanish)(session)

    return serve


async def heard(session: FakeSession, n_bytes: int) -> None:
    while len(session.audio) < n_bytes:
        session.audio += await session.websocket.recv(decode=False)


async def collect(stream: CaptionStream) -> list[Event]:
    return [event async for event in stream]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, FinalEvent)]


async def test_a_lost_stream_goes_on_where_it_was(pki: Pki, client: ClientPair) -> None:
    async def first(session: FakeSession) -> None:
        await start(session)
        await heard(session, 8)
        await session.final(0, 0.0, 1.0, "One.")
        await vanish(session)

    async def second(session: FakeSession) -> None:
        await resumed(session, 2, 2)
        await session.final(1, 1.0, 2.0, "Two.")
        assert await session.text() == "finish"
        await session.finished(2)

    states: list[ConnectionState] = []
    async with fake_server(pki, client, lines(first, second), greet=False) as fake:
        options = {"reconnect": VirtualTime().reconnect(), "on_connection": states.append}
        async with connect(fake.url, tls=fake.tls, **options) as stream:
            await stream.send(b"abcdefgh")
            await stream.finish()
            events = await collect(stream)
        assert texts(events) == ["One.", "Two."]
        assert isinstance(events[-1], FinishedEvent)
        again = fake.sessions[1]
        assert again.start == {"type": "resume", "session": "5e55", "event": 2}
        assert again.websocket.request is not None
        assert again.websocket.request.path == "/v1/stream?resume"
        assert bytes(again.audio) == b"efgh"
    assert states == [ConnectionState.LOST, ConnectionState.RESUMED]


async def test_acknowledged_audio_is_not_kept(pki: Pki, client: ClientPair) -> None:
    async def listen(session: FakeSession) -> None:
        await start(session)
        await heard(session, 8)
        await session.say("ack", durable=False, samples=3)
        assert await session.text() == "finish"
        await session.finished()

    async with fake_server(pki, client, lines(listen), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.send(b"abcdefgh")
            await stream._until(lambda: stream._log.n_bytes == 2)
            await stream.finish()
            assert [type(event) for event in await collect(stream)] == [FinishedEvent]


async def test_audio_goes_on_being_taken_while_the_connection_is_lost_up_to_the_limit(
    pki: Pki, client: ClientPair
) -> None:
    back = asyncio.Event()

    async def first(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    async def second(session: FakeSession) -> None:
        await resumed(session, 0, 1)
        await session.text()
        await session.finished()

    async def sleep(seconds: float) -> None:
        await back.wait()

    lost = asyncio.Event()
    async with fake_server(pki, client, lines(first, second), greet=False) as fake:
        options: dict[str, Any] = {
            "reconnect": Reconnect(buffer_s=0.1, sleep=sleep),
            "on_connection": lambda state: lost.set(),
        }
        async with connect(fake.url, tls=fake.tls, **options) as stream:
            await lost.wait()
            await stream.send(bytes(3_200))
            waiting = asyncio.create_task(stream.send(bytes(2)))
            await asyncio.sleep(0)
            assert not waiting.done()
            # Audio is acknowledged only by the end of this short stream: let the late one in.
            stream._log._audio_bytes_max = 4_000
            back.set()
            await waiting
            await stream.finish()
            await collect(stream)
        assert len(fake.sessions[1].audio) == 3_202


async def test_the_client_gives_up_when_the_session_cannot_wait_any_longer(
    pki: Pki, client: ClientPair
) -> None:
    async def only(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    time = VirtualTime()
    async with fake_server(pki, client, lines(only), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls, reconnect=time.reconnect()) as stream:
            with pytest.raises(CaptionError, match="could not be resumed within 45 s") as caught:
                await collect(stream)
            with pytest.raises(CaptionError, match="could not be resumed"):
                await stream.send(b"ab")
    assert caught.value.code == "connection_lost"
    assert time.waits[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(time.waits[5:]) == {2.0}
    assert 45 < time.now_s < 48


async def test_a_server_that_no_longer_knows_the_session_is_believed(pki: Pki, client: ClientPair) -> None:
    async def first(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    async def second(session: FakeSession) -> None:
        await session.websocket.recv()
        await session.fail("resume_expired", "start another one", 1008)

    async with fake_server(pki, client, lines(first, second), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls, reconnect=VirtualTime().reconnect()) as stream:
            with pytest.raises(CaptionError, match="start another one") as caught:
                await collect(stream)
    assert (caught.value.code, caught.value.close_code) == ("resume_expired", 1008)


@pytest.mark.parametrize(
    ("code", "words"), [(4001, "another connection"), (1008, "policy"), (1000, "before the stream")]
)
async def test_a_connection_closed_on_purpose_is_not_resumed(
    pki: Pki, client: ClientPair, code: int, words: str
) -> None:
    async def only(session: FakeSession) -> None:
        await start(session)
        await session.websocket.close(code, "policy")

    async with fake_server(pki, client, lines(only), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            with pytest.raises(CaptionError, match=words):
                await collect(stream)
        assert len(fake.sessions) == 1


async def test_resuming_can_be_switched_off(pki: Pki, client: ClientPair) -> None:
    async def only(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    async with fake_server(pki, client, lines(only), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls, reconnect=None) as stream:
            with pytest.raises(CaptionError, match="connection was lost"):
                await collect(stream)
        assert len(fake.sessions) == 1


async def _double(session: FakeSession) -> None:
    await resumed(session, 0, 0)
    await session.final(0, 0.0, 1.0, "Doubled.")


async def _gap(session: FakeSession) -> None:
    await resumed(session, 0, 2)
    await session.final(0, 0.0, 1.0, "Late.")


async def _too_far(session: FakeSession) -> None:
    await resumed(session, 5, 1)


async def _no_answer(session: FakeSession) -> None:
    await session.websocket.recv()
    await session.final(0, 0.0, 1.0, "?")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (_double, "event 1 came after 1"),
        (_gap, "event 3 came after 1"),
        (_too_far, "at sample 5"),
        (_no_answer, "before resumed"),
    ],
)
async def test_a_server_that_resumes_wrongly_is_found_out(
    pki: Pki, client: ClientPair, second: Line, words: str
) -> None:
    async def first(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    async with fake_server(pki, client, lines(first, second), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls, reconnect=VirtualTime().reconnect()) as stream:
            with pytest.raises(CaptionError, match=words) as caught:
                await collect(stream)
    assert caught.value.code == "protocol"


async def test_a_callback_that_fails_ends_the_stream_instead_of_hanging_it(
    pki: Pki, client: ClientPair
) -> None:
    async def only(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    def broken(state: ConnectionState) -> None:
        raise RuntimeError("a bug")

    async with fake_server(pki, client, lines(only), greet=False) as fake:
        async with connect(fake.url, tls=fake.tls, on_connection=broken) as stream:
            with pytest.raises(CaptionError) as caught:
                await collect(stream)
    assert isinstance(caught.value.__cause__, RuntimeError)


async def answered_late(
    pki: Pki, client: ClientPair, gate: Callable[[int], Response | None]
) -> tuple[VirtualTime, FakeServer]:
    """Lose the connection, then meet a gate that answers the n-th request."""
    n_requests = 0

    def respond(connection: ServerConnection, request: Request) -> Response | None:
        nonlocal n_requests
        n_requests += 1
        return gate(n_requests)

    async def first(session: FakeSession) -> None:
        await start(session)
        await vanish(session)

    async def second(session: FakeSession) -> None:
        await resumed(session, 0, 1)
        await session.text()
        await session.finished()

    time = VirtualTime()
    async with fake_server(pki, client, lines(first, second), greet=False, gate=respond) as fake:
        async with connect(fake.url, tls=fake.tls, reconnect=time.reconnect()) as stream:
            await stream.finish()
            await collect(stream)
        return time, fake


async def test_a_busy_server_is_asked_again_when_it_says(pki: Pki, client: ClientPair) -> None:
    busy = refusing(503, '{"code":"overloaded","message":"full"}', Retry_After="7")
    time, _ = await answered_late(pki, client, lambda n: busy(None, None) if n == 2 else None)  # type: ignore[arg-type]  it looks at neither
    assert time.waits == [0.1, 7.0]


async def test_a_refusal_that_will_not_pass_is_not_tried_again(pki: Pki, client: ClientPair) -> None:
    gone = refusing(404, '{"code":"unknown_session","message":"start another one"}')
    with pytest.raises(CaptionError, match="start another one") as caught:
        await answered_late(pki, client, lambda n: gone(None, None) if n == 2 else None)  # type: ignore[arg-type]  it looks at neither
    assert caught.value.code == "unknown_session"


def test_what_may_pass() -> None:
    assert may_pass(ConnectFailed("nobody answers"))
    assert may_pass(ConnectFailed("busy", status=503))
    assert not may_pass(ConnectFailed("revoked", status=403))


def test_waits_grow_and_are_spread() -> None:
    waits = [Reconnect(chance=lambda: 0.0).wait_s(n, None) for n in range(6)]
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert Reconnect().wait_s(5_000, None) <= 2.0
