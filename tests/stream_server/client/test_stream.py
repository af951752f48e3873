import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_caption_server import FakeSession, Script, fake_server, one_sentence, silence, until_finish
from pki import ClientPair, Pki
from websockets.asyncio.client import ClientConnection

from stream_server.client import (
    CaptionError,
    CaptionStream,
    EndpointingObject,
    Event,
    FinalEvent,
    FinishedEvent,
    FlushedEvent,
    PartialEvent,
    connect,
    transcribe,
)


async def collect(stream: CaptionStream) -> list[Event]:
    return [event async for event in stream]


async def drain(events: AsyncIterator[Event]) -> None:
    async for _ in events:
        continue


async def send_for_ever(stream: CaptionStream) -> None:
    while True:
        await stream.send(bytes(3200))


async def run(pki: Pki, client: ClientPair, script: Script, *, greet: bool = True) -> list[Event]:
    """Connect, finish at once, and return what came."""
    async with fake_server(pki, client, script, greet=greet) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.finish()
            return await collect(stream)


async def test_captions_arrive_in_order_and_iteration_ends_after_finished(
    pki: Pki, client: ClientPair
) -> None:
    events = await run(pki, client, one_sentence)
    assert [type(event).__name__ for event in events] == [
        "SpeechStartedEvent",
        "PartialEvent",
        "FinalEvent",
        "FinishedEvent",
    ]
    assert isinstance(events[1], PartialEvent)
    assert events[1].stable == 5
    assert isinstance(events[2], FinalEvent)
    assert events[2].text == "Hello world."


