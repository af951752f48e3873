"""What an operator asks of an audit log: what happened, and whether the record can be believed."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge

import msgspec

from stream_server.records.command_log import commands_in
from stream_server.records.folder import AuditFolder, TornLine
from stream_server.records.line import Entry, decode
from stream_server.records.report import Report, make_report
from stream_server.records.verify import NO_ANCHORS, Anchors, Checked, Integrity, Verdict, check

HISTORY = timedelta(days=30)
"""Read before a report's period, to know what is new in it."""


class Summary(msgspec.Struct, frozen=True):
    """A report, and how far the log it was made from can be trusted."""

    report: Report
    integrity: Verdict
    commands: Verdict | None
    """Of the log of commands; None where there is none."""


def summarise(folder: AuditFolder, second: AuditFolder | None, hours: int, now: datetime) -> Summary:
    """Report on the last hours, and check both logs whole. Takes a core for 20 to 30 s per million entries.

    Args:
        folder: The server's log, in which that of commands lies; both may be written meanwhile.
        second: Copies of their checkpoints.
        hours: Length of the period.
        now: End of the period, UTC.

    Raises:
        FolderError: A file cannot be read.
        LineError: A line is not an entry.
    """
    since = now - timedelta(hours=hours)
    report = make_report(entries(folder, since - HISTORY), since, now)
    return Summary(report, *verify_logs(folder, second))


def entries(folder: AuditFolder, since: datetime | None = None) -> Iterator[Entry]:
    """The entries of the server and of commands, by their time.

    Args:
        folder: The server's log, in which that of commands lies.
        since: What lies before may be left out, file by file; None for everything.

    Raises:
        FolderError: A file cannot be read.
        LineError: A line is not an entry.
    """
    commands = commands_in(folder)
    own = _entries(folder, since)
    return merge(own, _entries(commands, since), key=_time) if commands.path.exists() else own


def _time(entry: Entry) -> datetime:
    return entry.time


def _entries(folder: AuditFolder, since: datetime | None) -> Iterator[Entry]:
    numbers = folder.numbers()
    if since is not None:
        earlier = [number for number in numbers if _begins_before(folder, number, since)]
        numbers = numbers[max(0, len(earlier) - 1) :]
    for number in numbers:
        try:
            for line in folder.lines(number):
                yield decode(line)
        except TornLine:
            # It is being written at this moment; or a crash cut it off, which ``verify`` tells.
            return


def _begins_before(folder: AuditFolder, number: int, moment: datetime) -> bool:
    first = next(folder.lines(number), None)
    return first is not None and decode(first).time <= moment


def verify_logs(
    folder: AuditFolder, second: AuditFolder | None = None, first_key: bytes | None = None
) -> tuple[Verdict, Verdict | None]:
    """Check the log of a server and that of commands in it, the second against what the first tells of it.

    Both may be written meanwhile.

    Args:
        folder: The server's log.
        second: Copies of their checkpoints.
        first_key: The first public key of the server's log, as noted elsewhere.

    Returns:
        The verdicts; None for commands where neither their log is, nor a copy, nor an anchor.
    """
    # First the server's: what it tells of the other is there by the time that one is read.
    server = _check_in_use(folder, second, first_key)
    commands = commands_in(folder)
    copies = None if second is None else commands_in(second)
    if copies is not None and not copies.path.exists():
        copies = None
    if not commands.path.exists() and copies is None and not server.anchors:
        return server.verdict, None
    return server.verdict, _check_in_use(commands, copies, anchors=server.anchors).verdict


def _check_in_use(
    folder: AuditFolder,
    second: AuditFolder | None = None,
    first_key: bytes | None = None,
    anchors: Anchors = NO_ANCHORS,
) -> Checked:
    """Check a log to which somebody may be writing.

    A server that begins a new file or packs an old one changes the folder while it is read. So a fault counts
    when it is found a second time, which is after such a moment.
    """
    checked = check(folder, second, first_key, anchors)
    if checked.verdict.integrity is Integrity.INTACT:
        return checked
    return check(folder, second, first_key, anchors)
