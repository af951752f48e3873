"""The security report for whoever asks the running server: made aside, one at a time, kept for a moment."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

from stream_server.errors import AuditUnavailable
from stream_server.ops.log import fields

_log = logging.getLogger(__name__)

HOURS = 24
KEEP_S = 10.0
"""How long a report is given again instead of being made anew, or its failure told again."""
TIMEOUT_S = 120.0
"""A few million entries."""
_MODULE = "stream_server.records.report_process"


class ReportDesk:
    """Makes reports in another process. Its methods are for the loop's thread, and none of them blocks.

    Args:
        folder: The audit log.
        copies: The second place of its checkpoints, if there is one.
        timeout_s: After which a report is given up.
    """

    def __init__(self, folder: Path, copies: Path | None, timeout_s: float = TIMEOUT_S) -> None:
        second = [] if copies is None else ["--second", str(copies)]
        self._command = [sys.executable, "-m", _MODULE, str(folder), *second, "--hours", str(HOURS)]
        self._timeout_s = timeout_s
        self._making: asyncio.Task[None] | None = None
        self._result: bytes | None = None
        """Of the last attempt; None when it failed."""
        self._ended_s: float | None = None
        self._lock = threading.Lock()
        """Guards the two below, which the thread that waits for the process shares with ``close``."""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def ask(self) -> bytes | None:
        """The report as JSON, see ``stream_server.records.summary``; None while it is being made.

        Raises:
            AuditUnavailable: It could not be made.
        """
        if self._making is not None:
            return None
        if self._ended_s is not None and time.monotonic() - self._ended_s < KEEP_S:
            if self._result is None:
                raise AuditUnavailable(
                    "the report could not be made; look at it with: stream-server audit report"
                )
            return self._result
        self._making = asyncio.create_task(self._make())
        return None

    async def close(self) -> None:
        """End what is being made."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
        if self._making is not None:
            await self._making

    async def _make(self) -> None:
        self._result = None
        try:
            self._result = await asyncio.to_thread(self._run)
        except (OSError, subprocess.SubprocessError) as exc:
            # Its words may name files: they are for the operator's log, not for the page.
            _log.error("report_failed", extra=fields(error=str(exc)))
        finally:
            self._ended_s = time.monotonic()
            self._making = None

    def _run(self) -> bytes:
        with self._lock:
            if self._is_closed:
                raise subprocess.SubprocessError("the server is stopping")
            self._process = subprocess.Popen(  # noqa: S603  a command of ours
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        with self._process as process:
            try:
                report, said = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            finally:
                with self._lock:
                    self._process = None
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise subprocess.SubprocessError(f"exit code {process.returncode}: {last}")
        return report
