"""Rooms on the wire, by golden vectors that other languages' tests read too."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core import room_messages
from stream_server.core.room_messages import Read, ReaderMessage, RoomEvent, Source
from stream_server.dialects import room_schema
from stream_server.dialects.room_wire import decode_reader, encode_room, encode_room_error
from stream_server.errors import BadMessage, LinkExpired, ProtocolViolation, StreamError, TooLarge

VECTORS = Path(__file__).parents[2] / "vectors" / "captions_v1" / "rooms.json"
ROOMS = json.loads(VECTORS.read_text(encoding="utf-8"))


def named(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def meaning(message: ReaderMessage) -> dict[str, object]:
    """A reader's message as the vectors write it."""
    if not isinstance(message, Read):
        return {"kind": "keepalive"}
    return {
        "kind": "read",
        "life": message.life,
        "after": message.after,
        "recent": message.recent,
        "token": message.token,
    }


def core_event(written: dict[str, Any]) -> RoomEvent:
    """An event of core from how the vectors write it."""
    values = {key: value for key, value in written.items() if key != "kind"}
    if "source" in values:
        values["source"] = Source(**values["source"])
    if "sources" in values:
        values["sources"] = tuple(Source(**source) for source in values["sources"])
    event: RoomEvent = getattr(room_messages, written["kind"])(**values)
    return event


@named(ROOMS["valid"])
def test_a_valid_message_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert meaning(decode_reader(vector["text"])) == vector["means"]


@named(ROOMS["invalid"])
def test_an_invalid_message_gets_the_vectors_error(vector: dict[str, Any]) -> None:
    with pytest.raises(StreamError) as caught:
        decode_reader(vector["text"])
    assert caught.value.code == vector["code"]


@named(ROOMS["sent"])
def test_an_event_is_written_as_the_vector_says(vector: dict[str, Any]) -> None:
    assert encode_room(core_event(vector["core"])).decode() == vector["text"]
    msgspec.json.decode(vector["text"], type=room_schema.RoomText)


def test_every_message_of_the_schema_has_a_vector() -> None:
    said = {json.loads(vector["text"])["type"] for vector in ROOMS["valid"]}
    assert said == {struct.__struct_config__.tag for struct in get_args(room_schema.ReaderText)}
    sent = {json.loads(vector["text"])["type"] for vector in ROOMS["sent"]}
    assert sent | {"error"} == {struct.__struct_config__.tag for struct in get_args(room_schema.RoomText)}
    assert {vector["core"]["kind"] for vector in ROOMS["sent"]} == {
        event.__name__ for event in get_args(RoomEvent)
    }


def test_an_error_has_its_code_and_what_to_do() -> None:
    written = json.loads(encode_room_error(LinkExpired("the link is over")))
    assert written == {"type": "error", "code": "link_expired", "message": "the link is over"}


def test_a_reader_sends_no_audio() -> None:
    with pytest.raises(ProtocolViolation, match="no audio"):
        decode_reader(b"\x00\x00")


def test_a_message_may_have_64_kib_and_not_a_byte_more() -> None:
    text = '{"type":"keepalive"}'
    decode_reader(text + " " * (65_536 - len(text)))
    with pytest.raises(TooLarge):
        decode_reader(text + " " * 65_536)


@given(st.text() | st.binary())
def test_anything_is_a_message_or_a_documented_error(data: str | bytes) -> None:
    try:
        decode_reader(data)
    except (BadMessage, ProtocolViolation):
        pass
