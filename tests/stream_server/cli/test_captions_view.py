import io
import json

import pytest
from rich.console import Console

from stream_server.cli.captions_view import (
    JsonView,
    LinesView,
    SpeechSeen,
    TerminalView,
    TranscriptView,
    clock_time,
    partial_row,
    printable,
    span,
)
from stream_server.client import (
    FinalEvent,
    FinishedEvent,
    LagEvent,
    PartialEvent,
    SpeechStartedEvent,
    TranscriptObject,
    UtteranceEvent,
)


def final(text: str, start: float = 1.2, end: float = 3.8) -> FinalEvent:
    return FinalEvent(
        seq=1, event=1, segment=0, start=start, end=end, text=text, language=None, utterance_end=True
    )


def utterance(text: str) -> UtteranceEvent:
    """Of the finals ``final`` makes."""
    return UtteranceEvent(
        seq=1, event=1, first_segment=0, last_segment=1, start=1.2, end=9.0, text=text, language=None
    )


def partial(text: str, end: float = 2.0, stable: int = 0) -> PartialEvent:
    return PartialEvent(seq=1, segment=0, revision=0, start=1.2, end=end, text=text, stable=stable)


def terminal(width: int = 60) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=width, color_system="standard", highlight=False
    )
    return console, written


def plain() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=20), written


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "00:00.0"), (1.25, "00:01.2"), (59.96, "01:00.0"), (3599.94, "59:59.9"), (3661.5, "1:01:01.5")],
)
def test_times_are_minutes_and_seconds_and_hours_when_there_are_any(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown


def test_a_span_shows_both_ends() -> None:
    assert span(1.2, 3.8) == "[00:01.2 → 00:03.8]"


def test_text_cannot_move_the_cursor_and_keeps_its_length() -> None:
    assert printable("a\x1b[2Jb\r\nc é 字") == "a [2Jb  c é 字"


def test_plain_lines_are_whole_finals_and_no_partials_unless_asked() -> None:
    console, written = plain()
    with LinesView(console, partials=False) as view:
        view.show(SpeechStartedEvent(seq=1, event=1, at=1.2))
        view.show(partial("Good"))
        view.show(final(" Good [bold]morning to everybody here.\n"))
        view.show(final(""))
    assert written.getvalue() == "[00:01.2 → 00:03.8] Good [bold]morning to everybody here.\n"


def test_plain_partials_come_about_once_a_second_of_speech() -> None:
    console, written = plain()
    with LinesView(console, partials=True) as view:
        for tenths in range(10, 32, 2):
            view.show(partial(f"t{tenths}", end=tenths / 10))
    assert written.getvalue().split() == ["…", "t10", "…", "t20", "…", "t30"]


def test_json_lines_are_the_events_and_their_file() -> None:
    lines: list[str] = []
    view = JsonView(lines.append, "talk.wav", partials=False)
    with view:
        view.show(partial("Good"))
        view.show(final("Good morning."))
    assert [json.loads(line) for line in lines] == [
        {
            "file": "talk.wav",
            "type": "final",
            "seq": 1,
            "event": 1,
            "segment": 0,
            "start": 1.2,
            "end": 3.8,
            "text": "Good morning.",
            "language": None,
            "words": None,
            "utterance_end": True,
        }
    ]


def test_json_partials_are_written_when_asked_for() -> None:
    lines: list[str] = []
    JsonView(lines.append, "talk.wav", partials=True).show(partial("Good", stable=4))
    assert json.loads(lines[0])["stable"] == 4


def test_a_partial_is_dim_from_where_it_may_still_change() -> None:
    console, written = terminal()
    console.print(partial_row(partial("We need to chuck", stable=10)))
    stable, _, rest = written.getvalue().partition("We need to")
    assert "We need to" not in stable
    assert rest.startswith("\x1b[2;3m chuck\x1b[0m")


def test_in_a_terminal_the_partial_changes_in_place_and_only_finals_stay() -> None:
    console, written = terminal()
    with TerminalView(console) as view:
        view.show(SpeechStartedEvent(seq=1, event=1, at=1.2))
        view.show(partial("Good mor", stable=4))
        view.show(LagEvent(seq=2, behind=12.3))
        view.show(final("Good morning."))
        view.show(final(" "))
        view.show(partial("Who", end=5.0))
    shown = screen(written.getvalue())
    assert [line.rstrip() for line in shown if line.strip()] == ["[00:01.2 → 00:03.8]  Good morning."]
    assert "12 s behind" in written.getvalue()


def test_long_captions_wrap_beside_their_time() -> None:
    console, written = terminal(width=40)
    with TerminalView(console) as view:
        view.show(final("one two three four five six seven"))
    lines = [line.rstrip() for line in screen(written.getvalue()) if line.strip()]
    assert len(lines) == 2
    assert lines[1].startswith(" " * 21)


def screen(written: str) -> list[str]:
    """What a terminal shows after these bytes: just enough of one for what rich.Live sends."""
    lines, row, at = [""], 0, 0
    while at < len(written):
        if written.startswith("\x1b[", at):
            end = next(index for index in range(at + 2, len(written)) if written[index].isalpha())
            count, command = written[at + 2 : end], written[end]
            if command == "A":
                row -= int(count or 1)
            elif command == "K":
                lines[row] = ""
            at = end + 1
            continue
        if written[at] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif written[at] != "\r":
            lines[row] += written[at]
        at += 1
    return lines


def test_whether_anything_was_said_is_remembered() -> None:
    console, written = plain()
    seen = SpeechSeen(LinesView(console, partials=False))
    seen.show(final(" "))
    assert not seen.has_text
    seen.show(final("Hello."))
    seen.show(FinishedEvent(seq=3, event=3, audio_seconds=4.0, segments=2))
    assert seen.has_text
    assert "Hello." in written.getvalue()


def test_an_utterance_read_once_more_is_a_line_of_its_own_where_it_says_anything_else() -> None:
    console, written = plain()
    with LinesView(console, partials=False) as view:
        view.show(final("Good morning."))
        view.show(utterance("Good morning."))
        view.show(utterance("Good\x1b morning, all."))
    assert (
        written.getvalue() == "[00:01.2 → 00:03.8] Good morning.\n[00:01.2 → 00:09.0] ↻ Good  morning, all.\n"
    )


def test_a_terminal_marks_an_utterance_read_once_more() -> None:
    console, written = terminal()
    with TerminalView(console) as view:
        view.show(final("Good morning."))
        view.show(utterance("Good morning."))
        assert "↻" not in written.getvalue()
        view.show(utterance("Good morning, all."))
    assert "Good morning, all." in written.getvalue().split("↻")[1]


def test_a_transcript_is_the_text_alone_at_the_end() -> None:
    console, written = plain()
    with TranscriptView(console) as view:
        view.show(final("Good."))
        assert written.getvalue() == ""
        transcript = TranscriptObject(text="Good morning [bold]everybody.\nYes\x1b.", first_segment=0)
        view.show(FinishedEvent(seq=1, event=9, audio_seconds=3.0, segments=2, transcript=transcript))
    assert written.getvalue() == "Good morning [bold]everybody.\nYes .\n"
