"""Copies of the checkpoints, out of reach of whoever might edit the log."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from stream_server.ops.log import fields
from stream_server.records.folder import AuditFolder

_log = logging.getLogger(__name__)

PENDING_MAX = 1_440
"""Checkpoints kept while the folder cannot be written: a day of one a minute."""


class SecondPlace:
    """Says each checkpoint in the server's log, and appends it to a folder if there is one.

    Args:
        folder: Such as a mount of another machine's disk; None leaves it to the server's log.
        on_failure: Called when a copy could not be written; it is tried again with the next checkpoint.
    """

    def __init__(self, folder: Path | None, on_failure: Callable[[], None]) -> None:
        self._folder = AuditFolder(folder) if folder is not None else None
        self._on_failure = on_failure
        self._pending: list[tuple[int, str]] = []

    def publish(self, number: int, note: str) -> None:
        """Take a checkpoint of the file of this number."""
        _log.info("audit_checkpoint", extra=fields(note=note))
        if self._folder is None:
            return
        self._pending.append((number, note))
        try:
            while self._pending:
                self._append(self._folder.notes(self._pending[0][0]), self._pending[0][1])
                del self._pending[0]
        except OSError as exc:
            _log.error("audit_copy_failed", extra=fields(error=exc.strerror))
            del self._pending[:-PENDING_MAX]
            self._on_failure()

    def _append(self, path: Path, note: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(file).st_size
            data = note.encode()
            if os.write(file, data) < len(data):
                os.ftruncate(file, before)
                raise OSError(28, "No space left on device")
            os.fsync(file)
        finally:
            os.close(file)
