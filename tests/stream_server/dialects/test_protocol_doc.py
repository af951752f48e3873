"""docs/protocol.md says what the schema says, and its examples keep to it."""

import importlib.machinery
import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import msgspec
import pytest

from stream_server.config import Config, EngineSection
from stream_server.core.captions import SegmentCaption
from stream_server.core.messages import Finish, KeepAlive, Start
from stream_server.core.room_messages import Read
from stream_server.dialects import native, room_schema, schema
from stream_server.dialects.room_wire import decode_reader
from stream_server.errors import StreamError
from vad.config import PRESETS

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(
        "write_protocol_doc", str(ROOT / "tools" / "write-protocol-doc")
    )
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def example(name: str) -> str:
    """The code block behind an example's marker."""
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.+?)```", DOCUMENT, re.DOTALL)
    assert found
    return found[1]


def test_the_tables_are_those_of_the_schema(tool: ModuleType) -> None:
    assert tool.main(["--check"]) == 0, "run tools/write-protocol-doc"


def test_a_stale_document_is_told_and_written_anew(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "protocol.md"
    copy.write_text(DOCUMENT.replace("1007", "1234"), encoding="utf-8")
    monkeypatch.setattr(tool, "DOCUMENT", copy)
    assert tool.main(["--check"]) == 1
    assert "run tools/write-protocol-doc" in capsys.readouterr().err
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0


def test_every_message_field_and_error_is_in_the_document() -> None:
    streams = [*get_args(schema.ClientText), *get_args(schema.ServerText)]
    rooms = [*get_args(room_schema.ReaderText), *get_args(room_schema.RoomText)]
    objects = (
        schema.EndpointingObject,
        schema.LimitsObject,
        room_schema.SourceObject,
        schema.WordObject,
        schema.TranscriptObject,
    )
    for struct in (*streams, *rooms, *objects):
        for field in msgspec.structs.fields(struct):
            assert f"| `{field.name}` |" in DOCUMENT
    for structs, level in ((streams, "###"), (rooms, "####")):
        for struct in structs:
            assert f"\n{level} `{struct.__struct_config__.tag}`\n" in DOCUMENT
    for error in StreamError.__subclasses__():
        assert f"| `{error.code}` | {error.close_code} |" in DOCUMENT
    assert schema.SUBPROTOCOL in DOCUMENT
    assert schema.PATH in DOCUMENT


def test_the_example_session_is_one_that_the_server_could_have() -> None:
    lines = example("session").splitlines()
    said = [line[2:] for line in lines if line.startswith("→ {")]
    heard = [line[2:] for line in lines if line.startswith("← {")]
    assert [type(native.decode_client(text)) for text in said] == [Start, KeepAlive, Finish]
    events = [msgspec.json.decode(text, type=schema.ServerText) for text in heard]
    assert [msgspec.json.encode(event).decode() for event in events] == heard
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    durable = [event for event in events if isinstance(event, schema.DurableStruct)]
    assert [event.event for event in durable] == list(range(1, len(durable) + 1))
    caption = SegmentCaption(EngineSection().sure_word)
    for event in events:
        if isinstance(event, schema.PartialEvent):
            assert (event.text, event.stable) == caption.update(event.text, [1.0] * len(event.text))
            assert event.revision == caption.revision
    finals = [event for event in events if isinstance(event, schema.FinalEvent)]
    assert [final.segment for final in finals] == list(range(len(finals)))
    assert all(one.end <= other.start for one, other in itertools.pairwise(finals))
    assert lines[-1] == "← close 1000"


def test_the_example_reader_reads_what_a_room_could_say() -> None:
    lines = example("reader").splitlines()
    assert isinstance(decode_reader(lines[0][2:]), Read)
    events = [msgspec.json.decode(line[2:], type=room_schema.RoomText) for line in lines[1:]]
    assert [msgspec.json.encode(event).decode() for event in events] == [line[2:] for line in lines[1:]]
    joined = events[0]
    assert isinstance(joined, room_schema.JoinedEvent)
    durable = [event for event in events if isinstance(event, room_schema.RoomDurableStruct)]
    assert [event.event for event in durable] == list(range(joined.first, joined.first + len(durable)))


def test_the_example_client_knows_nothing_of_the_project() -> None:
    code = example("plain-client")
    compile(code, "plain-client", "exec")
    assert "stream_server" not in code
    assert len(code.splitlines()) < 45


def test_the_numbers_in_the_prose_are_the_defaults() -> None:
    limits, rooms = Config().limits, Config().rooms
    readers = f"may have {rooms.readers_per_identity} readers open and connect {rooms.connects_per_minute}"
    assert readers in " ".join(DOCUMENT.split())
    assert f"({rooms.history_events} events, 1 MiB and one" in DOCUMENT
    assert (rooms.history_bytes, rooms.history_s) == (1024 * 1024, 3600)
    assert f"forgotten {rooms.grace_s:g} s after the room's last source has left" in DOCUMENT
    assert f"leaves an event unread for {limits.unread_s:g} s" in DOCUMENT
    assert f"`limits.ahead_seconds` ({limits.ahead_s:g})" in DOCUMENT
    assert f"`limits.idle_seconds` ({limits.idle_s:g})" in DOCUMENT
    assert f"unread for {limits.unread_s:g} s, or more than {limits.unread_events} of them" in DOCUMENT
    assert f"({limits.sessions_per_identity} by default)" in DOCUMENT
    assert f"({limits.connects_per_minute} by default)" in DOCUMENT
    assert f"up to {schema.MESSAGE_BYTES_MAX // 1024} KiB" in DOCUMENT
    assert f"`limits.resume_seconds` ({limits.resume_s:g})" in DOCUMENT
    assert f"({limits.resumes_per_minute} by default in\n   a minute)" in DOCUMENT
    assert f"more than the {limits.replay_events} last ones" in DOCUMENT


def test_the_presets_in_the_document_are_those_there_are() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| (\d+) to (\d+) ms \| ([\d.]+) \|$", DOCUMENT, re.MULTILINE)
    assert {name: (float(a), float(b), float(c)) for name, a, b, c in rows} == {
        name: (config.pause_ms, config.pause_ms_min, config.enter_threshold)
        for name, config in PRESETS.items()
    }
