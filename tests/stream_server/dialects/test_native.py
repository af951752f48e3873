"""``captions.v1`` on the wire, by golden vectors that other languages' tests read too."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_server import errors
from stream_server.audio.decoder import AudioFormat, Encoding
from stream_server.core import messages
from stream_server.core.hops import Budget
from stream_server.core.messages import (
    Audio,
    ClientMessage,
    Failed,
    Limits,
    Numbered,
    Resume,
    ServerEvent,
    SessionId,
    Start,
    Started,
    Tier,
    Transient,
)
from stream_server.dialects import native, schema
from stream_server.errors import (
    BadMessage,
    NotSupported,
    ProtocolViolation,
    StreamError,
    TooLarge,
    UnsupportedAudio,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "captions_v1"
CLIENT = json.loads((VECTORS / "client.json").read_text(encoding="utf-8"))
SERVER = json.loads((VECTORS / "server.json").read_text(encoding="utf-8"))
ERRORS = {error.code: error for error in StreamError.__subclasses__()}


def named(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def meaning(message: ClientMessage | Resume) -> dict[str, object]:
    """A client's message as the vectors write it."""
    if isinstance(message, Resume):
        return {"kind": "resume", "session": message.session, "event": message.event}
    if not isinstance(message, Start):
        return {"kind": type(message).__name__.lower()}
    return {
        "kind": "start",
        "encoding": message.audio.encoding.value,
        "sample_rate_hz": message.audio.sample_rate_hz,
        "channels": message.audio.channels,
        "language": message.language,
        "task": message.task.value,
        "partials": message.partials,
        **({"tentative": True} if message.tentative else {}),
        **({"trace": True} if message.trace else {}),
        **({"words": True} if message.words else {}),
        **({"revise": True} if message.revise else {}),
        **({"transcript": True} if message.transcript else {}),
        **({} if message.context is None else {"context": message.context}),
        **({} if message.beam is None else {"beam": dataclasses.asdict(message.beam)}),
        **({} if message.tier is Tier.LIVE else {"tier": message.tier.value}),
        "room": message.room,
        "speaker": message.speaker,
        "endpointing": None if message.endpointing is None else dataclasses.asdict(message.endpointing),
    }


def core_event(written: dict[str, Any]) -> ServerEvent:
    """An event of core from how the vectors write it."""
    values = {key: value for key, value in written.items() if key != "kind"}
    match written["kind"]:
        case "Started":
            limits = Limits(**values["limits"])
            return Started(SessionId(values["session"]), values["model"], limits, tuple(values["features"]))
        case "Failed":
            return Failed(ERRORS[values["code"]](values["message"]))
        case kind:
            if values.get("words") is not None:
                values["words"] = tuple(messages.Word(**word) for word in values["words"])
            if "transcript" in values:
                values["transcript"] = messages.Transcript(**values["transcript"])
            event: ServerEvent = getattr(messages, kind)(**values)
            return event


# ---------------------------------------------------------------- client → server


@named(CLIENT["valid"])
def test_a_valid_message_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert meaning(native.decode_client(vector["text"])) == vector["means"]


@named(CLIENT["invalid"])
def test_an_invalid_message_gets_the_vectors_error(vector: dict[str, Any]) -> None:
    with pytest.raises(StreamError) as caught:
        native.decode_client(vector["text"])
    assert caught.value.code == vector["code"]


def test_every_client_message_of_the_schema_has_a_vector() -> None:
    seen = {_tag(vector["text"]) for vector in CLIENT["valid"]}
    reserved = {_tag(vector["text"]) for vector in CLIENT["invalid"] if vector["code"] == "not_supported"}
    tags = {struct.__struct_config__.tag for struct in get_args(schema.ClientText)}
    assert tags == seen | reserved


def test_every_field_of_start_has_a_vector() -> None:
    texts = [json.loads(vector["text"]) for vector in CLIENT["valid"] if _tag(vector["text"]) == "start"]
    assert {key for text in texts for key in text} == {"type", *schema.StartMessage.__struct_fields__}


def _tag(text: str) -> str:
    return str(json.loads(text)["type"])


def test_binary_is_audio_as_it_is() -> None:
    assert native.decode_client(b"\x00\x01\x02") == Audio(b"\x00\x01\x02")
    assert native.decode_client(b"") == Audio(b"")


def test_a_message_may_have_64_kib_and_not_a_byte_more() -> None:
    assert native.decode_client(bytes(65_536)) == Audio(bytes(65_536))
    text = '{"type":"flush"}'
    assert native.decode_client(text + " " * (65_536 - len(text))) == messages.Flush()
    for data in (bytes(65_537), text + " " * 65_536, "é" * 32_769):
        with pytest.raises(TooLarge, match="65536 bytes, this one has"):
            native.decode_client(data)


