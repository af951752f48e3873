"""What was found, as a table for people; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.search import carried_by
from stream_server.evaluation.result import Percentiles
from stream_server.load.result import FINAL_P95_S_MAX, RunResult

UNCAPTIONED_MORE_MAX = 0.1
"""So many more utterances without text than with one session are a load that was not carried. One session
says half a dozen utterances in a run, so that its share is not known any better."""


@dataclass(frozen=True, slots=True)
class Found:
    """All runs of one server, or why there are none."""

    name: str
    settings: str
    runs: tuple[RunResult, ...] = ()
    unavailable: str | None = None

    def outcomes(self, which: str) -> dict[int, bool]:
        """Sessions → whether they were carried by ``final`` or by ``settled`` latency."""
        alone = uncaptioned(self.runs[0]) if self.runs else 0.0
        return {run.sessions: is_carried(run, which, alone) for run in self.runs}

    def limit(self, which: str) -> str:
        """The most sessions that were carried; at least so many where none was tried that was not."""
        outcomes = self.outcomes(which)
        if not outcomes:
            return "-"
        return f"{'≥ ' if all(outcomes.values()) else ''}{carried_by(outcomes)}"


def uncaptioned(run: RunResult) -> float:
    """The share of utterances that no text covers."""
    return run.uncaptioned / run.utterances if run.utterances else 0.0


def is_carried(run: RunResult, which: str, alone: float) -> bool:
    """Whether a server carried a run: nobody turned away, in time, and no more left out than ``alone``."""
    latency: Percentiles | None = getattr(run, which)
    if run.refused or run.failed or latency is None:
        return False
    return latency.p95_s <= FINAL_P95_S_MAX and uncaptioned(run) <= alone + UNCAPTIONED_MORE_MAX


LATENCIES = ("final p50 p95", "settled p50 p95", "word p50 p95")
HEADS = ("sessions", *LATENCIES, "WER", "no text", "CPU s/s", "MB", "wrong")


def as_markdown(found: Sequence[Found]) -> str:
    """The limits, then every run."""
    limits = [
        f"| server | sessions, finals within {FINAL_P95_S_MAX:g} s at p95 | sessions, settled by then |",
        "|---|---|---|",
    ]
    limits += [f"| {one.name} | {one.limit('final')} | {one.limit('settled')} |" for one in found]
    runs = ["| server | " + " | ".join(HEADS) + " |", "|---" * (1 + len(HEADS)) + "|"]
    for one in found:
        for run in sorted(one.runs, key=lambda run: run.sessions):
            runs.append(f"| {one.name} | " + " | ".join(_cells(run)) + " |")
    return "\n".join([*limits, "", *runs, "", *_notes(found)]) + "\n"


def _cells(run: RunResult) -> Iterator[str]:
    yield str(run.sessions)
    for latency in (run.final, run.settled, run.partial):
        yield "-" if latency is None else f"{latency.p50_s:.2f} {latency.p95_s:.2f}"
    yield "-" if run.wer is None else f"{run.wer:.1%}"
    yield f"{uncaptioned(run):.0%}"
    yield "-" if run.server is None else f"{run.server.cores / run.sessions:.3f}"
    yield "-" if run.server is None else f"{run.server.memory_bytes / 1e6:.0f}"
    yield ", ".join(f"{n} {code}" for code, n in _wrong(run).items()) or "-"


def _wrong(run: RunResult) -> Mapping[str, int]:
    return {**run.refused, **run.failed}


def _notes(found: Sequence[Found]) -> Iterator[str]:
    for one in found:
        yield f"- {one.name}: {one.unavailable or one.settings}"
