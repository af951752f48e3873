"""What the demo measured, as figures and as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from stream_server.client.latency import (
    Spread,
    Utterance,
    final_latencies_s,
    partial_latencies_s,
    spread,
    without_final,
)
from stream_server.evaluation.heard import Heard


@dataclass(frozen=True, slots=True)
class Report:
    """The demo's figures."""

    n_finals: int
    n_utterances: int
    missing: tuple[Utterance, ...]
    """Utterances that no final covers."""
    error_rate: float | None
    """Wrong words per word of the reference; None when there was no text to compare."""
    partial: Spread | None
    final: Spread | None
    fast_factor: float | None
    """Seconds per second of audio that is sent as fast as the server takes it."""

    @property
    def is_success(self) -> bool:
        """Whether every utterance got its final."""
        return self.n_finals > 0 and not self.missing


def make_report(
    utterances: Sequence[Utterance],
    heard: Heard,
    fast_factor: float | None,
    error_rate: Callable[[str, str], float],
) -> Report:
    """Compute the figures.

    Args:
        utterances: The reference.
        heard: What came at real time.
        fast_factor: Seconds per second of audio of the second, fast streaming.
        error_rate: Word error rate of a hypothesis (second) against a reference (first).
    """
    reference = " ".join(said.text for said in utterances)
    return Report(
        n_finals=sum(bool(final.event.text.strip()) for final in heard.finals),
        n_utterances=len(utterances),
        missing=tuple(without_final(utterances, heard.finals)),
        error_rate=error_rate(reference, heard.text) if heard.text.strip() else None,
        partial=spread(partial_latencies_s(heard.partials)),
        final=spread(final_latencies_s(utterances, heard.finals)),
        fast_factor=fast_factor,
    )


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Word error rate after whisper's English normaliser."""
    # Both are slow to import (torch and its company), and wanted only here.
    import jiwer

    from stream_server.engine.text import normalise_english

    rate: float = jiwer.wer(normalise_english(reference), normalise_english(hypothesis))
    return rate


def report_table(report: Report) -> Table:
    """The figures and, dim beside them, what each one is."""
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    covered = report.n_utterances - len(report.missing)
    counts = f"utterances with a final; {report.n_finals} finals in all"
    table.add_row("Captioned", Text(f"{covered} of {report.n_utterances}", _colour(report)), counts)
    table.add_row("Word error rate", _percent(report.error_rate), "against what was said")
    table.add_row("Partials, delay", *_delays(report.partial, "newest sound in it → shown"))
    table.add_row("Finals, delay", *_delays(report.final, "end of utterance → its final"))
    factor = "-" if report.fast_factor is None else f"{report.fast_factor:.2f}"
    table.add_row("Real-time factor", factor, "part of it again, as fast as it goes")
    return table


def _colour(report: Report) -> str:
    return "green" if report.is_success else "red"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _delays(delays: Spread | None, meaning: str) -> tuple[str, str]:
    if delays is None:
        return "-", meaning
    return f"{delays.p50_s:.2f} / {delays.p95_s:.2f} s", f"p50 / p95 of {delays.n}: {meaning}"
