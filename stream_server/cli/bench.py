"""``stream-server bench``: how many live streams a server carries, and how late captions are meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from certs.authority import AuthorityError
from certs.store import StoreError
from certs.tls import TlsConfigError
from stream_server.cli.bench_material import write_material
from stream_server.cli.bench_outcome import Outcome, Wanted, step_settings, write_files
from stream_server.cli.bench_view import (
    LEGEND,
    brief,
    hops_table,
    latency_table,
    limit_lines,
    machine_table,
    progress_bar,
    remarks,
    steps_left,
)
from stream_server.cli.client_files import (
    CaOption,
    CertOption,
    CertsOption,
    KeyOption,
    NoCertificate,
    client_paths,
)
from stream_server.cli.demo_server import ServerFailed
from stream_server.cli.model_rules import ConfigOption, with_model_rules
from stream_server.cli.own_server import own_server
from stream_server.engine.manifest import find_model
from stream_server.errors import ConfigError, ModelError
from stream_server.evaluation.references import ManifestError, parse_manifest
from stream_server.load.limit import LimitSearch
from stream_server.load.result import RunResult
from stream_server.load.run import LoadFailed, Material, Settings, Target, run_load
from stream_server.load.verdict import PLANNED_SHARE, planned_sessions
from stream_server.state_folder import state_dir

SESSIONS_MAX = 20_000
FIRST_SESSIONS = 8
"""Where the search for the limit begins."""
OWN_CONFIG = """\
# Written by stream-server bench: one certificate opens all streams, and what is looked for is not a
# configured limit but the machine's.
[limits]
sessions = 100000
sessions_per_identity = 100000
connects_per_minute = 1000000
"""


class CommandError(Exception):
    """Raised when nothing can be measured; one line for the user."""


EXPECTED = (
    AuthorityError,
    CommandError,
    ConfigError,
    LoadFailed,
    ManifestError,
    ModelError,
    NoCertificate,
    OSError,
    ServerFailed,
    StoreError,
    TlsConfigError,
)
"""What ends the command with one line and no traceback."""


@dataclass(frozen=True, slots=True)
class Own:
    """A server to start for the measurement."""

    model: Path | None
    config: str
    """TOML."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A server that somebody else runs, and what to show it."""

    url: str
    ca: Path
    cert: Path
    key: Path
    pid: int | None


