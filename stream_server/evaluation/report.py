"""The result for people, as rows of a table, and for programs, as one JSON object; pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from stream_server.core.messages import BeamSearch
from stream_server.evaluation.result import Measured, Percentiles, Summary, per_file, per_group, summarise

COLUMNS = ("", "words", "WER", "CER", "invented", "RTF")
STREAM_COLUMNS = ("", "words, s", "partials, s", "finals, s", "flicker")
"""Latencies are p50, p95 and p99; in a table of their own, since 80 columns do not hold all."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What was evaluated, how, on what, when."""

    manifest: str
    model: str
    mode: str
    """``offline``, ``whole`` or ``stream``."""
    group_by: tuple[str, ...]
    cpu: str
    date: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    beam: BeamSearch | None = None
    """How texts were searched for; None: greedily."""


def error_row(summary: Summary) -> tuple[str, ...]:
    """One line of the table of ``COLUMNS``."""
    counts = summary.counts
    invented = str(counts.invented_words) if summary.n_silent else "-"
    rates = (_percent(counts.wer), _percent(counts.cer), invented, _number(summary.real_time_factor))
    return (summary.name, str(counts.words), *rates)


def latency_row(summary: Summary) -> tuple[str, ...]:
    """One line of the table of ``STREAM_COLUMNS``."""
    latencies = (_latencies(summary.word), _latencies(summary.partial), _latencies(summary.final))
    return (summary.name, *latencies, _number(summary.flicker.rate))


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _latencies(found: Percentiles | None) -> str:
    return "-" if found is None else f"{found.p50_s:.2f} {found.p95_s:.2f} {found.p99_s:.2f}"


def as_json(setting: Setting, measured: Sequence[Measured], problems: Sequence[str]) -> dict[str, object]:
    """Everything that was measured, without rounding; times in seconds."""
    texts = [{"reference": one.reference, "hypothesis": one.hypothesis} for one in measured]
    files = [_figures(one) | text for one, text in zip(per_file(measured), texts, strict=True)]
    groups = [
        {"field": field} | _figures(one) for field in setting.group_by for one in per_group(measured, field)
    ]
    total = _figures(summarise("all", measured))
    return {**asdict(setting), "all": total, "groups": groups, "files": files, "problems": list(problems)}


def _figures(summary: Summary) -> dict[str, object]:
    return {
        "name": summary.name,
        "files": summary.n_files,
        "files_without_speech": summary.n_silent,
        **asdict(summary.counts),
        "wer": summary.counts.wer,
        "cer": summary.counts.cer,
        "audio_s": summary.audio_s,
        "spent_s": summary.spent_s,
        "real_time_factor": summary.real_time_factor,
        "word_latency": asdict(summary.word) if summary.word else None,
        "partial_latency": asdict(summary.partial) if summary.partial else None,
        "final_latency": asdict(summary.final) if summary.final else None,
        "flicker": summary.flicker.rate,
    }
