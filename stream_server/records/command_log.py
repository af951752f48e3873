"""The audit log of commands: what was done on the machine itself, beside the running server.

One process writes one log, and a running server holds its own as long as it runs. So commands share a second
one, in the folder ``commands`` of the first, with a chain and keys of its own. A command opens it, adds its
entries, signs them and lets go, within milliseconds; others wait for that.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from stream_server.core.audit import AuditEvent
from stream_server.records.errors import AuditError, AuditInUse
from stream_server.records.folder import AuditFolder
from stream_server.records.second_place import SecondPlace
from stream_server.records.writer import AuditSettings, AuditWriter

WAIT_S = 10.0
"""How long a command waits for others that write their entries."""
_RETRY_S = 0.02


def commands_in(folder: AuditFolder) -> AuditFolder:
    """Where the log of commands lies that belongs to a server's log, or to the copies of its checkpoints."""
    return AuditFolder(folder.path / "commands")


class CommandLog:
    """The log of commands; each ``write`` opens and closes it.

    Args:
        folder: The server's log, which need not exist.
        copies: The second place of its checkpoints, if there is one.
        settings: See ``AuditSettings``.
        host: This machine's name.
        clock: UTC time.
        on_copy_failure: Called when a checkpoint could not be copied to the second place.
    """

    def __init__(
        self,
        folder: Path,
        copies: Path | None,
        settings: AuditSettings,
        host: str,
        clock: Callable[[], datetime],
        on_copy_failure: Callable[[], None],
    ) -> None:
        self._server_log = folder
        self._folder = commands_in(AuditFolder(folder)).path
        copies = None if copies is None else commands_in(AuditFolder(copies)).path
        self._second = SecondPlace(copies, on_copy_failure)
        self._settings = settings
        self._host = host
        self._clock = clock

    def write(self, events: Sequence[AuditEvent]) -> None:
        """Put events on the disk and sign them. Blocks for ``WAIT_S`` at most.

        Raises:
            AuditError: They could not be written; says what to do.
        """
        self._with_writer(lambda writer: writer.write(events))

    def rotate(self) -> None:
        """Have another key sign from here on. Blocks for ``WAIT_S`` at most.

        Raises:
            AuditError: As ``write``.
        """
        self._with_writer(AuditWriter.rotate)

    def _with_writer(self, step: Callable[[AuditWriter], None]) -> None:
        owner = _owner_of_nearest(self._server_log)
        try:
            self._server_log.mkdir(mode=0o700, parents=True, exist_ok=True)
            writer = self._open()
            try:
                step(writer)
                writer.tidy()
            finally:
                writer.close()
            if os.geteuid() == 0:
                self._give_to(owner)
        except OSError as exc:
            raise AuditError(f"{self._folder}: the audit log cannot be written ({exc.strerror})") from exc

    def _open(self) -> AuditWriter:
        end_s = time.monotonic() + WAIT_S
        while True:
            try:
                return AuditWriter(
                    self._folder, self._settings, self._host, self._clock, self._second.publish
                )
            except AuditInUse:
                if time.monotonic() > end_s:
                    raise
                time.sleep(_RETRY_S)

    def _give_to(self, owner: tuple[int, int]) -> None:
        """Let the server's user read what root has written: the report and its check run as that user."""
        for path in (self._server_log, self._folder, *self._folder.iterdir()):
            if path.lstat().st_uid == 0 and owner[0] != 0:
                os.chown(path, *owner, follow_symlinks=False)


def _owner_of_nearest(path: Path) -> tuple[int, int]:
    """User and group of the folder, or of the nearest above it that exists."""
    nearest = next(one for one in (path, *path.absolute().parents) if one.exists())
    return nearest.stat().st_uid, nearest.stat().st_gid
