"""Anchors: the newest checkpoint of the log of commands, told in the server's.

Who cuts off the end of the log of commands together with its checkpoints would leave a log that is in order
by itself. So a running server writes each new checkpoint of it into its own chain, and ``verify`` compares.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.records.folder import AuditFolder, FolderError
from stream_server.records.line import Entry

_NOTE = "note"


class CommandsEnd:
    """Watches where the log of commands ends. One thread.

    Args:
        commands: The log of commands; it need not exist.
    """

    def __init__(self, commands: AuditFolder) -> None:
        self._commands = commands
        self._anchored: str | None = None

    def anchor(self) -> AuditEvent | None:
        """What is to be written, as long as ``mark_written`` has not been called for it; None: nothing.

        Raises:
            FolderError: The checkpoints cannot be read.
            OSError: Nor can the folder.
        """
        note = self._newest()
        if note is None or note == self._anchored:
            return None
        return AuditEvent(
            AuditAction.LOG_ANCHOR, Outcome.SUCCESS, resource="log:commands", detail={_NOTE: note}
        )

    def mark_written(self, event: AuditEvent) -> None:
        """An anchor is on the disk."""
        self._anchored = str(event.detail[_NOTE])

    def _newest(self) -> str | None:
        """The last checkpoint; None where there is none, or a command writes at this moment."""
        with _shared(self._commands) as is_still:
            numbers = self._commands.note_numbers() if is_still else []
            notes = self._commands.read_notes(numbers[-1]) if numbers else []
        return notes[-1] if notes else None


@contextmanager
def _shared(folder: AuditFolder) -> Iterator[bool]:
    """Keep commands from writing meanwhile; False where one does already, or there is no log.

    So that nothing is told of which a command on a full disk takes back a half.
    """
    try:
        lock = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def anchored_note(entry: Entry) -> tuple[int, str] | None:
    """The file's number and the checkpoint that an entry tells of, not yet checked; None: it is no anchor.

    Raises:
        FolderError: It is one that names no file.
    """
    if entry.action != AuditAction.LOG_ANCHOR:
        return None
    note = str(entry.detail.get(_NOTE, ""))
    number = note.partition("\n")[0].rpartition("/")[2]
    if not (number.isascii() and number.isdigit() and len(number) == 6):
        raise FolderError(f"entry {entry.seq}: it tells of no checkpoint")
    return int(number), note