async def test_start_carries_only_what_was_asked_for(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        async with connect(
            fake.url,
            tls=fake.tls,
            sample_rate=8000,
            encoding="mulaw",
            language="de",
            partials=False,
            endpointing=EndpointingObject(preset="telephone"),
        ) as stream:
            assert stream.started.model == "fake-en"
            assert stream.started.limits.idle_seconds == 30
        assert fake.sessions[0].start == {
            "type": "start",
            "encoding": "mulaw",
            "sample_rate": 8000,
            "language": "de",
            "partials": False,
            "endpointing": {"preset": "telephone"},
        }


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 300_000])
async def test_audio_of_any_size_arrives_whole_in_messages_the_server_takes(
    pki: Pki, client: ClientPair, size: int
) -> None:
    audio = bytes(index % 251 for index in range(size))
    async with fake_server(pki, client, silence) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.send(audio)
            await stream.finish()
            await collect(stream)
        session = fake.sessions[0]
        assert bytes(session.audio) == audio
        assert session.longest <= 65_536
        assert session.n_messages == -(-size // 65_536)


async def test_arrays_are_sent_as_their_bytes(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.send(memoryview(bytearray(b"\x01\x00\x02\x00")).cast("h"))
            await stream.finish()
            await collect(stream)
        assert bytes(fake.sessions[0].audio) == b"\x01\x00\x02\x00"


async def test_flush_is_answered(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.flush()
            assert isinstance(await anext(stream), FlushedEvent)


async def test_events_and_fields_of_a_later_protocol_are_ignored(pki: Pki, client: ClientPair) -> None:
    async def later(session: FakeSession) -> None:
        await until_finish(session)
        await session.say("mood", durable=False, colour="blue")
        await session.say("finished", audio_seconds=0, segments=0, new_field=[1])

    events = await run(pki, client, later)
    assert [type(event) for event in events] == [FinishedEvent]


async def test_an_error_event_is_raised_with_its_code_message_and_close_code(
    pki: Pki, client: ClientPair
) -> None:
    async def fail(session: FakeSession) -> None:
        await session.fail("idle_timeout", "nothing was sent for 30 s", 1008)

    with pytest.raises(CaptionError, match="nothing was sent for 30 s") as caught:
        await run(pki, client, fail)
    assert (caught.value.code, caught.value.close_code) == ("idle_timeout", 1008)


async def test_an_error_in_answer_to_start_is_raised_by_connect(pki: Pki, client: ClientPair) -> None:
    async def refuse(session: FakeSession) -> None:
        await session.text()
        await session.fail("unsupported_audio", "channels must be 1 to 2", 1003)

    async with fake_server(pki, client, refuse, greet=False) as fake:
        with pytest.raises(CaptionError, match="channels") as caught:
            async with connect(fake.url, tls=fake.tls, channels=7):
                pytest.fail("there is no stream")
    assert caught.value.close_code == 1003


async def test_sending_into_an_ended_stream_says_why_and_keeps_earlier_captions(
    pki: Pki, client: ClientPair
) -> None:
    async def fail(session: FakeSession) -> None:
        await session.final(0, 0.0, 1.0, "Kept.")
        await session.fail("engine_failed", "the decoder died", 1011)

    async with fake_server(pki, client, fail) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            with pytest.raises(CaptionError, match="the decoder died") as caught:
                await send_for_ever(stream)
            assert caught.value.code == "engine_failed"
            first = await anext(stream)
            assert isinstance(first, FinalEvent)
            assert first.text == "Kept."
            with pytest.raises(CaptionError, match="the decoder died"):
                await anext(stream)


async def test_sending_after_finished_is_refused(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            await stream.finish()
            await collect(stream)
            await stream._link.websocket.wait_closed()
            with pytest.raises(CaptionError, match="finished"):
                await stream.send(b"\0\0")


async def vanish(session: FakeSession) -> None:
    session.websocket.transport.abort()


async def close_early(session: FakeSession) -> None:
    await session.websocket.close(1001, "going away")


async def skip_a_number(session: FakeSession) -> None:
    session.seq += 1
    await session.finished()


async def repeat_a_number(session: FakeSession) -> None:
    session.seq -= 1
    await session.finished()


async def say_nonsense(session: FakeSession) -> None:
    await session.websocket.send("[1")


async def say_half_a_final(session: FakeSession) -> None:
    await session.say("final", text="Hello")


async def send_bytes(session: FakeSession) -> None:
    await session.websocket.send(b"\0")


async def start_twice(session: FakeSession) -> None:
    limits = {"message_bytes": 1, "idle_seconds": 1, "ahead_seconds": 1, "resume_seconds": 0}
    await session.say("started", session="x", model="m", limits=limits, features=[])


@pytest.mark.parametrize(
    ("script", "code", "close_code", "words"),
    [
        (vanish, "connection_lost", 1006, "connection was lost"),
        (close_early, "connection_lost", 1001, "going away"),
        (skip_a_number, "protocol", 1006, "event 3 came after event 1"),
        (repeat_a_number, "protocol", 1006, "event 1 came after event 1"),
        (say_nonsense, "protocol", 1006, "no event"),
        (say_half_a_final, "protocol", 1006, "no event"),
        (send_bytes, "protocol", 1006, "binary"),
        (start_twice, "protocol", 1006, "started came twice"),
    ],
)
async def test_a_stream_that_ends_otherwise_than_by_finished_is_an_error(
    pki: Pki, client: ClientPair, script: Script, code: str, close_code: int, words: str
) -> None:
    async with fake_server(pki, client, script) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            with pytest.raises(CaptionError, match=words) as caught:
                await collect(stream)
    assert (caught.value.code, caught.value.close_code) == (code, close_code)


async def test_another_first_event_than_started_is_an_error(pki: Pki, client: ClientPair) -> None:
    async def finish_first(session: FakeSession) -> None:
        await session.text()
        await session.finished()

    async with fake_server(pki, client, finish_first, greet=False) as fake:
        with pytest.raises(CaptionError, match="before started"):
            async with connect(fake.url, tls=fake.tls):
                pytest.fail("there is no stream")


async def test_an_idle_client_shows_that_it_is_alive(pki: Pki, client: ClientPair) -> None:
    heard = asyncio.Event()

    async def listen(session: FakeSession) -> None:
        assert await session.text() == "keepalive"
        heard.set()
        await silence(session)

    async with fake_server(pki, client, listen) as fake:
        async with connect(fake.url, tls=fake.tls, keepalive_s=0.001):
            await heard.wait()


async def test_transcribe_sends_and_yields_at_the_same_time(pki: Pki, client: ClientPair) -> None:
    """The second chunk is only given out after the first caption: neither waits for the other's end."""
    captioned = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"\1\0"
        await captioned.wait()
        yield b"\2\0"

    async def caption(session: FakeSession) -> None:
        session.audio += await session.websocket.recv(decode=False)
        await session.final(0, 0.0, 0.1, "One.")
        await silence(session)

    async with fake_server(pki, client, caption) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            async for event in transcribe(stream, chunks()):
                if isinstance(event, FinalEvent):
                    captioned.set()
        assert bytes(fake.sessions[0].audio) == b"\1\0\2\0"


async def test_what_the_source_of_the_audio_raises_comes_out_of_transcribe_as_it_is(
    pki: Pki, client: ClientPair
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"\0\0"
        raise RuntimeError("the microphone is gone")

    async with fake_server(pki, client, silence) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            with pytest.raises(RuntimeError, match="the microphone is gone"):
                await drain(transcribe(stream, broken()))


async def test_transcribe_raises_the_servers_error_while_audio_is_still_flowing(
    pki: Pki, client: ClientPair
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(3200)
            await asyncio.sleep(0)

    async def fail(session: FakeSession) -> None:
        await session.websocket.recv()
        await session.fail("shutting_down", "the server is going away", 1001)

    async with fake_server(pki, client, fail) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            with pytest.raises(CaptionError, match="going away") as caught:
                await drain(transcribe(stream, endless()))
    assert caught.value.code == "shutting_down"


async def test_leaving_the_iteration_early_stops_sending(pki: Pki, client: ClientPair) -> None:
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"\0\0"
        await never.wait()

    async def caption(session: FakeSession) -> None:
        await session.final(0, 0.0, 0.1, "One.")
        await session.text()

    before = asyncio.all_tasks()
    async with fake_server(pki, client, caption) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            events = transcribe(stream, endless())
            await anext(events)
            await events.aclose()
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def paused(websocket: ClientConnection) -> None:
    """Until the connection's buffer is full, which it has no event for."""
    while not websocket.paused:  # noqa: ASYNC110  there is no event for it
        await asyncio.sleep(0)


async def test_a_server_that_does_not_read_holds_the_sender_back(pki: Pki, client: ClientPair) -> None:
    """And loses nothing: once it reads, all of it arrives."""
    may_read = asyncio.Event()
    n_bytes = 24 * 1024 * 1024  # more than the buffers of both kernels and of the connection

    async def late(session: FakeSession) -> None:
        await may_read.wait()
        await silence(session)

    async with fake_server(pki, client, late) as fake:
        async with connect(fake.url, tls=fake.tls) as stream:
            sending = asyncio.create_task(stream.send(bytes(n_bytes)))
            await paused(stream._link.websocket)
            assert not sending.done()
            may_read.set()
            await sending
            await stream.finish()
            await collect(stream)
        assert len(fake.sessions[0].audio) == n_bytes
