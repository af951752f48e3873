"""``captions.v1`` of rooms on the wire to and from the messages of ``core``; the schema: ``room_schema``."""

from typing import assert_never

import msgspec

from stream_server.core.room_messages import (
    Joined,
    Read,
    ReaderAlive,
    ReaderMessage,
    RoomEvent,
    RoomFinal,
    RoomPartial,
    RoomUtterance,
    Source,
    SourceJoined,
    SourceLeft,
)
from stream_server.dialects import room_schema, schema
from stream_server.dialects.native import given, read_text, seconds
from stream_server.errors import ProtocolViolation, StreamError

_decoder = msgspec.json.Decoder(room_schema.ReaderText)
_encoder = msgspec.json.Encoder()


def decode_reader(data: str | bytes) -> ReaderMessage:
    """Read one WebSocket message of a reader.

    Raises:
        BadMessage: Text that is not JSON, or cannot be UTF-8.
        ProtocolViolation: Audio, an unknown type or field, or a value that is not allowed.
        TooLarge: More than ``MESSAGE_BYTES_MAX`` bytes.
    """
    if isinstance(data, bytes):
        raise ProtocolViolation("a reader sends no audio; streams go to " + schema.PATH)
    message = read_text(data, _decoder)
    match message:
        case room_schema.ReadMessage():
            return _read(message)
        case schema.KeepAliveMessage():
            return ReaderAlive()
        case _:
            assert_never(message)


def _read(message: room_schema.ReadMessage) -> Read:
    if (message.life is None) != (message.after is None):
        raise ProtocolViolation("read.life and read.after belong together: give both, or neither")
    for name in ("after", "recent"):
        value = getattr(message, name)
        if value is not None and value < 0:
            raise ProtocolViolation(f"read.{name} must not be negative")
    return Read(message.life, message.after or 0, message.recent, message.token)


def encode_room(event: RoomEvent) -> bytes:
    """Write one event; the bytes are the same for every reader."""
    return _encoder.encode(_to_wire(event))


def encode_room_error(error: StreamError) -> bytes:
    """Write the last event of a reader that is turned away."""
    return _encoder.encode(room_schema.RoomErrorEvent(code=error.code, message=str(error)))


def _to_wire(event: RoomEvent) -> room_schema.RoomText:
    match event:
        case Joined():
            return _joined(event)
        case SourceJoined(number, source, unix_s):
            return room_schema.SourceJoinedEvent(
                event=number, source=source.id, speaker=source.speaker, time=_time(unix_s)
            )
        case SourceLeft(number, source, unix_s):
            return room_schema.SourceLeftEvent(
                event=number, source=source.id, speaker=source.speaker, time=_time(unix_s)
            )
        case RoomPartial():
            return _partial(event)
        case RoomFinal():
            return _final(event)
        case RoomUtterance():
            return _utterance(event)
        case _:
            assert_never(event)


def _joined(event: Joined) -> room_schema.JoinedEvent:
    return room_schema.JoinedEvent(
        room=event.room,
        life=event.life,
        gap=event.gap,
        first=event.first,
        last=event.last,
        sources=[_source(source) for source in event.sources],
    )


def _source(source: Source) -> room_schema.SourceObject:
    return room_schema.SourceObject(source=source.id, speaker=source.speaker)


def _partial(event: RoomPartial) -> room_schema.RoomPartialEvent:
    return room_schema.RoomPartialEvent(
        source=event.source.id,
        segment=event.segment,
        revision=event.revision,
        start=seconds(event.start),
        end=seconds(event.end),
        text=event.text,
        stable=event.stable,
        model=given(event.model),
    )


def _final(event: RoomFinal) -> room_schema.RoomFinalEvent:
    return room_schema.RoomFinalEvent(
        event=event.number,
        source=event.source.id,
        speaker=event.source.speaker,
        segment=event.segment,
        start=seconds(event.start),
        end=seconds(event.end),
        text=event.text,
        language=event.language,
        utterance_end=event.utterance_end,
        time=_time(event.unix_s),
        model=given(event.model),
    )


def _utterance(event: RoomUtterance) -> room_schema.RoomUtteranceEvent:
    return room_schema.RoomUtteranceEvent(
        event=event.number,
        source=event.source.id,
        speaker=event.source.speaker,
        first_segment=event.first_segment,
        last_segment=event.last_segment,
        start=seconds(event.start),
        end=seconds(event.end),
        text=event.text,
        language=event.language,
        time=_time(event.unix_s),
        model=given(event.model),
    )


def _time(unix_s: float) -> float:
    return round(unix_s, 3)
