"""``captions.v1`` on the wire to and from the messages of ``core``; the schema is ``schema.py``."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar, assert_never

import msgspec

from stream_server.audio.decoder import SAMPLE_RATE_HZ, AudioFormat, Encoding
from stream_server.core.endpointing import Endpointing
from stream_server.core.hops import Budget
from stream_server.core.messages import (
    Ack,
    Audio,
    BeamSearch,
    ClientMessage,
    Durable,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    KeepAlive,
    Lag,
    Numbered,
    Partial,
    Resume,
    Resumed,
    SessionId,
    SpeechStarted,
    Start,
    Started,
    Task,
    Tier,
    Transcript,
    Utterance,
    Warned,
    Word,
)
from stream_server.core.room_messages import (
    ROOM_RULE,
    SPEAKER_LENGTH_MAX,
    is_room_name,
    is_speaker_name,
)
from stream_server.dialects import schema
from stream_server.errors import BadMessage, NotSupported, ProtocolViolation, TooLarge, UnsupportedAudio

COMPLAINT_MAX = 200
"""Characters of a schema error that are told: it quotes names the client chose."""

M = TypeVar("M")

_decoder = msgspec.json.Decoder(schema.ClientText)
_encoder = msgspec.json.Encoder()


def decode_client(data: str | bytes) -> ClientMessage | Resume:
    """Read one WebSocket message of a client.

    Raises:
        BadMessage: Text that is not JSON, or cannot be UTF-8; a value out of its bounds.
        ProtocolViolation: An unknown type or field, or a value of the wrong type.
        UnsupportedAudio: An encoding, rate or number of channels that is not read.
        NotSupported: A reserved field, or an unknown preset.
        TooLarge: More than ``MESSAGE_BYTES_MAX`` bytes.
    """
    if isinstance(data, str):
        return _to_core(read_text(data, _decoder))
    _check_size(len(data))
    return Audio(data)


def read_text(text: str, decoder: msgspec.json.Decoder[M]) -> M:
    """Read one text message by a schema.

    Raises:
        BadMessage: Not JSON, or cannot be UTF-8.
        ProtocolViolation: An unknown type or field, or a value of the wrong type.
        TooLarge: More than ``MESSAGE_BYTES_MAX`` bytes.
    """
    _check_size(_utf8_bytes(text))
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise ProtocolViolation(
            f"{str(exc)[:COMPLAINT_MAX]}; see docs/protocol.md for the fields of each type"
        ) from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BadMessage("a text message must be one JSON object") from exc


def _check_size(n_bytes: int) -> None:
    if n_bytes > schema.MESSAGE_BYTES_MAX:
        raise TooLarge(f"a message may have {schema.MESSAGE_BYTES_MAX} bytes, this one has {n_bytes}")


def _utf8_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as exc:
        raise BadMessage("a text message must be UTF-8") from exc


def _to_core(message: schema.ClientText) -> ClientMessage | Resume:
    match message:
        case schema.StartMessage():
            return _start(message)
        case schema.FlushMessage():
            return Flush()
        case schema.FinishMessage():
            return Finish()
        case schema.KeepAliveMessage():
            return KeepAlive()
        case schema.ResumeMessage():
            return Resume(SessionId(message.session), message.event)
        case _:
            assert_never(message)


def _start(message: schema.StartMessage) -> Start:
    for name in ("hotwords", "prompt"):
        if getattr(message, name) is not None:
            raise NotSupported(f"start.{name} is reserved and not offered by this server; leave it out")
    audio = AudioFormat(
        _member(Encoding, message.encoding, "encoding"), message.sample_rate, message.channels
    )
    try:
        task = Task(message.task)
    except ValueError as exc:
        raise ProtocolViolation("start.task must be transcribe or translate") from exc
    if message.tier not in (Tier.LIVE, Tier.FILES):
        raise ProtocolViolation("start.tier must be live or files")
    _check_names(message)
    return Start(
        audio=audio,
        language=message.language,
        task=task,
        partials=message.partials,
        tentative=message.tentative,
        trace=message.trace,
        room=message.room,
        speaker=message.speaker,
        endpointing=_endpointing(message.endpointing),
        words=message.words,
        context=message.context,
        beam=_beam(message.beam),
        tier=Tier(message.tier),
        revise=message.revise,
        transcript=message.transcript,
    )


def _check_names(message: schema.StartMessage) -> None:
    if message.room is not None and not is_room_name(message.room):
        raise ProtocolViolation(f"start.room: {ROOM_RULE}")
    if message.speaker is None:
        return
    if message.room is None:
        raise ProtocolViolation("start.speaker is the name shown in a room; give start.room too")
    if not is_speaker_name(message.speaker):
        raise ProtocolViolation(
            f"start.speaker must be 1 to {SPEAKER_LENGTH_MAX} printable characters without spaces around them"
        )


def _endpointing(wanted: schema.EndpointingObject | None) -> Endpointing | None:
    return None if wanted is None else Endpointing(**msgspec.structs.asdict(wanted))


def _beam(wanted: schema.BeamObject | None) -> BeamSearch | None:
    try:
        return None if wanted is None else BeamSearch(**msgspec.structs.asdict(wanted))
    except ValueError as exc:
        raise ProtocolViolation(f"start.beam: {exc}") from exc


def _member(encodings: type[Encoding], value: str, name: str) -> Encoding:
    try:
        return encodings(value)
    except ValueError as exc:
        known = ", ".join(encoding.value for encoding in encodings)
        raise UnsupportedAudio(f"start.{name} must be one of {known}") from exc


def encode_server(numbered: Numbered, seq: int, trace: Budget | None = None) -> str:
    """Write one event.

    Args:
        numbered: The event, and its durable number when it has one.
        seq: The connection's next sequence number.
        trace: Where the time of a partial or final went, when the client asked for it.
    """
    return _encoder.encode(_to_wire(numbered, seq, trace)).decode()


def _to_wire(numbered: Numbered, seq: int, trace: Budget | None) -> schema.ServerText:
    event = numbered.event
    match event:
        case Partial():
            return schema.PartialEvent(
                seq=seq,
                segment=event.segment,
                revision=event.revision,
                start=seconds(event.start),
                end=seconds(event.end),
                text=event.text,
                stable=event.stable,
                model=given(event.model),
                trace=_trace(trace),
            )
        case Lag():
            return schema.LagEvent(seq=seq, behind=seconds(event.behind))
        case Warned():
            return schema.WarningEvent(seq=seq, code=event.code, message=event.message)
        case Ack():
            return schema.AckEvent(seq=seq, samples=event.samples)
        case Resumed():
            return schema.ResumedEvent(
                seq=seq,
                session=event.session,
                samples=event.samples,
                flushes=event.flushes,
                closing=event.closing,
            )
        case _:
            assert numbered.number is not None, "durable events are numbered by the session"
            return _durable_to_wire(event, seq, numbered.number, trace)


def _durable_to_wire(event: Durable, seq: int, number: int, trace: Budget | None) -> schema.ServerText:
    match event:
        case Started():
            return _started(event, seq, number)
        case SpeechStarted():
            return schema.SpeechStartedEvent(seq=seq, event=number, at=seconds(event.at))
        case Final():
            return schema.FinalEvent(
                seq=seq,
                event=number,
                segment=event.segment,
                start=seconds(event.start),
                end=seconds(event.end),
                text=event.text,
                language=event.language,
                words=_words(event.words),
                utterance_end=event.utterance_end,
                model=given(event.model),
                trace=_trace(trace),
            )
        case Utterance():
            return _utterance(event, seq, number)
        case Flushed():
            return schema.FlushedEvent(seq=seq, event=number)
        case Finished():
            return schema.FinishedEvent(
                seq=seq,
                event=number,
                audio_seconds=seconds(event.samples),
                segments=event.segments,
                transcript=_transcript(event.transcript),
            )
        case Failed():
            return schema.ErrorEvent(seq=seq, event=number, code=event.error.code, message=str(event.error))
        case _:
            assert_never(event)


def _started(event: Started, seq: int, number: int) -> schema.StartedEvent:
    limits = schema.LimitsObject(
        message_bytes=event.limits.message_bytes,
        idle_seconds=event.limits.idle_s,
        ahead_seconds=event.limits.ahead_s,
        resume_seconds=event.limits.resume_s,
    )
    return schema.StartedEvent(
        seq=seq,
        event=number,
        session=event.session,
        model=event.model,
        limits=limits,
        features=list(event.features),
    )


def _utterance(event: Utterance, seq: int, number: int) -> schema.UtteranceEvent:
    return schema.UtteranceEvent(
        seq=seq,
        event=number,
        first_segment=event.first_segment,
        last_segment=event.last_segment,
        start=seconds(event.start),
        end=seconds(event.end),
        text=event.text,
        language=event.language,
        words=_words(event.words),
        model=given(event.model),
    )


def _transcript(transcript: Transcript | None) -> schema.TranscriptObject | msgspec.UnsetType:
    """Left out unless the client asked."""
    if transcript is None:
        return msgspec.UNSET
    return schema.TranscriptObject(text=transcript.text, first_segment=transcript.first_segment)


def _words(words: Sequence[Word] | None) -> list[schema.WordObject] | None:
    if words is None:
        return None
    return [
        schema.WordObject(text=word.text, start=seconds(word.start), end=seconds(word.end)) for word in words
    ]


def given(text: str | None) -> str | msgspec.UnsetType:
    """Left out where there is none."""
    return msgspec.UNSET if text is None else text


def _trace(budget: Budget | None) -> schema.TraceObject | msgspec.UnsetType:
    """Times to a tenth of a millisecond; left out unless the client asked."""
    if budget is None:
        return msgspec.UNSET
    return schema.TraceObject(**{name: round(value, 4) for name, value in asdict(budget).items()})


def seconds(samples: int) -> float:
    """Sample position as the seconds of the protocol, three decimals."""
    return round(samples / SAMPLE_RATE_HZ, 3)
