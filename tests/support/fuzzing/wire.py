"""What clients, readers and servers send: ``captions.v1``, and audio."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.streams import StreamReader

from fuzzing.target import DEEP, Target
from stream_server.audio.decoder import AudioDecoder, AudioFormat, Encoding
from stream_server.client import room
from stream_server.client.errors import CaptionError, explain_connect
from stream_server.client.link import Link
from stream_server.core.messages import Audio, Resume, Start
from stream_server.core.room_messages import Read, Source, SourceJoined, is_room_name
from stream_server.dialects import native, room_schema, schema
from stream_server.dialects.room_wire import decode_reader, encode_room
from stream_server.errors import (
    BadMessage,
    NotSupported,
    ProtocolViolation,
    TooLarge,
    UnsupportedAudio,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "captions_v1"
"""The golden vectors, which are the seeds."""
WORDS = (
    *(f'"type":"{name}"'.encode() for name in ("start", "flush", "finish", "keepalive", "resume", "read")),
    *(
        f'"{name}":'.encode()
        for struct in (
            schema.StartMessage,
            schema.ResumeMessage,
            room_schema.ReadMessage,
            schema.EndpointingObject,
        )
        for name in struct.__struct_fields__
    ),
    *(b"pcm_f32le", b"mulaw", b"telephone", b"translate", b"null", b"true", b"1e309", b"-1", b"\\ud800"),
    b"9223372036854775808",
    DEEP,
)


def _vectors(file: str, *lists: str) -> Iterator[bytes]:
    vectors: dict[str, Any] = json.loads((VECTORS / file).read_text())
    for name in lists:
        yield from (vector["text"].encode("utf-8", "surrogatepass") for vector in vectors[name])


def _text(data: bytes) -> str:
    """Worse than websockets gives text: what is not UTF-8 becomes lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def _utf8(data: bytes) -> str:
    """As websockets gives text."""
    return data.decode("utf-8", "replace")


# ---------------------------------------------------------------- to the server


def _feed_client(data: bytes) -> None:
    message = native.decode_client(_text(data))
    assert not isinstance(message, Audio), "text is no audio"
    if isinstance(message, Start):
        _check_start(message)
    if isinstance(message, Resume):
        json.dumps([message.session, message.event])


def _check_start(start: Start) -> None:
    AudioDecoder(start.audio).push(bytes(16))
    assert start.room is None or is_room_name(start.room)
    if start.speaker is not None:
        assert start.room is not None
        # What is accepted can be told to readers.
        told = encode_room(SourceJoined(1, Source("1", start.speaker), 0.0))
        assert json.loads(told)["speaker"] == start.speaker


client_message = Target(
    _feed_client,
    (BadMessage, ProtocolViolation, UnsupportedAudio, NotSupported, TooLarge),
    lambda: _vectors("client.json", "valid", "invalid"),
    WORDS,
)


def _feed_reader(data: bytes) -> None:
    message = decode_reader(_text(data))
    if isinstance(message, Read):
        assert message.after >= 0
        assert message.recent is None or message.recent >= 0


reader_message = Target(
    _feed_reader,
    (BadMessage, ProtocolViolation, TooLarge),
    lambda: _vectors("rooms.json", "valid", "invalid"),
    WORDS,
)


def _feed_audio(data: bytes) -> None:
    """The first bytes choose the format and where the rest is cut: the samples may not depend on the cuts."""
    head, audio = data[:6].ljust(6, b"\0"), data[6:]
    encoding = list(Encoding)[head[0] % len(Encoding)]
    rate_hz = int.from_bytes(head[1:3], "little")
    wanted = AudioFormat(encoding, rate_hz, head[3] % 4)
    size = 1 + int.from_bytes(head[4:6], "little")
    whole, cut = AudioDecoder(wanted), AudioDecoder(wanted)
    expected = [whole.push(audio), whole.finish()]
    pieces = [cut.push(audio[i : i + size]) for i in range(0, len(audio), size)]
    found = np.concatenate([*pieces, cut.finish()])
    assert np.array_equal(found, np.concatenate(expected)), "the samples depend on where messages were cut"
    assert whole.n_samples == cut.n_samples == len(audio) // wanted.bytes_per_frame
    assert len(found) <= 4 + len(audio) * 2, "8 kHz doubles, nothing more"


def _audio_seeds() -> Iterator[bytes]:
    samples = (8_000 * np.sin(np.arange(600) / 5)).astype("<i2")
    floats = (samples / np.float32(32_768)).astype("<f4")
    bodies = (samples.tobytes(), floats.tobytes(), samples.tobytes()[::2], samples.tobytes()[1::2])
    for number, body in enumerate(bodies):
        for rate_hz in (8_000, 16_000, 44_100, 48_000):
            for channels in (1, 2):
                yield bytes([number]) + rate_hz.to_bytes(2, "little") + bytes([channels, 100, 0]) + body


audio = Target(_feed_audio, (UnsupportedAudio,), _audio_seeds, bytes_max=4_096, n_suite=40)


# ---------------------------------------------------------------- to the client


class _Said:
    """A WebSocket on which the server says one thing."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def recv(self) -> str:
        return self._text


def _feed_event(data: bytes) -> None:
    receiving = Link(_Said(_utf8(data))).receive()  # type: ignore[arg-type]  only recv is called
    try:
        receiving.send(None)
    except StopIteration as end:
        number, event = end.value
        assert number is None or isinstance(number, int)
        assert event is None or msgspec.json.encode(event)


server_event = Target(_feed_event, (CaptionError,), lambda: _vectors("server.json", "sent"), WORDS)


def _feed_room_event(data: bytes) -> None:
    event = room._decode(_utf8(data))
    assert event is None or msgspec.json.encode(event)


room_event = Target(_feed_room_event, (CaptionError,), lambda: _vectors("rooms.json", "sent"), WORDS)


def _feed_refusal(data: bytes) -> None:
    """What answers instead of an upgrade may be anything that speaks HTTP."""
    answer = _parse_answer(data)
    if answer is None:
        return
    failed = explain_connect(InvalidStatus(answer), "wss://localhost/v1/stream")
    assert failed.status == answer.status_code
    assert failed.retry_after_s is None or 0 <= failed.retry_after_s < 1e5


def _parse_answer(data: bytes) -> Response | None:
    """As websockets reads it."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parsing = Response.parse(reader.read_line, reader.read_exact, reader.read_to_eof)
    try:
        next(parsing)
    except StopIteration as end:
        found: Response = end.value
        return found
    except (EOFError, LookupError, ValueError, NotImplementedError, WebSocketException):
        return None
    raise AssertionError("the end was fed")


def _refusal_seeds() -> Iterator[bytes]:
    for header in (b"Retry-After: 10", b"Retry-After: Sat, 21 Nov 2026 12:00:00 GMT", b"Allow: GET"):
        yield b"HTTP/1.1 503 x\r\n" + header + b'\r\n\r\n{"code": "overloaded", "message": "later"}'
    yield b"HTTP/1.1 503 x\r\n\r\n<html>"


refusal = Target(
    _feed_refusal,
    (),
    _refusal_seeds,
    (b"\r\nRetry-After: ", b"9" * 400, b'"code":null', b'{"x":' + DEEP, b"\xff"),
)