def bench(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MANIFEST]",
            help="JSON list of recordings and what is said in them. "
            "[default: the included recordings that no model was trained on]",
            show_default=False,
        ),
    ] = None,
    sessions: Annotated[
        str | None,
        typer.Option(
            help="Clients at once; several numbers, as in 8,16,32, are run one after the other. [default: 8]",
            show_default=False,
        ),
    ] = None,
    find_limit: Annotated[
        bool,
        typer.Option(
            "--find-limit",
            help="Find the most sessions whose finals come within 1 s at p95; measure 80 % of them, too.",
        ),
    ] = False,
    seconds: Annotated[float, typer.Option(min=1.0, help="Measured, with all clients live.")] = 60.0,
    ramp: Annotated[
        float, typer.Option(min=0.0, help="Seconds over which the clients connect; not measured.")
    ] = 15.0,
    gap: Annotated[
        float, typer.Option(min=0.0, help="Seconds of pause between recordings; less is more speech.")
    ] = 1.0,
    server: Annotated[
        str | None,
        typer.Option(
            help="Stream of a running server, wss://HOST:8443/v1/stream. [default: one of its own]",
            show_default=False,
        ),
    ] = None,
    server_pid: Annotated[
        int | None,
        typer.Option(help="Its process, if on this machine, for processor and memory.", show_default=False),
    ] = None,
    certs: CertsOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model of the command's own server: a folder, or the name of one in STATE/models. "
            "[default: the embedded demo-en]",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Such as en or de. [default: the model decides]", show_default=False)
    ] = None,
    client_processes: Annotated[
        int, typer.Option(min=0, help="Processes that share the clients; 0 is one for 50.")
    ] = 0,
    config: ConfigOption = None,
    seed: Annotated[int, typer.Option(help="Another one shuffles the recordings differently.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency against sessions as SVG here.", show_default=False)
    ] = None,
) -> None:
    """Measure a server under load: clients over mutual TLS that speak at real time.

    Starts a server of its own unless --server names one. Ctrl-C ends the run and shows the figures so
    far. Exit code 1 when a session was refused, failed, or lost or doubled a final, or no limit was found.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        settings = Settings(ramp, seconds, gap, language, seed, client_processes)
        wanted = Wanted(_session_counts(sessions, find_limit=find_limit), find_limit, settings)
        target = _foreign(server, server_pid, certs, ca, cert, key) if server else _own(model, config)
        with as_file(files("stream_server") / "assets" / "recordings") as included:
            path = manifest or included / "heldout" / "manifest.json"
            outcome = asyncio.run(_measure(path, target, wanted, errors))
        _show(outcome, errors)
        named = str(manifest) if manifest else "the included recordings"
        write_files(outcome, named, server or "own", wanted, json_file, plot)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except EXPECTED as exc:
        _print_error(errors, str(exc))
        raise typer.Exit(1) from exc
    raise typer.Exit(0 if _is_clean(outcome, wanted) else 1)


def _print_error(errors: Console, message: str) -> None:
    errors.print("error:", style="red", end=" ")
    errors.print(message, markup=False)


def _session_counts(text: str | None, *, find_limit: bool) -> tuple[int, ...]:
    if text is None:
        return (FIRST_SESSIONS,)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= SESSIONS_MAX for part in parts):
        raise CommandError(f"--sessions takes numbers from 1 to {SESSIONS_MAX}, as in 8,16,32; not {text}")
    if find_limit and len(parts) > 1:
        raise CommandError("--find-limit takes one number for --sessions: where the search begins")
    return tuple(map(int, parts))


def _foreign(
    url: str, pid: int | None, certs: Path | None, ca: Path | None, cert: Path | None, key: Path | None
) -> Foreign:
    return Foreign(url, *client_paths(certs or state_dir(None) / "certs", ca, cert, key), pid)


def _own(model: str | None, config: Path | None) -> Own:
    folder = find_model(model, state_dir(None)) if model else None
    return Own(folder, with_model_rules(OWN_CONFIG, folder, config))


async def _measure(path: Path, server: Foreign | Own, wanted: Wanted, errors: Console) -> Outcome:
    stopping = _stop_on_interrupt()
    with TemporaryDirectory(prefix="stream-server-bench-") as folder:
        material = await asyncio.to_thread(_read_material, path, Path(folder, "samples.pcm"), errors)
        async with _target(server) as target:
            return await _run_all(target, material, wanted, errors, stopping)


def _stop_on_interrupt() -> asyncio.Event:
    """Set by the first Ctrl-C; the second, and SIGTERM, end the command without figures."""
    task, loop, stopping = asyncio.current_task(), asyncio.get_running_loop(), asyncio.Event()
    assert task is not None

    def interrupt() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    return stopping


def _read_material(path: Path, samples: Path, errors: Console) -> Material:
    try:
        references = parse_manifest(path.read_bytes(), path)
    except OSError as exc:
        raise CommandError(f"{path}: cannot be read: {exc.strerror}") from exc
    material, unreadable = write_material(references.usable, samples)
    for problem in (*references.problems, *unreadable):
        _print_error(errors, problem)
    if not material.clips:
        raise CommandError(f"{path}: none of its recordings can be used")
    return material


@asynccontextmanager
async def _target(server: Foreign | Own) -> AsyncIterator[Target]:
    if isinstance(server, Foreign):
        yield Target(server.url, server.ca, server.cert, server.key, server.pid)
        return
    async with own_server(server.model, server.config) as own:
        yield Target(own.url, own.ca, own.cert, own.key, own.pid)


async def _run_all(
    target: Target, material: Material, wanted: Wanted, errors: Console, stopping: asyncio.Event
) -> Outcome:
    runs: list[RunResult] = []

    async def run(sessions: int, settings: Settings = wanted.settings, what: str = "") -> RunResult:
        total_s = settings.ramp_s + settings.measure_s
        with progress_bar(errors, f"{sessions} sessions{what}", total_s) as on_progress:
            result = await run_load(
                target,
                material,
                settings,
                sessions,
                on_progress=on_progress,
                stopping=stopping,
                normalise=_normalise,
            )
        runs.append(result)
        for remark in remarks(result):
            errors.print(f"{sessions} sessions: {remark}", style="yellow", markup=False)
        return result

    if wanted.find_limit:
        limit = await _find_limit(run, wanted, stopping, errors)
        planned = None
        if limit and not stopping.is_set():
            planned = await run(planned_sessions(limit), what=f", {PLANNED_SHARE:.0%} of the limit")
        return Outcome(tuple(runs), limit, planned)
    for sessions in wanted.sessions:
        if not stopping.is_set():
            await run(sessions)
    return Outcome(tuple(runs))


def _normalise(text: str) -> str:
    # It brings torch, which takes seconds to import: not before the clients have ended.
    from stream_server.engine.text import normalise_english

    return normalise_english(text)


async def _find_limit(
    run: Callable[[int, Settings, str], Awaitable[RunResult]],
    wanted: Wanted,
    stopping: asyncio.Event,
    errors: Console,
) -> int | None:
    search = LimitSearch(wanted.sessions[0], SESSIONS_MAX)
    step = step_settings(wanted.settings)
    while search.limit is None and not stopping.is_set():
        settings = wanted.settings if search.is_confirmation else step
        result = await run(search.next, settings, f" ({steps_left(search.n_left, wanted.settings)})")
        search.note(result.is_carried)
        then = f"; {steps_left(search.n_left, wanted.settings)}" if search.limit is None else ""
        errors.print(brief(result) + then, markup=False)
    return search.limit


def _is_clean(outcome: Outcome, wanted: Wanted) -> bool:
    if wanted.find_limit:
        return bool(outcome.limit)
    return not any(run.refused or run.failed or run.lost or run.doubled for run in outcome.runs)


def _show(outcome: Outcome, errors: Console) -> None:
    console = Console(highlight=False)
    runs = sorted(outcome.runs, key=lambda run: run.sessions)
    console.print(latency_table(runs))
    console.print(hops_table(runs))
    console.print(machine_table(runs))
    console.print(LEGEND, style="dim")
    if outcome.limit is not None:
        console.print(f"\n[bold]Limit: {outcome.limit} sessions[/]")
        for line in limit_lines(outcome.planned, outcome.obstacle, n_cores=len(os.sched_getaffinity(0))):
            console.print(line, markup=False, soft_wrap=True)
