"""Having another key sign the audit log, whether or not a server writes it at the moment."""

import os
import socket
from collections.abc import Callable
from datetime import datetime

from stream_server.records.audit_log import utc_now
from stream_server.records.errors import AuditError, AuditInUse
from stream_server.records.folder import AuditFolder
from stream_server.records.writer import AuditSettings, AuditWriter

WAIT_S = 10.0
"""A server looks about once a second."""
LOOK_S = 0.1


class RotationTimeout(Exception):
    """Raised when the server that writes the log did not do what it was asked; it still may."""


def rotate_audit_key(
    folder: AuditFolder,
    publish: Callable[[int, str], None],
    sleep: Callable[[float], None],
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Have another key sign a log; see ``AuditWriter.rotate``.

    A server that writes the log is asked by a file in it. Without one it is done here, unless root asks about
    the log of another user.

    Args:
        folder: With a log.
        publish: As for ``AuditWriter``; used when no server runs.
        sleep: As ``time.sleep``.
        clock: As for ``AuditWriter``.

    Returns:
        The number of the file that the new key signs.

    Raises:
        AuditError: There is no log, or it cannot be written.
        RotationTimeout: The server did not answer.
    """
    if not folder.first_key_file.exists():
        raise AuditError(f"{folder.path}: there is no audit log here")
    if os.geteuid() == 0 and folder.path.stat().st_uid != 0:
        # The server's user could not read a key that root has made.
        return _ask(folder, sleep)
    try:
        writer = AuditWriter(folder.path, AuditSettings(), socket.gethostname(), clock, publish)
    except AuditInUse:
        return _ask(folder, sleep)
    try:
        writer.rotate()
        return writer.number
    except OSError as exc:
        raise AuditError(f"{folder.path}: {exc.strerror}") from exc
    finally:
        writer.close()


def _ask(folder: AuditFolder, sleep: Callable[[float], None]) -> int:
    try:
        folder.rotation_request.touch(mode=0o600)
    except OSError as exc:
        raise AuditError(f"{folder.rotation_request}: {exc.strerror}") from exc
    for _ in range(round(WAIT_S / LOOK_S)):
        if not folder.rotation_request.exists():
            return folder.numbers()[-1]
        sleep(LOOK_S)
    raise RotationTimeout(
        f"no server has changed the key of {folder.path} within {WAIT_S:g} s. One that runs says why in its"
        " log and goes on trying; one that starts does it then. To take the wish back, delete"
        f" {folder.rotation_request}"
    )