def test_every_encoding_is_accepted() -> None:
    for encoding in Encoding:
        message = native.decode_client(json.dumps({"type": "start", "encoding": encoding.value}))
        assert message == Start(AudioFormat(encoding))


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ('{"type":"begin"}', ProtocolViolation, "'begin'"),
        ('{"type":"start","volume":3}', ProtocolViolation, "`volume`"),
        ('{"type":"start","sample_rate":"x"}', ProtocolViolation, "sample_rate"),
        ('{"type":"start","task":"sing"}', ProtocolViolation, "transcribe or translate"),
        ('{"type":"start","encoding":"opus"}', UnsupportedAudio, "pcm_s16le, pcm_f32le, mulaw, alaw"),
        ('{"type":"start","sample_rate":1}', UnsupportedAudio, "8000 to 48000"),
        ('{"type":"start","room":"X"}', ProtocolViolation, "start.room: a room's name is"),
        ('{"type":"start","speaker":"Anna"}', ProtocolViolation, "give start.room too"),
        ('{"type":"start","room":"x","speaker":" "}', ProtocolViolation, "start.speaker must be"),
        ('{"type":"start","endpointing":{"preset":"x"}}', NotSupported, "captions, dictation, telephone"),
        (
            '{"type":"start","endpointing":{"silence_ms":6}}',
            BadMessage,
            "endpointing.silence_ms must be between 64",
        ),
        ("{", BadMessage, "JSON"),
        ("\ud800", BadMessage, "UTF-8"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, error: type[StreamError], hint: str) -> None:
    with pytest.raises(error) as caught:
        native.decode_client(text)
    assert hint in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(
    [*schema.StartMessage.__struct_fields__, *schema.ResumeMessage.__struct_fields__, "x"]
)
likely = st.builds(
    lambda kind, rest: json.dumps({"type": kind, **rest}),
    st.sampled_from(["start", "flush", "finish", "keepalive", "resume", "x"]),
    st.dictionaries(
        fields, json_values | st.sampled_from(["mulaw", 8_000, 2, True, "translate"]), max_size=4
    ),
)
surrogates = st.text(st.characters(categories=["Cs", "L"]), max_size=5)


@settings(max_examples=500)
@given(st.binary(max_size=100) | st.text() | surrogates | json_values.map(json.dumps) | likely)
@example("[" * 60_000)
@example('{"type":"start","x":' + "[" * 30_000 + "]" * 30_000 + "}")
@example('{"a":' * 10_000)
@example('{"type":"start","sample_rate":' + "9" * 60_000 + "}")
@example('{"type":"start","sample_rate":-1e-999999}')
@example('{"type":"start","\\ud83d":1}')
@example('{"type":"start","\ud83d":1}')
@example("\x00")
@example(bytes(70_000))
def test_anything_is_a_message_or_a_documented_error_and_that_can_be_told(data: str | bytes) -> None:
    try:
        message = native.decode_client(data)
    except (BadMessage, ProtocolViolation, UnsupportedAudio, NotSupported, TooLarge) as error:
        json.loads(native.encode_server(Numbered(Failed(error), 1), 1))
    else:
        assert isinstance(message, (*get_args(ClientMessage), Resume))


# ---------------------------------------------------------------- server → client


@named(SERVER["sent"])
def test_an_event_is_written_exactly_as_the_vector_says(vector: dict[str, Any]) -> None:
    numbered = Numbered(core_event(vector["core"]), vector["event"])
    trace = Budget(**vector["trace"]) if "trace" in vector else None
    assert native.encode_server(numbered, vector["seq"], trace) == vector["text"]


@named(SERVER["sent"] + SERVER["later"])
def test_a_client_with_the_schema_reads_what_was_written(vector: dict[str, Any]) -> None:
    event = msgspec.json.decode(vector["text"], type=schema.ServerText)
    assert msgspec.json.encode(event).decode() == vector["text"]


def test_every_event_of_the_schema_and_of_core_has_a_vector() -> None:
    tags = {struct.__struct_config__.tag for struct in get_args(schema.ServerText)}
    assert tags == {_tag(vector["text"]) for vector in SERVER["sent"] + SERVER["later"]}
    kinds = {event.__name__ for event in get_args(ServerEvent)}
    assert kinds == {vector["core"]["kind"] for vector in SERVER["sent"]}


