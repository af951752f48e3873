"""The Python reader and the command ``watch`` against a real server."""

import asyncio
from collections.abc import Iterator

import pytest
from live_server import FINISH, PAUSE, START, LiveServer, live_server, wire
from pki import ClientPair, Pki

from certs.tls import client_context
from stream_server.client import (
    CaptionError,
    ConnectFailed,
    Gap,
    JoinedEvent,
    RoomFinalEvent,
    RoomReader,
    SourceLeftEvent,
)
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.errors import NotAllowed, SlowReader, StreamError


@pytest.fixture(scope="module")
def house(pki: Pki) -> Iterator[LiveServer]:
    """A server with rooms for many readers of one certificate."""
    with live_server(pki, rooms={"readers_per_identity": 1000, "connects_per_minute": 1000}) as running:
        yield running


async def at_once(seconds: float) -> None:
    """Sleep no time, and let others run."""
    assert seconds > 0
    await asyncio.sleep(0)


def reader_of(server: LiveServer, pki: Pki, pair: ClientPair, room: str) -> RoomReader:
    url = server.url.replace("/v1/stream", f"/v1/rooms/{room}")
    return RoomReader(url, tls=client_context(pki.ca, pair.cert, pair.key), sleep=at_once)


def cut_readers(server: LiveServer, room: str, error: StreamError) -> None:
    """End the connections of a room's readers."""

    def cut() -> None:
        for reader in list(server.app._rooms._rooms[room].readers):
            reader.cut(error)

    server.loop.call_soon_threadsafe(cut)


async def test_a_reader_that_is_cut_off_comes_back_and_gets_every_final_once(
    house: LiveServer, pki: Pki, source: ClientPair
) -> None:
    numbers: list[int] = []
    n_joined = 0
    async with wire(house.url, pki, source) as anna:
        await anna.send({**START, "room": "back"}, numbered_speech(range(20)).tobytes(), PAUSE)
        await anna.receive("final")
        async with reader_of(house, pki, source, "back") as reader:
            async for event in reader:
                match event:
                    case JoinedEvent():
                        n_joined += 1
                        assert not event.gap
                    case RoomFinalEvent():
                        numbers += numbers_in(event.text)
                        if len(numbers) == 20:
                            cut_readers(house, "back", SlowReader("too slow"))
                            await anna.send(numbered_speech(range(20, 40)).tobytes(), FINISH)
                    case SourceLeftEvent():
                        break
    assert numbers == list(range(40))
    assert n_joined == 2


async def test_what_cannot_be_had_any_more_is_told(house: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with reader_of(house, pki, source, "gap") as reader:
        joined = await anext(reader)
        assert isinstance(joined, JoinedEvent)
        # The room vanishes with its only reader; the one that comes after it has another life.
        cut_readers(house, "gap", SlowReader("too slow"))
        assert isinstance(await anext(reader), Gap)
        again = await anext(reader)
        assert isinstance(again, JoinedEvent)
        assert again.life != joined.life


async def test_who_may_not_read_is_not_asked_again(house: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with reader_of(house, pki, source, "refused") as reader:
        assert isinstance(await anext(reader), JoinedEvent)
        cut_readers(house, "refused", NotAllowed("no more"))
        with pytest.raises(CaptionError) as caught:
            await anext(reader)
    assert (caught.value.code, caught.value.close_code) == ("not_allowed", 1008)


async def test_the_first_connection_must_come_about(house: LiveServer, pki: Pki, source: ClientPair) -> None:
    with pytest.raises(ConnectFailed, match="room's name"):
        await anext(reader_of(house, pki, source, "Bad_Name"))
    with pytest.raises(ConnectFailed, match="wss://"):
        await anext(RoomReader("https://x", tls=client_context(pki.ca)))
