"""``stream-server evaluate``: error rates, speed and latency of a model on a list of recordings."""

import asyncio
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from certs.authority import AuthorityError
from certs.store import StoreError
from certs.tls import TlsConfigError
from stream_server import __version__
from stream_server.cli.beam_options import (
    BeamSizeOption,
    LengthPenaltyOption,
    PatienceOption,
    chosen_beam,
)
from stream_server.cli.demo_server import ServerFailed
from stream_server.cli.machine import cpu_name
from stream_server.cli.model_rules import with_model_rules
from stream_server.cli.own_server import own_server
from stream_server.client import ClientError
from stream_server.config_file import find_config, load_config
from stream_server.core.messages import BeamSearch
from stream_server.engine.manifest import find_model, read_manifest
from stream_server.errors import ConfigError, ModelError
from stream_server.state_folder import state_dir

if TYPE_CHECKING:
    from stream_server.evaluation.references import References
    from stream_server.evaluation.report import Setting
    from stream_server.evaluation.result import Measured, Summary

USUAL_GROUPS = ("condition", "voice")
EXIT_ABOVE = 3
"""More words are wrong than ``--fail-above`` allows; 1 is what could not be evaluated, 2 wrong usage."""
VERSIONS = ("openai-whisper", "torch", "jiwer", "silero-vad")


class CommandError(Exception):
    """Raised when nothing can be evaluated; one line for the user."""


OWN_CONFIG = """\
# Written by stream-server evaluate, which connects once for each recording.
[limits]
connects_per_minute = 1000
"""
EXPECTED = (
    AuthorityError,
    ClientError,
    CommandError,
    ConfigError,
    ModelError,
    OSError,
    ServerFailed,
    StoreError,
    TlsConfigError,
)
"""What ends the command with one line and no traceback."""


def evaluate(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MANIFEST]",
            help="JSON list of recordings and what is said in them. "
            "[default: the included recordings that no model was trained on]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model folder with manifest.json and model.safetensors, or the name of one in "
            "STATE/models. [default: the embedded demo-en]",
            show_default=False,
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Whole utterances up to 30 s, not cut where speech pauses.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="At real time through an own server; adds latency, flicker."),
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Field of the manifest to group by; may be given several times. "
            "[default: condition and voice, where the manifest has them]",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result here.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw word error rates as SVG here.", show_default=False)
    ] = None,
    beam_size: BeamSizeOption = None,
    patience: PatienceOption = None,
    length_penalty: LengthPenaltyOption = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="WER",
            help="End with exit code 3 if the word error rate of all recordings is above this, such as 0.1.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure how well, how fast and how late a model reads recordings.

    Words and characters are compared after Whisper's English normaliser. A recording that cannot be
    evaluated is named, and the others go on; the exit code is 1 then, and 3 for --fail-above.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    beam = chosen_beam(beam_size, patience, length_penalty)
    try:
        if whole and stream:
            raise CommandError("--whole and --stream exclude each other: a server cuts what it hears")
        folder = find_model(model, state_dir(None))
        model_id = read_manifest(folder).id
        with as_file(files("stream_server") / "assets" / "recordings") as included:
            path = manifest or included / "heldout" / "manifest.json"
            references = _read_references(path)
            groups = tuple(group) if group else _usual_groups(references)
            measured, problems = _measure(
                references, folder, errors, groups, beam, whole=whole, stream=stream
            )
        mode = "stream" if stream else "whole" if whole else "offline"
        setting = _setting(path, model_id, mode, groups, beam)
        _show(setting, measured)
        _write_files(setting, measured, problems, json_file, plot)
        code = exit_code(measured, problems, fail_above)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except EXPECTED as exc:
        _print_error(errors, str(exc))
        raise typer.Exit(1) from exc
    if code == EXIT_ABOVE:
        _print_error(errors, f"more than {fail_above:.1%} of the words are wrong")
    raise typer.Exit(code)


def exit_code(measured: "Sequence[Measured]", problems: Sequence[str], fail_above: float | None) -> int:
    """1 if something could not be evaluated, ``EXIT_ABOVE`` if more is wrong than allowed, else 0.

    Raises:
        CommandError: A rate is asked for, and no recording has words to count.
    """
    from stream_server.evaluation.result import summarise

    if problems:
        return 1
    if fail_above is None:
        return 0
    wer = summarise("all", measured).counts.wer if measured else None
    if wer is None:
        raise CommandError("--fail-above: no recording has words to compare with")
    return EXIT_ABOVE if wer > fail_above else 0


def measure_wer(path: Path, folder: Path, errors: Console) -> float:
    """The word error rate of a model folder on a list of recordings, cut as a session cuts them.

    Raises:
        CommandError: The list or one of its recordings cannot be used.
        ModelError: The model cannot be loaded.
    """
    from stream_server.evaluation.result import summarise

    measured, problems = _measure(_read_references(path), folder, errors, (), None, whole=False, stream=False)
    wer = summarise("all", measured).counts.wer if measured else None
    if problems or wer is None:
        raise CommandError(f"{path}: not all of its recordings could be evaluated")
    return wer


def _print_error(errors: Console, message: str) -> None:
    errors.print("error:", style="red", end=" ")
    errors.print(message, markup=False)


def _read_references(path: Path) -> "References":
    from stream_server.evaluation.references import ManifestError, parse_manifest

    try:
        return parse_manifest(path.read_bytes(), path)
    except OSError as exc:
        raise CommandError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ManifestError as exc:
        raise CommandError(str(exc)) from exc


