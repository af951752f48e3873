import io

from rich.console import Console

from stream_server.cli.demo_report import Report, make_report, report_table
from stream_server.client import FinalEvent, FinishedEvent, PartialEvent, SpeechStartedEvent
from stream_server.client.latency import Spread, Utterance
from stream_server.evaluation.heard import Heard

SAID = (Utterance(1.0, 3.0, "One two."), Utterance(4.0, 6.0, "Three four."))


def heard(*texts: str) -> Heard:
    """One final for each utterance, half a second after its end, and one partial."""
    everything = Heard()
    everything.note(SpeechStartedEvent(seq=1, event=1, at=1.0), 1.1)
    everything.note(
        PartialEvent(seq=2, segment=0, revision=0, start=1.0, end=2.0, text="One", stable=0), 2.25
    )
    for number, (said, text) in enumerate(zip(SAID, texts, strict=False)):
        final = FinalEvent(
            seq=number,
            event=number,
            segment=number,
            start=said.start_s,
            end=said.end_s,
            text=text,
            language="en",
            utterance_end=True,
        )
        everything.note(final, said.end_s + 0.5)
    everything.note(FinishedEvent(seq=9, event=9, audio_seconds=7.0, segments=2), 7.0)
    return everything


def rate(reference: str, hypothesis: str) -> float:
    assert reference == "One two. Three four."
    return 0.0 if hypothesis == reference else 0.25


def text_of(report: Report, width: int = 80) -> str:
    written = io.StringIO()
    Console(file=written, width=width).print(report_table(report))
    return written.getvalue()


def test_a_run_in_which_every_utterance_got_its_final_is_a_success() -> None:
    report = make_report(SAID, heard("One two.", "Three four."), 0.125, rate)
    assert report == Report(2, 2, (), 0.0, Spread(1, 0.25, 0.25), Spread(2, 0.5, 0.5), 0.125)
    assert report.is_success


def test_an_utterance_without_words_is_missing() -> None:
    report = make_report(SAID, heard("One two.", " "), 0.125, rate)
    assert report.missing == (SAID[1],)
    assert report.error_rate == 0.25
    assert not report.is_success


def test_a_run_without_captions_has_no_figures_and_is_no_success() -> None:
    report = make_report(SAID, Heard(), None, rate)
    assert report == Report(0, 2, SAID, None, None, None, None)
    assert not report.is_success
    assert text_of(report).count(" - ") == 4


def test_the_table_fits_a_terminal_and_says_what_each_figure_is() -> None:
    report = Report(9, 9, (), 0.0342, Spread(45, 0.2, 0.344), Spread(9, 0.72, 0.81), 0.131)
    lines = text_of(report).splitlines()
    assert len(lines) == 5
    assert "9 of 9" in lines[0]
    assert "3.4%" in lines[1]
    assert "0.20 / 0.34 s" in lines[2]
    assert "p50 / p95 of 9" in lines[3]
    assert "0.13" in lines[4]
