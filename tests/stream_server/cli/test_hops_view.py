import io

from rich.console import Console

from stream_server.cli.hops_view import HopsView
from stream_server.client import FinalEvent, FlushedEvent
from stream_server.dialects.schema import TraceObject


def final(**fields: object) -> FinalEvent:
    return FinalEvent(
        seq=1, event=1, segment=0, start=0.0, end=3.5, text="x", language=None, utterance_end=True, **fields
    )


def trace(pause: float) -> TraceObject:
    return TraceObject(pause=pause, vad=0.017, queue=0.0, batch=0.0004, decode=0.05, send=0.001)


def test_each_final_has_a_line_and_all_have_a_table() -> None:
    out = io.StringIO()
    view = HopsView(Console(file=out, width=100))
    view.show(FlushedEvent(seq=1, event=1))
    for pause in (0.1, 0.3, 0.2):
        view.show(final(trace=trace(pause)))
    view.summarise()
    lines = out.getvalue().splitlines()
    assert lines[1] == "  3.50 s: pause 300 · vad 17 · queue 0 · batch 0 · decode 50 · send 1 = 368 ms"
    (pause_row,) = [line for line in lines if line.startswith("│ pause")]
    assert pause_row.split("│")[2:4] == [" 200 ", " 300 "]


def test_a_server_that_does_not_tell_gives_nothing() -> None:
    out = io.StringIO()
    view = HopsView(Console(file=out))
    view.show(final())
    view.summarise()
    assert out.getvalue() == ""