def _usual_groups(references: "References") -> tuple[str, ...]:
    present = {field for reference in references.usable for field in reference.fields}
    return tuple(field for field in USUAL_GROUPS if field in present)


def _measure(
    references: "References",
    folder: Path,
    errors: Console,
    groups: tuple[str, ...],
    beam: BeamSearch | None,
    *,
    whole: bool,
    stream: bool,
) -> "tuple[list[Measured], list[str]]":
    """Measure what can be measured, and name what cannot as soon as it is known."""
    measured: list[Measured] = []
    problems: list[str] = []
    with _progress(len(references.usable), errors) as advance:

        def note(outcome: "Measured | str") -> None:
            if isinstance(outcome, str):
                problems.append(outcome)
                _print_error(errors, outcome)
            else:
                measured.append(outcome)

        for problem in references.problems:
            note(problem)

        def take(outcome: "Measured | str") -> None:
            note(outcome)
            advance()

        if stream:
            asyncio.run(_measure_streamed(references, folder, groups, beam, take))
        else:
            _measure_offline(references, folder, groups, beam, take, whole=whole)
    return measured, problems


def _measure_offline(
    references: "References",
    folder: Path,
    groups: tuple[str, ...],
    beam: BeamSearch | None,
    take: "Callable[[Measured | str], None]",
    *,
    whole: bool,
) -> None:
    # torch takes seconds to import: only the command that needs it pays.
    from stream_server.cli.evaluate_run import Heading, measure_offline
    from stream_server.engine.access import model_access
    from stream_server.engine.threads import set_torch_threads
    from stream_server.engine.transcriber import WhisperTranscriber, warm_up
    from stream_server.evaluation.offline import BATCH
    from vad.model import NetworkFileError, SileroVad

    set_torch_threads(0)
    access = model_access(load_config(find_config(None), {}))
    transcriber = WhisperTranscriber(folder, "auto", access)
    try:
        network = None if whole else SileroVad()
    except NetworkFileError as exc:
        raise CommandError(str(exc)) from exc
    if network is not None:
        network.warm_up()
    warm_up(transcriber, BATCH)
    for outcome in measure_offline(references.usable, Heading(groups), transcriber, network, beam):
        take(outcome)


async def _measure_streamed(
    references: "References",
    folder: Path,
    groups: tuple[str, ...],
    beam: BeamSearch | None,
    take: "Callable[[Measured | str], None]",
) -> None:
    from stream_server.cli.evaluate_run import Heading, measure_streamed

    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does, so that the server is stopped when a supervisor says so.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with own_server(folder, with_model_rules(OWN_CONFIG, folder)) as server:
        streamed = measure_streamed(references.usable, Heading(groups), server.url, server.tls, beam)
        async for outcome in streamed:
            take(outcome)


@contextmanager
def _progress(n_files: int, errors: Console) -> Iterator[Callable[[], None]]:
    """A bar over the recordings, in a terminal only."""
    columns = (TextColumn("{task.completed:.0f} of {task.total:.0f}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("recordings", total=n_files)
        yield lambda: progress.advance(task)


def _setting(
    path: Path, model: str, mode: str, groups: tuple[str, ...], beam: BeamSearch | None
) -> "Setting":
    from stream_server.evaluation.report import Setting

    versions = {"stream-server": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in VERSIONS}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Setting(str(path), model, mode, groups, cpu_name(), date, versions, beam)


def _show(setting: "Setting", measured: "Sequence[Measured]") -> None:
    from stream_server.evaluation.report import COLUMNS, STREAM_COLUMNS, error_row, latency_row
    from stream_server.evaluation.result import per_file, per_group, summarise

    groups = [per_group(measured, field) for field in setting.group_by]
    sections = [per_file(measured), *groups, [summarise("all", measured)]]
    console = Console(highlight=False)
    search = "" if setting.beam is None else f", beam of {setting.beam.size}"
    console.print(_table(f"{setting.model}, {setting.mode}{search}", COLUMNS, sections, error_row))
    console.print(
        "WER, CER: wrong words, characters; invented: words read where nobody speaks; "
        "RTF: seconds per second of audio",
        style="dim",
    )
    if setting.mode == "stream":
        console.print(_table("latency and flicker", STREAM_COLUMNS, sections, latency_row))
        console.print(
            "p50 p95 p99; words: from a word's end to the first caption that shows it; "
            "flicker: words changed after they were shown, per word",
            style="dim",
        )


def _table(
    title: str,
    columns: Sequence[str],
    sections: "Sequence[Sequence[Summary]]",
    row: "Callable[[Summary], tuple[str, ...]]",
) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    for section in sections:
        for summary in section:
            name, *figures = row(summary)
            table.add_row(Text(name), *figures)
        table.add_section()
    return table


def _write_files(
    setting: "Setting",
    measured: "Sequence[Measured]",
    problems: Sequence[str],
    json_file: Path | None,
    plot: Path | None,
) -> None:
    from stream_server.evaluation.chart import draw_chart
    from stream_server.evaluation.report import as_json
    from stream_server.evaluation.result import per_file, per_group

    if json_file is not None:
        encoded = msgspec.json.encode(as_json(setting, measured, problems))
        json_file.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    if plot is not None:
        bars = [bar for field in setting.group_by for bar in per_group(measured, field)] or per_file(measured)
        title = f"Word error rate of {setting.model}, {setting.mode}"
        plot.write_text(draw_chart(title, bars), encoding="utf-8")
