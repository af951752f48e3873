"""``stream-server audit``: check the audit log, sum it up, hand it to other systems."""

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream_server.records.command_log import commands_in
from stream_server.records.export import csv_lines, ocsf_lines
from stream_server.records.folder import AuditFolder, FolderError, read_public_key
from stream_server.records.line import LineError
from stream_server.records.report import Counted, Report
from stream_server.records.summary import entries, summarise, verify_logs
from stream_server.records.verify import Integrity, Verdict
from stream_server.state_folder import state_dir

app = typer.Typer(
    help="Check the audit log, sum it up, hand it to other systems.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        help="Folder with audit/; else $STREAM_SERVER_STATE, else ~/.local/share/stream-server.",
        show_default=False,
    ),
]
Hours = Annotated[int, typer.Option(min=1, help="Length of the period in hours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class ExportFormat(StrEnum):
    """What ``export`` writes."""

    OCSF = "ocsf"
    CSV = "csv"


@app.command("verify", short_help="Check that nothing in the log was changed.")
def verify_command(
    state: StateDir = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the copies of the checkpoints (audit.checkpoint_folder of the configuration).",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The log's first public key as you kept it elsewhere. [default: first.pub in the log]",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every line, checkpoint and key of the log, and of that of the commands run on this machine.

    An old copy of the log in the place of the new one shows only with --checkpoints, a wholly new log only
    with --key. Exit codes: 0 intact, 2 edited, 3 shorter than it was, 4 unreadable.
    """
    folder = _folder(state)
    with _one_line_errors():
        second = AuditFolder(checkpoints) if checkpoints else None
        verdict, commands = verify_logs(folder, second, read_public_key(key) if key else None)
    if as_json:
        typer.echo(msgspec.json.encode({**msgspec.to_builtins(verdict), "commands": commands}).decode())
    else:
        _show_verdicts(verdict, commands, folder)
    raise typer.Exit(_worse(verdict, commands).value)


@app.command(short_help="Sum up the last hours.")
def report(state: StateDir = None, hours: Hours = 24, as_json: Json = False) -> None:
    """Sum up the last hours: totals, failures, denials, quotas, what expires, what looks suspicious."""
    folder = _folder(state)
    until = datetime.now(UTC)
    with _one_line_errors():
        summary = summarise(folder, None, hours, until)
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        _show_report(summary.report)
        _show_verdicts(summary.integrity, summary.commands, folder)
    if (worse := _worse(summary.integrity, summary.commands)) is not Integrity.INTACT:
        raise typer.Exit(worse.value)


@app.command(short_help="Write the entries for other systems.")
def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="ocsf: JSON lines; csv: with a header.")],
    state: StateDir = None,
    hours: Annotated[
        int | None, typer.Option(min=1, help="Only the last hours. [default: everything]", show_default=False)
    ] = None,
) -> None:
    """Write the entries to standard output in a form that other systems read."""
    since = datetime.now(UTC) - timedelta(hours=hours) if hours else datetime.min.replace(tzinfo=UTC)
    write = ocsf_lines if form is ExportFormat.OCSF else csv_lines
    with _one_line_errors():
        for text in write(entry for entry in entries(_folder(state), since) if entry.time >= since):
            sys.stdout.write(text)


@app.command(short_help="Print the log's first public key.")
def key(state: StateDir = None) -> None:
    """Print the log's first public key: keep it where nobody who can write the log can change it."""
    with _one_line_errors():
        typer.echo(base64.b64encode(_folder(state).first_key()).decode())


def _folder(state: Path | None) -> AuditFolder:
    return AuditFolder(state_dir(state) / "audit")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (FolderError, LineError) as exc:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {exc}")
        raise typer.Exit(Integrity.UNREADABLE.value) from exc


def _worse(verdict: Verdict, commands: Verdict | None) -> Integrity:
    """The fault of the server's log, or else that of the log of commands."""
    if commands is None or verdict.integrity is not Integrity.INTACT:
        return verdict.integrity
    return commands.integrity


def _show_verdicts(verdict: Verdict, commands: Verdict | None, folder: AuditFolder) -> None:
    _show_verdict(verdict, folder)
    if commands is not None:
        typer.echo("and of the commands run on this machine:")
        _show_verdict(commands, commands_in(folder))


def _show_verdict(verdict: Verdict, folder: AuditFolder) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if verdict.integrity is not Integrity.INTACT:
        console.print(f"[bold red]{verdict.integrity.name.lower()}:[/] {verdict.problem}")
        console.print(f"{verdict.n_entries} entries before that are in order.")
        return
    console.print(
        f"[green]intact:[/] {verdict.n_entries} entries, {verdict.n_checkpoints} checkpoints, "
        f"{verdict.n_uncovered} entries not signed yet ({folder.path})"
    )
    if verdict.n_anchors:
        console.print(f"It ends no earlier than the {verdict.n_anchors} anchors in the server's log say.")
    elif not verdict.has_second_place:
        console.print(
            "[yellow]compared with nothing kept elsewhere:[/] an old copy of the log would pass too; "
            "give --checkpoints FOLDER and --key FILE"
        )


def _show_report(summary: Report) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{summary.since} to {summary.until}[/]")
    console.print(
        f"{summary.n_entries} entries, {summary.admitted} requests admitted, {summary.turned_away} turned "
        f"away, {summary.sessions} sessions ended, {summary.audio_s} s of audio"
    )
    for title, counted in (
        ("outcomes", summary.outcomes),
        ("actions", summary.actions),
        ("failures by reason", summary.failures_by_reason),
        ("failures by address", summary.failures_by_address),
        ("denied", summary.denied),
        ("quota hits", summary.quota_hits),
        ("identities", summary.identities),
        ("loaded", summary.loads),
    ):
        _show_counts(console, title, counted)
    for expiring in summary.expiring:
        console.print(f"[yellow]expires {expiring.not_after}[/]  {_printable(expiring.identity)}")
    for suspicion in summary.suspicions:
        console.print(f"[yellow]{suspicion.rule}[/]  {suspicion.ts}  {_printable(suspicion.detail)}")


def _show_counts(console: Console, title: str, counted: list[Counted]) -> None:
    if not counted:
        return
    table = Table.grid(padding=(0, 2))
    for item in counted:
        table.add_row(f"{item.n:>8}", _printable(item.what))
    console.print(f"\n[bold]{title}[/]")
    console.print(table)


def _printable(text: str) -> str:
    """An edited log may hold what commands a terminal."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
