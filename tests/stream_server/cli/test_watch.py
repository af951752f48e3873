"""What ``watch`` shows of a room's events."""

import io
import json

import pytest
from msgspec import structs
from rich.console import Console
from rich.live import Live
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.cli.watch import JsonRoomView, LinesRoomView, TerminalRoomView
from stream_server.client import (
    Gap,
    JoinedEvent,
    RoomEvent,
    RoomFinalEvent,
    RoomPartialEvent,
    RoomUtteranceEvent,
    SourceJoinedEvent,
    SourceLeftEvent,
)
from stream_server.dialects.room_schema import SourceObject

JOINED = JoinedEvent(
    room="hall", life="0", gap=False, first=1, last=0, sources=[SourceObject(source="1", speaker="Anna")]
)
CAME = SourceJoinedEvent(event=1, source="2", speaker="Bo", time=0.0)
LEFT = SourceLeftEvent(event=4, source="2", speaker="Bo", time=0.0)


def final(text: str, source: str = "1", speaker: str = "Anna") -> RoomFinalEvent:
    return RoomFinalEvent(
        event=2,
        source=source,
        speaker=speaker,
        segment=0,
        start=0.0,
        end=1.0,
        text=text,
        language="en",
        utterance_end=True,
        time=0.0,
    )


def partial(text: str, source: str = "1") -> RoomPartialEvent:
    return RoomPartialEvent(source=source, segment=0, revision=1, start=0.0, end=1.0, text=text, stable=0)


def utterance(text: str, *, event: int = 5) -> RoomUtteranceEvent:
    return RoomUtteranceEvent(
        event=event,
        source="1",
        speaker="Anna",
        first_segment=0,
        last_segment=1,
        start=0.0,
        end=4.0,
        text=text,
        language="en",
        time=0.0,
    )


def lines(*events: RoomEvent) -> list[str]:
    out = io.StringIO()
    view = LinesRoomView(Console(file=out, width=40))
    for event in events:
        view.show(event)
    return [line.partition(" ")[2] for line in out.getvalue().splitlines()]


def test_a_pipe_gets_one_line_for_each_final_with_its_speaker() -> None:
    long = "word " * 20
    assert lines(JOINED, CAME, partial("no"), final(" hello\x1b[2J "), final(""), final(long), LEFT) == [
        "Bo has come",
        "Anna: hello [2J",
        f"Anna: {long.strip()}",
        "Bo has left",
    ]
    assert "missing" in lines(Gap())[0]


def terminal(*events: RoomEvent) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, height=20)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        view = TerminalRoomView(console, live)
        for event in events:
            view.show(event)
        shown = "".join(segment.text for segment in console.render(live.get_renderable()))
    return shown


def test_a_terminal_shows_what_each_speaker_is_saying() -> None:
    shown = terminal(JOINED, CAME, partial("good mor"), partial("and I", source="2"))
    assert "Anna: good mor" in shown
    assert "Bo: and I" in shown


@pytest.mark.parametrize("end", [final("good morning"), JOINED])
def test_what_is_over_is_no_longer_open(end: RoomEvent) -> None:
    assert "good mor" not in terminal(JOINED, partial("good mor"), end)


def test_who_has_left_says_nothing_more() -> None:
    assert "and I" not in terminal(JOINED, CAME, partial("and I", source="2"), LEFT)


def test_json_is_the_event_as_the_server_sent_it(capsys: pytest.CaptureFixture[str]) -> None:
    for event in (Gap(), JOINED, final("hello")):
        JsonRoomView().show(event)
    joined, said = map(json.loads, capsys.readouterr().out.splitlines())
    assert (joined["type"], joined["sources"]) == ("joined", [{"source": "1", "speaker": "Anna"}])
    assert (said["type"], said["text"]) == ("final", "hello")


def test_a_name_that_no_room_has_is_told_at_once() -> None:
    result = CliRunner().invoke(app, ["watch", "Board 1"])
    assert result.exit_code == 2
    assert "a-z 0-9 -" in result.output


def test_an_utterance_read_once_more_is_a_line_only_if_it_says_anything_else() -> None:
    said = [JOINED, final("good mourning"), utterance("good mourning"), utterance("good\x1b morning")]
    assert lines(*said) == ["Anna: good mourning", "Anna: ↻ good  morning"]


def test_who_comes_late_sees_each_utterance_once() -> None:
    first = structs.replace(final("good"), event=1)
    second = structs.replace(final("mourning"), event=2, segment=1)
    bo = structs.replace(final("yes", source="2", speaker="Bo"), event=3)
    late = structs.replace(JOINED, first=1, last=4)
    live = structs.replace(final("so"), event=5, segment=2)
    told = [late, first, second, bo, utterance("good morning", event=4), live]
    assert lines(*told[:-2]) == []
    assert lines(*told) == ["Anna: good morning", "Bo: yes", "Anna: so"]


def test_a_past_that_breaks_off_is_shown_when_the_reader_is_back() -> None:
    cut = [structs.replace(JOINED, first=1, last=9), structs.replace(final("one"), event=1)]
    back = [structs.replace(JOINED, first=2, last=2), structs.replace(final("two"), event=2, segment=1)]
    assert lines(*cut, *back) == ["Anna: one", "Anna: two"]