def test_durable_events_carry_their_number_and_the_others_none() -> None:
    for vector in SERVER["sent"]:
        written = json.loads(vector["text"])
        is_durable = vector["core"]["kind"] not in {event.__name__ for event in get_args(Transient)}
        assert written.get("event") == (vector["event"] if is_durable else None)
        assert written["seq"] == vector["seq"]


def test_a_durable_event_without_a_number_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="numbered"):
        native.encode_server(Numbered(messages.Flushed(), None), 1)


@pytest.mark.parametrize("error", StreamError.__subclasses__())
def test_every_error_is_told_by_its_code(error: type[StreamError]) -> None:
    written = json.loads(native.encode_server(Numbered(Failed(error("why")), 4), 9))
    assert written == {"type": "error", "seq": 9, "event": 4, "code": error.code, "message": "why"}


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [(0, 0.0), (8, 0.001), (7, 0.0), (16_000, 1.0), (512, 0.032), (16_001, 1.0), (1_382_400_000, 86_400.0)],
)
def test_seconds_have_three_decimals(samples: int, seconds: float) -> None:
    assert native.seconds(samples) == seconds


@given(st.integers(0, 10**10))
def test_seconds_are_true_to_half_a_millisecond(samples: int) -> None:
    assert abs(native.seconds(samples) - samples / 16_000) <= 0.0005 + 1e-9
    assert len(repr(native.seconds(samples)).partition(".")[2]) <= 3


@pytest.mark.parametrize("struct", get_args(schema.ClientText) + get_args(schema.ServerText))
def test_every_message_survives_the_wire(struct: type[msgspec.Struct]) -> None:
    side = schema.ClientText if struct in get_args(schema.ClientText) else schema.ServerText

    @settings(max_examples=20)
    @given(st.builds(struct, **_strategies(struct)))
    def check(message: msgspec.Struct) -> None:
        assert msgspec.json.decode(msgspec.json.encode(message), type=side) == message

    check()


def _strategies(struct: type[msgspec.Struct]) -> dict[str, st.SearchStrategy[Any]]:
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**53), 2**53),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: st.text(),
        schema.LimitsObject: st.builds(
            schema.LimitsObject,
            message_bytes=st.integers(0, 9),
            idle_seconds=st.floats(0, 9),
            ahead_seconds=st.floats(0, 9),
        ),
    }
    names = {field.name: field.type for field in msgspec.structs.fields(struct)}
    chosen = {}
    for name, kind in names.items():
        if kind in kinds:
            chosen[name] = kinds[kind]
        elif kind == schema.TraceObject | msgspec.UnsetType:
            hops = {name: st.floats(0, 9) for name in schema.TraceObject.__struct_fields__}
            chosen[name] = st.just(msgspec.UNSET) | st.builds(schema.TraceObject, **hops)
        elif kind == str | msgspec.UnsetType:
            chosen[name] = st.just(msgspec.UNSET) | st.text()
        elif kind == schema.TranscriptObject | msgspec.UnsetType:
            transcript = st.builds(schema.TranscriptObject, text=st.text(), first_segment=st.integers(0, 9))
            chosen[name] = st.just(msgspec.UNSET) | transcript
        elif kind == schema.EndpointingObject | None:
            chosen[name] = st.none() | st.builds(schema.EndpointingObject, preset=st.none() | st.text())
        elif kind == list[schema.WordObject] | None:
            word = st.builds(schema.WordObject, text=st.text(), start=st.floats(0, 9), end=st.floats(0, 9))
            chosen[name] = st.none() | st.lists(word, max_size=3)
        elif kind == bool | None:
            chosen[name] = st.none() | st.booleans()
        elif kind == str | None:
            chosen[name] = st.none() | st.text()
        elif kind in (list[str], list[str] | None):
            chosen[name] = st.lists(st.text(), max_size=3)
        else:
            chosen[name] = st.none()
    return chosen


def test_a_client_ignores_fields_it_does_not_know() -> None:
    text = '{"type":"flushed","seq":1,"event":1,"colour":"blue"}'
    assert msgspec.json.decode(text, type=schema.ServerText) == schema.FlushedEvent(seq=1, event=1)


# ---------------------------------------------------------------- errors


def test_every_stream_error_has_a_code_of_its_own_and_a_registered_close_code() -> None:
    codes = [error.code for error in StreamError.__subclasses__()]
    registered = {1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013}
    assert len(codes) == len(set(codes))
    assert {error.close_code for error in StreamError.__subclasses__()} <= registered


def test_the_tree_in_the_module_lists_every_error() -> None:
    tree = errors.__doc__ or ""
    for error in StreamError.__subclasses__():
        line = next(line for line in tree.splitlines() if f" {error.__name__} " in line)
        assert str(error.close_code) in line
