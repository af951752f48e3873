import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.ops.log import (
    REPEATS_MAX,
    JsonFormatter,
    RepeatFilter,
    TextFormatter,
    fields,
    set_up_logging,
)


def record(message: str, *args: object, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("stream_server.x", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_700_000_000.123456
    made.__dict__.update(fields(**values) if values else {})
    return made


def with_traceback(made: logging.LogRecord) -> logging.LogRecord:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_a_record_is_one_json_object_with_its_fields_beside_the_event() -> None:
    line = JsonFormatter().format(record("session_opened", session="ab", code=1000))
    assert json.loads(line) == {
        "ts": 1_700_000_000.123,
        "level": "info",
        "event": "session_opened",
        "logger": "stream_server.x",
        "session": "ab",
        "code": 1000,
    }


def test_a_field_json_does_not_know_is_written_as_its_text() -> None:
    assert json.loads(JsonFormatter().format(record("x", error=OSError("gone"))))["error"] == "gone"


def test_a_traceback_stays_on_the_records_line() -> None:
    line = JsonFormatter().format(with_traceback(record("x")))
    assert len(line.splitlines()) == 1
    assert "ValueError: line one\nline two" in json.loads(line)["traceback"]


@given(st.text(), st.text())
def test_no_input_makes_a_second_line_or_reaches_a_terminal(message: str, value: str) -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record("%s", message, value=value))
        assert len(line.splitlines()) == 1
        assert line.isprintable()


@given(st.text(), st.text())
def test_json_lines_lose_nothing(message: str, value: str) -> None:
    line = json.loads(JsonFormatter().format(record("%s", message, value=value)))
    assert (line["event"], line["value"]) == (message, value)


def test_text_is_time_level_event_and_fields() -> None:
    line = TextFormatter().format(record("session_opened", session="ab", code=1000))
    assert line[8:] == " info    session_opened session=ab code=1000"
    assert TextFormatter().format(record("stopping"))[8:] == " info    stopping"


def test_text_shows_a_traceback_below() -> None:
    assert "ValueError: line one" in TextFormatter().format(with_traceback(record("x")))


@pytest.fixture
def root_logger() -> object:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    state = root.handlers[:], root.level
    yield root
    root.handlers[:], _ = state
    root.setLevel(state[1])
    for name in ("websockets", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize(("style", "kind"), [("json", JsonFormatter), ("text", TextFormatter)])
def test_logs_go_to_standard_error_in_the_style_asked_for(
    style: str, kind: type, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("warning", style)
    logging.getLogger("stream_server.y").info("hidden")
    logging.getLogger("stream_server.y").warning("shown", extra=fields(code=7))
    assert isinstance(root_logger.handlers[0].formatter, kind)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "shown" in captured.err
    assert "hidden" not in captured.err


def test_what_clients_say_is_not_logged_by_websockets_even_at_debug(root_logger: logging.Logger) -> None:
    set_up_logging("debug", "json")
    assert not logging.getLogger("websockets.server").isEnabledFor(logging.INFO)
    assert logging.getLogger("stream_server").isEnabledFor(logging.DEBUG)


def warned(
    event: str, created_s: float, *, level: int = logging.WARNING, **told: object
) -> logging.LogRecord:
    """A record as a call site makes it."""
    record = logging.LogRecord("test", level, "file", 1, event, None, None)
    record.created = created_s
    vars(record).update(fields(**told))
    return record


def test_a_flood_of_one_kind_becomes_some_lines_a_minute_and_says_how_many_were_left_out() -> None:
    repeats = RepeatFilter()
    first = [repeats.filter(warned("refused", i / 1_000, reason="reset")) for i in range(1_000)]
    assert sum(first) == REPEATS_MAX
    assert all(first[:REPEATS_MAX])
    again = warned("refused", 61.0, reason="reset", address="10.0.0.7")
    assert repeats.filter(again)
    line = json.loads(JsonFormatter().format(again))
    assert (line["suppressed"], line["address"]) == (1_000 - REPEATS_MAX, "10.0.0.7")
    later = warned("refused", 122.0, reason="reset")
    assert repeats.filter(later)
    assert "suppressed" not in json.loads(JsonFormatter().format(later))


def test_other_kinds_are_written_during_a_flood_and_so_is_all_that_is_no_warning() -> None:
    repeats = RepeatFilter()
    for i in range(100):
        repeats.filter(warned("refused", i / 1_000, reason="reset"))
    assert repeats.filter(warned("refused", 0.2, reason="expired"))
    assert repeats.filter(warned("session_failed", 0.2, level=logging.ERROR))
    assert all(repeats.filter(warned("session_opened", 0.2, level=logging.INFO)) for _ in range(100))
