"""What ``bench`` shows: progress while it runs, and a table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stream_server.cli.bench_outcome import step_settings
from stream_server.dialects.schema import TraceObject
from stream_server.evaluation.result import Percentiles
from stream_server.load import messages
from stream_server.load.limit import CONFIRMATIONS
from stream_server.load.result import CLIENT_LAG_S_MAX, FINAL_P95_S_MAX, RunResult
from stream_server.load.run import Settings
from stream_server.load.usage import Usage
from stream_server.load.verdict import (
    PLANNED_P95_S_MAX,
    PLANNED_SHARE,
    Bound,
    Obstacle,
    is_planned_reached,
)

RAISE = {
    "overloaded": "limits.sessions, the streams that the server carries in all",
    "too_many": "limits.sessions_per_identity and limits.connects_per_minute, which count by certificate",
}
"""Code of a refusal → the key of the server's configuration that lies behind it."""


@contextmanager
def progress_bar(
    errors: Console, name: str, total_s: float
) -> Iterator[Callable[[float, messages.Progress], None]]:
    """A bar over one run, in a terminal only."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[live]} live", style="dim"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(name, total=total_s, live=0)

        def show(elapsed_s: float, told: messages.Progress) -> None:
            progress.update(task, completed=min(elapsed_s, total_s), live=told.live)

        yield show


def latency_table(runs: Sequence[RunResult]) -> Table:
    """How late, how good: one line for each run."""
    by_word = all(run.partial_is_by_word for run in runs)
    table = Table(title="captions")
    heads = ("sessions", "final, s", "word shown, s" if by_word else "partial's age, s", "flicker", "WER")
    for head in (*heads, "carried"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(
            str(run.sessions),
            _latencies(run.final),
            _latencies(run.partial),
            _percent(run.flicker),
            _percent(run.wer),
            Text("yes", "green") if run.is_carried else Text("no", "red"),
        )
    return table


def machine_table(runs: Sequence[RunResult]) -> Table:
    """What became of the streams, and what it cost: one line for each run."""
    table = Table(title="streams and processes")
    for head in ("sessions", "finished", "wrong", "server", "clients", "client lag"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        wrong = (sum(run.refused.values()), sum(run.failed.values()), run.lost, run.doubled)
        lag = "-" if run.client_lag_p99_s is None else f"{1000 * run.client_lag_p99_s:.0f} ms"
        usages = (_usage(run.server), _usage(run.client))
        table.add_row(str(run.sessions), str(run.finished), " ".join(map(str, wrong)), *usages, lag)
    return table


def hops_table(runs: Sequence[RunResult]) -> Table:
    """Where the time of finals went, from the end of speech in the audio to the text sent."""
    table = Table(title="hops of finals, ms: p50 p95")
    table.add_column("sessions", justify="right")
    for name in ("hangover", *TraceObject.__struct_fields__):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        cells = [run.hangover, *(run.hops.get(name) for name in TraceObject.__struct_fields__)]
        table.add_row(str(run.sessions), *map(_milliseconds, cells))
    return table


LEGEND = (
    "p50 p95 p99, from when the sample was due to be sent; carried: finals within"
    f" {FINAL_P95_S_MAX:g} s at p95 and nothing wrong; wrong: streams refused, failed, finals lost, doubled;"
    " server, clients: cores, MB; lag: p99"
)


def brief(run: RunResult) -> str:
    """One line on a step of a search."""
    p95 = "no final" if run.final is None else f"finals within {run.final.p95_s:.2f} s at p95"
    outcome = "carried" if run.is_carried else "not carried"
    return f"{run.sessions} sessions for {run.measured_s:g} s: {p95}, {outcome}"


def steps_left(n_left: int | None, settings: Settings) -> str:
    """How long the search still takes at most.

    Args:
        n_left: Steps, this one and the confirmations among them; None while nobody can tell.
        settings: Of a whole run, as confirmations are, and the run at the share to plan for behind them.
    """
    if n_left is None:
        return "doubling until a run fails"
    whole_s = settings.ramp_s + settings.measure_s
    step = step_settings(settings)
    n_confirmations = min(n_left, CONFIRMATIONS)
    left_s = (n_left - n_confirmations) * (step.ramp_s + step.measure_s) + (n_confirmations + 1) * whole_s
    return f"at most {n_left + 1} runs and {ceil(left_s / 60)} min left"


def limit_lines(planned: RunResult | None, obstacle: Obstacle | None, *, n_cores: int) -> Iterator[str]:
    """What is below the limit, and what stands above it."""
    if planned is not None and planned.final is not None:
        verdict = "as it should be" if is_planned_reached(planned) else "which is too long"
        yield (
            f"At {PLANNED_SHARE:.0%} of it, {planned.sessions} sessions: finals within"
            f" {planned.final.p95_s:.2f} s at p95, {verdict} (at most {PLANNED_P95_S_MAX:g} s)"
        )
    if obstacle is not None:
        run = obstacle.run
        yield f"With {run.sessions}, {OBSTACLES[obstacle.bound]}."
        if run.server is not None and run.client is not None:
            yield (
                f"Cores used then: server {run.server.cores:.2f}, clients {run.client.cores:.2f},"
                f" of {n_cores} that all of them may use."
            )


OBSTACLES = {
    Bound.REFUSED: "the server refused clients; what to raise is said above",
    Bound.FAILED: "streams failed, or finals were lost or doubled",
    Bound.CLIENTS: "the clients were late themselves: the limit may be theirs, not the server's",
    Bound.ENGINE: "finals waited too long for the engine, or took it too long",
    Bound.GATEWAY: "finals waited for speech detection or to be sent: the server's own process was too busy",
}
"""What kept a run from being carried, in words."""


def remarks(run: RunResult) -> Iterator[str]:
    """What a reader should know of a run before trusting or after seeing its figures."""
    if run.is_interrupted:
        yield "stopped early: these are the figures so far"
    for reason, n_clients in run.refused.items():
        key = RAISE.get(reason)
        what = f"{n_clients} of {run.sessions} clients were refused ({reason}): {run.refusals[reason]}"
        yield f"{what}; raise {key} for this measurement" if key else what
    for code, n_clients in run.failed.items():
        yield f"{n_clients} of {run.sessions} streams ended by an error: {code}"
    if run.uncaptioned:
        yield f"{run.uncaptioned} of {run.utterances} utterances have no final with text"
    if run.final is None and not run.refused:
        yield (
            "no final latency: of nothing that was said while all clients were live does the manifest tell"
            " the end (`speech_end`, `words` or `utterances`)"
        )
    if run.is_client_slow:
        assert run.client_lag_p99_s is not None
        yield (
            f"the clients were late themselves, {1000 * run.client_lag_p99_s:.0f} ms at p99 where"
            f" {1000 * CLIENT_LAG_S_MAX:.0f} are harmless: run them on another machine, or more of"
            " --client-processes"
        )


def _latencies(found: Percentiles | None) -> str:
    return "-" if found is None else f"{found.p50_s:.2f} {found.p95_s:.2f} {found.p99_s:.2f}"


def _milliseconds(found: Percentiles | None) -> str:
    return "-" if found is None else f"{1000 * found.p50_s:.0f} {1000 * found.p95_s:.0f}"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _usage(usage: Usage | None) -> str:
    return "-" if usage is None else f"{usage.cores:.2f} {usage.memory_bytes / 1e6:.0f}"
