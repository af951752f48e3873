"""The audit log of a running server: a queue, and the thread that writes it.

Events that nobody waits for are written within milliseconds and survive a short trouble of the disk in the
queue. Events that must not be lost, such as an admission, are awaited; while they cannot be written,
nobody is admitted. Repetitions of one refusal by one address are counted rather than written one by one,
so that a flood of connections does not fill the disk.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stream_server.core.audit import AuditEvent
from stream_server.errors import AuditUnavailable
from stream_server.ops.log import fields
from stream_server.records.anchor import CommandsEnd
from stream_server.records.command_log import commands_in
from stream_server.records.folder import AuditFolder, FolderError
from stream_server.records.repeats import Repeats
from stream_server.records.writer import AuditSettings, AuditWriter

_log = logging.getLogger(__name__)

QUEUE_MAX = 10_000
BATCH_MAX = 256
RETRY_S = 1.0
ANCHOR_S = 60.0
"""How often a server with nothing to sign looks whether commands have written their log."""


@dataclass(slots=True)
class _Item:
    event: AuditEvent
    written: Future[None] | None
    """Somebody waits for it."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class AuditLog:
    """See the module. ``record`` and ``secure`` may be called from any thread.

    Args:
        folder: Where the log lies.
        settings: See ``AuditSettings``.
        host: This machine's name.
        publish: Takes the number of the file and each checkpoint to a second place, on the log's thread.
        clock: UTC time.

    Raises:
        AuditError: The log cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        settings: AuditSettings,
        host: str,
        publish: Callable[[int, str], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._writer = AuditWriter(folder, settings, host, clock, publish)
        self._commands_end = CommandsEnd(commands_in(AuditFolder(folder)))
        self._look_s = time.monotonic() + ANCHOR_S
        self._repeats = Repeats()
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._is_writing = True
        self.n_failures = 0
        """Writes that failed."""
        self.n_dropped = 0
        """Events nobody waited for that found the queue full."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def is_available(self) -> bool:
        """Whether the last write worked and the queue has room."""
        return self._is_writing and len(self._queue) < QUEUE_MAX

    @property
    def n_waiting(self) -> int:
        """Events not on the disk yet."""
        return len(self._queue)

    def record(self, event: AuditEvent) -> None:
        """Have an event written soon; repetitions of a refusal are counted instead."""
        with self._changed:
            if self._repeats.is_repetition(event, time.monotonic()):
                return
            if len(self._queue) >= QUEUE_MAX:
                self.n_dropped += 1
                return
            self._queue.append(_Item(event, None))
            self._changed.notify()

    async def secure(self, event: AuditEvent) -> None:
        """Return when the event is on the disk.

        Raises:
            AuditUnavailable: It cannot be written.
        """
        await asyncio.wrap_future(self._enqueue(event))

    def _enqueue(self, event: AuditEvent) -> Future[None]:
        written: Future[None] = Future()
        with self._changed:
            if self._is_stopping or len(self._queue) >= QUEUE_MAX:
                written.set_exception(_unavailable())
            else:
                self._queue.append(_Item(event, written))
                self._changed.notify()
        return written

    def close(self) -> None:
        """Write what waits, sign it, and let go of the log. Blocks for as long as the disk takes."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    # ------------------------------------------------------------ thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._is_stopping:
                    self._changed.wait(RETRY_S)
                for event in self._repeats.due(time.monotonic(), everything=self._is_stopping):
                    self._queue.append(_Item(event, None))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
                is_last = self._is_stopping and not self._queue
            is_written = self._write(batch)
            if is_last or (self._is_stopping and not is_written):
                break
            if not is_written:
                time.sleep(RETRY_S)
        try:
            try:
                self._anchor()
            finally:
                self._writer.close()
        except OSError as exc:
            self._report(exc)

    def _write(self, batch: list[_Item]) -> bool:
        """Write a batch and what is due besides; returns whether it worked."""
        try:
            if batch:
                self._writer.write([item.event for item in batch])
        except OSError as exc:
            self._report(exc)
            self._give_back(batch)
            return False
        self._is_writing = True
        for item in batch:
            if item.written is not None and not item.written.cancelled():
                item.written.set_result(None)
        try:
            if self._writer.is_rotation_asked:
                self._writer.rotate()
                _log.info("audit_key_rotated")
            if self._writer.is_checkpoint_due or time.monotonic() >= self._look_s:
                self._anchor()
                self._writer.checkpoint()
            if not batch:
                self._writer.tidy()
        except OSError as exc:
            self._report(exc)
            return False
        return True

    def _anchor(self) -> None:
        """Tell where the log of commands ends, if it has grown."""
        self._look_s = time.monotonic() + ANCHOR_S
        try:
            event = self._commands_end.anchor()
        except (FolderError, OSError) as exc:
            # Commands go on without: `audit verify` names what is wrong with their log.
            _log.error("audit_commands_unreadable", extra=fields(error=str(exc)))
            return
        if event is not None:
            self._writer.write([event])
            self._commands_end.mark_written(event)

    def _give_back(self, batch: list[_Item]) -> None:
        """Tell those who wait; keep what nobody waits for."""
        self._is_writing = False
        kept = []
        for item in batch:
            if item.written is None:
                kept.append(item)
            elif not item.written.cancelled():
                item.written.set_exception(_unavailable())
        with self._changed:
            self._queue.extendleft(reversed(kept))

    def _report(self, exc: OSError) -> None:
        self.n_failures += 1
        _log.error("audit_write_failed", extra=fields(error=exc.strerror))


def _unavailable() -> AuditUnavailable:
    return AuditUnavailable("the server cannot keep its audit log; try again later")
