"""What each mistake gets: a clear error with its code, other sessions untouched, nothing left behind."""

import asyncio
import json
import socket
from typing import Any

import numpy as np
import pytest
import websockets
from live_server import FINISH, START, LiveServer, live_server, wire
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_speech, numbers_in

SPEECH = numbered_speech(range(30)).tobytes()

MISTAKES: dict[str, tuple[list[Any], str, int]] = {
    "text that is not JSON": ([START, SPEECH, "{oops"], "bad_message", 1007),
    "JSON that is not an object": ([START, SPEECH, "[1]"], "protocol_violation", 1002),
    "unknown type": ([START, SPEECH, {"type": "dance"}], "protocol_violation", 1002),
    "unknown field": ([{**START, "colour": "blue"}], "protocol_violation", 1002),
    "audio before start": ([SPEECH], "protocol_violation", 1002),
    "flush before start": ([{"type": "flush"}], "protocol_violation", 1002),
    "second start": ([START, SPEECH, START], "protocol_violation", 1002),
    "audio after finish": ([START, SPEECH, FINISH, b"\0\0"], "protocol_violation", 1002),
    "encoding not known": ([{**START, "encoding": "mp3"}], "unsupported_audio", 1003),
    "rate too low": ([{**START, "sample_rate": 4000}], "unsupported_audio", 1003),
    "three channels": ([{**START, "channels": 3}], "unsupported_audio", 1003),
    "reserved field": ([{**START, "hotwords": ["x"]}], "not_supported", 1003),
    "words that are no boolean": ([{**START, "words": 1}], "protocol_violation", 1002),
    "resume of nothing": ([{"type": "resume", "session": "x", "event": 1}], "unknown_session", 1008),
    "resume after start": (
        [START, SPEECH, {"type": "resume", "session": "x", "event": 1}],
        "protocol_violation",
        1002,
    ),
    "language of no model": ([{**START, "language": "xx"}], "not_supported", 1003),
    "stray byte at the end": ([START, SPEECH, b"\0", FINISH], "bad_message", 1007),
    "a sample that is no number": (
        [{**START, "encoding": "pcm_f32le"}, np.float32([0, np.nan]).tobytes()],
        "unsupported_audio",
        1003,
    ),
    "message too large": ([START, SPEECH, b"\0" * 70_000], "too_large", 1009),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_gets_its_error_after_the_finals_and_disturbs_nobody(
    name: str, server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    messages, code, close_code = MISTAKES[name]
    async with wire(server.url, pki, source) as witness, wire(server.url, pki, source) as client:
        await witness.send(START, numbered_speech(range(50)).tobytes())
        await client.send(*messages)
        events = await client.rest_or_error()
        assert events[-1]["type"] == "error"
        assert (events[-1]["code"], client.socket.close_code) == (code, close_code)
        assert len(events[-1]["message"]) > 10
        if SPEECH in messages[1:]:
            assert [numbers_in(final["text"]) for final in client.of("final")] == [list(range(30))]
        await witness.send(numbered_speech(range(50, 60)).tobytes(), FINISH)
        await witness.rest()
        assert [n for final in witness.of("final") for n in numbers_in(final["text"])] == list(range(60))


async def test_a_message_far_too_large_is_cut_off_by_the_transport(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START, b"\0" * 1_000_000)
        await client.rest_or_error()
        assert client.socket.close_code == 1009


@pytest.mark.parametrize("resume_s", [0, 1])
async def test_a_client_that_vanishes_mid_word_leaves_nothing_behind(
    resume_s: int, pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, limits={"resume_s": resume_s}) as server:
        async with wire(server.url, pki, source) as client:
            await client.send(START, SPEECH)
            await client.receive("speech_started")
            client.socket.transport.abort()
        async with wire(server.url, pki, source) as client:
            await client.send(START, SPEECH, FINISH)
            await client.rest()
            assert len(client.of("final")) == 1
        await until_empty(server)


async def until_empty(server: LiveServer) -> None:
    """Wait for the server to have let every session go, and look for what it might have kept."""
    await server.until(lambda: not len(server.app._hub) and not server.app._listener.handler_tasks)
    await server.until(lambda: not server.app._vad._waiting and not server.app._vad._slots)
    assert server.app._decoding.engine.n_waiting == 0
    assert not server.app._listener._admitted


def ended_codes(server: LiveServer) -> dict[str, float]:
    """Close code → sessions that ended with it."""
    samples = [sample for metric in server.app._metrics.sessions_ended.collect() for sample in metric.samples]
    return {sample.labels["code"]: sample.value for sample in samples if sample.name.endswith("_total")}


async def test_an_idle_client_is_told_and_closed_and_keepalive_prevents_it(
    pki: Pki, source: ClientPair
) -> None:
    with live_server(pki, limits={"idle_s": 1}) as server:
        async with wire(server.url, pki, source) as idle, wire(server.url, pki, source) as alive:
            await idle.send(START, SPEECH)
            await alive.send(START)
            ending = asyncio.create_task(idle.rest_or_error())
            while not ending.done():
                await alive.send({"type": "keepalive"})
                await asyncio.wait([ending], timeout=0.2)
            assert idle.events[-1]["code"] == "idle_timeout"
            assert idle.socket.close_code == 1008
            assert len(idle.of("final")) == 1
            await alive.send(FINISH)
            assert (await alive.rest())[-1]["type"] == "finished"


async def test_a_client_that_never_starts_is_closed_too(pki: Pki, source: ClientPair) -> None:
    with live_server(pki, limits={"idle_s": 1}) as server:
        async with wire(server.url, pki, source) as client:
            events = await client.rest_or_error()
            assert [event["code"] for event in events] == ["idle_timeout"]


async def test_a_client_that_never_reads_is_given_up_and_the_others_go_on(
    pki: Pki, source: ClientPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_server.transport.connection.DISMISS_S", 0.1)
    with live_server(pki, limits={"unread_s": 0.5, "unread_events": 20}) as server:
        # Small kernel buffers on both ends, or a megabyte of events would fit between them.
        server.app._listener._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", server.ready.addresses[0][1]))
        async with (
            wire(server.url, pki, source, sock=narrow, server_hostname="localhost") as deaf,
            wire(server.url, pki, source) as other,
        ):
            # The TCP transport below TLS: asyncio's TLS would go on reading into a buffer of 256 KiB.
            deaf.socket.transport._ssl_protocol._transport.pause_reading()
            await deaf.send(START, *[{"type": "flush"}] * 3000)  # each is answered
            await server.until(lambda: len(server.app._hub) == 1)
            await other.send(START, SPEECH, FINISH)
            await other.rest()
            assert len(other.of("final")) == 1
            deaf.socket.transport.abort()
        await until_empty(server)
        assert ended_codes(server) == {"1013": 1, "1000": 1}


async def test_partial_frames_of_text_that_is_not_utf8_are_refused(
    server: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async with wire(server.url, pki, source) as client:
        await client.send(START)
        await client.receive("started")
        await client.socket.send(b"\xff\xfe", text=True)
        with pytest.raises(websockets.ConnectionClosedError):
            await client.receive("error")
        assert client.socket.close_code == 1007


def test_error_messages_are_json_a_person_can_read() -> None:
    assert all(json.dumps(messages, default=str) for messages, _, _ in MISTAKES.values())
