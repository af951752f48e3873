"""Streams over real TLS with the deterministic engine: what is said arrives, once, in order."""

import asyncio

from live_server import FINISH, PAUSE, START, LiveServer, WireClient, pieces, wire
from pki import ClientPair, Pki

from stream_server.core.frame_budget import SMALL_BYTES
from stream_server.engine.fake import numbered_speech, numbers_in

SMALL_FRAMES = 3_999
"""So many may come at once, and the message of the start is one."""


async def speak(client: WireClient, audio: bytes, size: int = 3200) -> list[int]:
    """Stream audio in chunks, as many as may be small, and return the numbers of all finals."""
    await client.send(START)
    n_small = SMALL_FRAMES * size if size < SMALL_BYTES else 0
    for piece in [*pieces(audio[:n_small], size), *pieces(audio[n_small:], max(size, SMALL_BYTES))]:
        await client.send(piece)
    await client.send(FINISH)
    await client.rest()
    return [number for final in client.of("final") for number in numbers_in(final["text"])]


async def test_a_stream_gives_every_frame_exactly_once_and_closes_with_1000(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    audio = numbered_speech(range(100)).tobytes() + PAUSE + numbered_speech(range(100, 400)).tobytes()
    async with wire(server.url, pki, source) as client:
        assert await speak(client, audio) == list(range(400))
        assert client.socket.close_code == 1000
    assert client.events[0]["type"] == "started"
    assert client.events[-1]["type"] == "finished"
    assert client.events[-1]["audio_seconds"] == round(len(audio) / 32_000, 3)
    assert [event["seq"] for event in client.events] == list(range(1, len(client.events) + 1))
    durable = [event["event"] for event in client.events if "event" in event]
    assert durable == list(range(1, len(durable) + 1))


async def test_chunk_borders_do_not_matter(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    audio = numbered_speech(range(40)).tobytes() + PAUSE + numbered_speech(range(40, 60)).tobytes()
    texts = []
    for size in (1, 7, 1024, 65_536):
        async with wire(server.url, pki, source) as client:
            assert await speak(client, audio, size) == list(range(60))
            texts.append([(final["start"], final["end"], final["text"]) for final in client.of("final")])
    assert texts == [texts[0]] * 4


async def test_flush_finalises_what_was_sent_before_it(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START, numbered_speech(range(10)).tobytes(), {"type": "flush"})
        await client.receive("flushed")
        assert [numbers_in(final["text"]) for final in client.of("final")] == [list(range(10))]
        await client.send(numbered_speech(range(10, 15)).tobytes(), FINISH)
        await client.rest()
        assert numbers_in(client.of("final")[1]["text"]) == list(range(10, 15))


async def test_a_beam_search_is_offered_up_to_the_servers_limit(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send({**START, "beam": {"size": 5}}, numbered_speech(range(10)).tobytes(), FINISH)
        await client.rest()
        assert "beam" in client.of("started")[0]["features"]
        assert numbers_in(client.of("final")[0]["text"]) == list(range(10))
    async with wire(server.url, pki, source) as client:
        await client.send({**START, "beam": {"size": 6}})
        refused = await client.receive("error")
        assert refused["code"] == "not_supported"
        assert "at most 5" in refused["message"]


async def test_ten_clients_at_once_each_get_their_own_text(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async def one(first: int) -> bool:
        numbers = list(range(first, first + 150))
        async with wire(server.url, pki, source) as client:
            return await speak(client, numbered_speech(numbers).tobytes()) == numbers

    assert all(await asyncio.gather(*(one(1000 * k) for k in range(10))))


async def test_a_client_far_ahead_of_decoding_is_held_back_and_loses_nothing(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    numbers = list(range(4000))  # 128 s of speech as fast as the socket takes it
    async with wire(server.url, pki, source, ping_timeout=None) as client:
        sending = asyncio.create_task(client.rest())
        await client.send(START)
        for piece in pieces(numbered_speech(numbers).tobytes(), 65_536):
            await client.send(piece)
        await client.send(FINISH)
        await sending
        assert [n for final in client.of("final") for n in numbers_in(final["text"])] == numbers
        assert client.of("lag"), "a client this fast is told that decoding is behind"


async def test_partials_come_before_the_final_and_their_stable_text_holds(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START)
        for i in range(0, 100, 4):
            await client.send(numbered_speech(range(i, i + 4)).tobytes())
            if i == 40:
                await client.receive("partial")
        await client.send(FINISH)
        events = await client.rest()
    kinds = [event["type"] for event in events]
    assert kinds.index("speech_started") < kinds.index("partial") < kinds.index("final")


async def test_an_utterance_of_several_segments_comes_once_more_as_a_whole(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    audio = numbered_speech(range(300)).tobytes() + PAUSE + numbered_speech(range(300, 340)).tobytes()
    async with wire(server.url, pki, source) as client:
        await client.send({**START, "revise": True, "transcript": True})
        assert {"revise", "transcript"} <= set((await client.receive("started"))["features"])
        for piece in pieces(audio, 65_536):
            await client.send(piece)
        await client.send(FINISH)
        await client.rest()
    finals, [utterance] = client.of("final"), client.of("utterance")
    assert (utterance["first_segment"], utterance["last_segment"]) == (0, len(finals) - 2)
    assert (utterance["start"], utterance["end"]) == (finals[0]["start"], finals[-2]["end"])
    assert numbers_in(utterance["text"]) == list(range(300))
    transcript = client.events[-1]["transcript"]
    assert transcript["first_segment"] == 0
    assert [numbers_in(line) for line in transcript["text"].splitlines()] == [
        list(range(300)),
        list(range(300, 340)),
    ]


async def test_partials_false_gives_none(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(
            {**START, "partials": False}, *pieces(numbered_speech(range(100)).tobytes(), 3200), FINISH
        )
        await client.rest()
    assert not client.of("partial")
    assert client.of("final")


async def test_silence_gives_an_empty_result(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START, *[PAUSE] * 10, FINISH)
        assert [event["type"] for event in await client.rest()] == ["started", "ack", "finished"]


async def test_a_tenth_of_a_second_and_nothing_at_all_are_streams_too(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    for audio, n_finals in ((numbered_speech([7]).tobytes(), 1), (b"\0\0", 0), (b"", 0)):
        async with wire(server.url, pki, source) as client:
            await client.send(START, audio, FINISH)
            await client.rest()
            assert len(client.of("final")) == n_finals
            assert client.socket.close_code == 1000


async def test_a_client_that_asks_learns_where_the_time_goes_and_no_other(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    speech = pieces(numbered_speech(range(60)).tobytes() + PAUSE, 3200)
    async with wire(server.url, pki, source) as client:
        await client.send({**START, "trace": True}, *speech, FINISH)
        await client.rest()
    traces = [event["trace"] for event in client.events if event["type"] in ("partial", "final")]
    assert len(traces) >= 1
    for trace in traces:
        assert list(trace) == ["pause", "vad", "queue", "batch", "decode", "send"]
        assert all(0 <= seconds < 10 for seconds in trace.values())
        assert sum(trace.values()) > 0
    async with wire(server.url, pki, source) as client:
        await client.send(START, *speech, FINISH)
        await client.rest()
    assert not any("trace" in event for event in client.events)
    shown = server.app._metrics.exposition().decode()
    assert 'stt_hop_seconds_count{hop="vad",kind="final"} 0.0' not in shown
