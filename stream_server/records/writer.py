"""Writes the audit log: lines, checkpoints, a new file and key each day. No threads, no clock of its own.

A batch of events is on the disk when ``write`` returns, or nothing of it is: what a failed write left
behind is cut off again. At start the whole current file is read, so a log that was edited while the server
was down is noticed before anything is appended to it.
"""

import fcntl
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.records import line
from stream_server.records.errors import AuditError, AuditInUse
from stream_server.records.folder import AuditFolder, FolderError, TornLine
from stream_server.records.line import LineError
from stream_server.records.merkle import MerkleTree
from stream_server.records.note import (
    Checkpoint,
    NoteError,
    announced_key,
    open_note,
    public_bytes,
    sign,
)
from stream_server.records.private_files import open_private, pack, sync_names, write_private
from stream_server.records.signing_keys import load_key, pem, public_text

VERIFY_COMMAND = "stream-server audit verify"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """When a file and a checkpoint end, and how long entries are kept."""

    file_bytes_max: int = 64 * 1024 * 1024
    checkpoint_events: int = 1_000
    checkpoint_s: float = 60.0
    keep_days: int = 0
    """Files whose last entry is older are deleted; their checkpoints stay. 0: kept for ever."""


class AuditWriter:
    """The one writer of an audit log.

    Args:
        folder: The log; made if missing.
        settings: See ``AuditSettings``.
        host: This machine's name, written into each entry.
        clock: UTC time.
        publish: Takes the number of the file and each new checkpoint to a second place.

    Raises:
        AuditError: Another process writes it, a file cannot be used, or the log was edited.
    """

    def __init__(
        self,
        folder: Path,
        settings: AuditSettings,
        host: str,
        clock: Callable[[], datetime],
        publish: Callable[[int, str], None],
    ) -> None:
        self._folder = AuditFolder(folder)
        self._settings = settings
        self._host = host
        self._clock = clock
        self._publish = publish
        self._seq = 0
        self._n_signed = 0
        """Lines of the file at its last checkpoint."""
        self._unsigned_since: datetime | None = None
        self._tree = MerkleTree()
        self._day: date | None = None
        """Of the file's first entry."""
        self._is_tidy = False
        self._following: Ed25519PrivateKey | None = None
        """The next file's key, between the closing checkpoint and the first entry after it."""
        self._named: Ed25519PrivateKey | None = None
        """The next file's key, between the entry that names it and the closing checkpoint."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = open_private(self._folder.lock, os.O_RDWR | os.O_CREAT)
        except OSError as exc:
            raise AuditError(f"{folder}: the audit log cannot be kept here ({exc.strerror})") from exc
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    # ------------------------------------------------------------ start

    def _open(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuditInUse(f"{self._folder.path}: another process writes this audit log") from None
        try:
            if not self._folder.first_key_file.exists():
                self._begin_log()
            self._origin = self._folder.origin()
            self._prev = line.genesis(self._origin)
            self._resume()
        except OSError as exc:
            raise AuditError(f"{exc.filename}: {exc.strerror}") from exc
        except (FolderError, LineError, NoteError) as exc:
            raise AuditError(f"{exc}; look at it with: {VERIFY_COMMAND}") from exc

    def _begin_log(self) -> None:
        if self._folder.numbers():
            raise AuditError(
                f"{self._folder.first_key_file} is missing but there are entries; put it back from a backup, "
                "or move the folder aside to begin a new log"
            )
        key = Ed25519PrivateKey.generate()
        write_private(self._folder.signing_key, pem(key))
        write_private(self._folder.origin_file, f"stream-server-audit/{secrets.token_hex(8)}\n".encode())
        encoded = public_text(key).encode() + b"\n"
        # Last: where it is, the other two are.
        write_private(self._folder.first_key_file, encoded)

    def _resume(self) -> None:
        """Find the place to go on: the last file, its last line, its key."""
        numbers = self._folder.numbers()
        noted = self._folder.note_numbers()
        self._number = max(numbers, default=1)
        if noted and noted[-1] > self._number:
            raise AuditError(
                f"file {noted[-1]:06d} of {self._folder.path} is missing; look at it with: {VERIFY_COMMAND}"
            )
        self._signing_key = self._load_key()
        n_torn = self._read_current()
        notes = self._folder.read_notes(self._number)
        if notes:
            signed = open_note(notes[-1], public_bytes(self._signing_key.public_key()))
            self._n_signed = signed.size
        path = self._folder.entries(self._number)
        if self._n_signed > self._tree.size:
            raise AuditError(
                f"{path} is shorter than its last checkpoint says; look at it with: {VERIFY_COMMAND}"
            )
        self._file = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._n_bytes = os.fstat(self._file).st_size
        if n_torn:
            detail: dict[str, str | int] = {"file": f"{self._number:06d}", "bytes": n_torn}
            self.write([AuditEvent(AuditAction.LOG_RECOVER, Outcome.SUCCESS, detail=detail)])

    def _load_key(self) -> Ed25519PrivateKey:
        """The key of the current file; ends a change of files that a crash interrupted."""
        folder = self._folder
        notes = folder.read_notes(self._number)
        announced = announced_key(notes[-1]) if notes else None
        upcoming = folder.next_signing_key
        if upcoming.exists():
            if announced == public_text(load_key(upcoming)):
                self._take_next_key()
            else:
                upcoming.unlink()
        if not folder.signing_key.exists():
            raise AuditError(f"{folder.signing_key} is missing; move {folder.path} aside to begin a new log")
        key = load_key(folder.signing_key)
        if announced is not None:
            if announced != public_text(key):
                raise AuditError(
                    f"{folder.signing_key} is not the key that follows file {self._number:06d}; look at it "
                    f"with: {VERIFY_COMMAND}"
                )
            self._number += 1
        return key

    def _read_current(self) -> int:
        """Read the end of the file before and the whole of this one, to go on where they end.

        Returns the bytes of a torn last line, which is cut off: nobody was told that it is on the disk.
        """
        before = [number for number in self._folder.numbers() if number < self._number]
        ends = deque(self._folder.lines(before[-1]) if before else (), maxlen=1)
        for content in ends:
            self._seq, self._prev = line.decode(content).seq + 1, line.digest(content)
        path = self._folder.entries(self._number)
        if not path.exists():
            return 0
        n_bytes = 0
        try:
            for content in self._folder.lines(self._number):
                entry = line.decode(content)
                if not n_bytes and not before and self._number > 1:
                    self._seq, self._prev = entry.seq, entry.prev  # all files before have expired
                if entry.seq != self._seq or entry.prev != self._prev:
                    raise AuditError(
                        f"{path}, entry {self._seq}: it does not follow the one before; look at it with: "
                        f"{VERIFY_COMMAND}"
                    )
                self._take(content)
                self._day = self._day or entry.time.date()
                n_bytes += len(content) + 1
        except TornLine:
            n_torn = path.stat().st_size - n_bytes
            with open(path, "r+b", opener=open_private) as file:
                file.truncate(n_bytes)
            return n_torn
        return 0

    def _take(self, content: bytes) -> None:
        self._tree.add(content)
        self._seq += 1
        self._prev = line.digest(content)

    # ------------------------------------------------------------ writing

    def write(self, events: Sequence[AuditEvent]) -> None:
        """Put events on the disk, all or none.

        Raises:
            OSError: They are not on the disk.
        """
        now = self._clock()
        if self._is_file_full(now):
            self._change_file()
        seq, prev, lines = self._seq, self._prev, []
        for event in events:
            entry = line.entry_of(event, seq=seq, prev=prev, host=self._host, when=now)
            content = line.encode(entry)
            if len(content) > line.LINE_BYTES_MAX:
                raise AssertionError(f"an entry of action {event.action} is longer than a line may be")
            lines.append(content)
            seq, prev = seq + 1, line.digest(content)
        self._append(b"".join(content + b"\n" for content in lines))
        for content in lines:
            self._take(content)
        self._day = self._day or now.date()
        self._n_bytes += sum(len(content) + 1 for content in lines)
        self._unsigned_since = self._unsigned_since or now

    def _is_file_full(self, now: datetime) -> bool:
        is_new_day = self._day is not None and now.date() > self._day
        return is_new_day or self._n_bytes >= self._settings.file_bytes_max

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(28, "No space left on device")
            os.fdatasync(self._file)
        except OSError:
            # A half-written line must not stand before the next one.
            with suppress(OSError):
                os.ftruncate(self._file, self._n_bytes)
            raise

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether entries have waited for a signature long enough."""
        if self._unsigned_since is None:
            return False
        age_s = (self._clock() - self._unsigned_since).total_seconds()
        n_unsigned = self._tree.size - self._n_signed
        return n_unsigned >= self._settings.checkpoint_events or age_s >= self._settings.checkpoint_s

    def checkpoint(self) -> None:
        """Sign what has been written, if anything has since the last time.

        Raises:
            OSError: The checkpoint is not on the disk.
        """
        if self._tree.size > self._n_signed:
            self._note(Checkpoint(self._file_origin, self._tree.size, self._tree.root()))
        self._unsigned_since = None

    def _note(self, checkpoint: Checkpoint) -> None:
        note = sign(checkpoint, self._signing_key)
        path = self._folder.notes(self._number)
        before = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab", opener=open_private) as file:
                file.write(note.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise
        self._n_signed = checkpoint.size
        self._publish(self._number, note)

    @property
    def _file_origin(self) -> str:
        return f"{self._origin}/{self._number:06d}"

    # ------------------------------------------------------------ change of files

    @property
    def number(self) -> int:
        """Of the file that is written."""
        return self._number

    @property
    def is_rotation_asked(self) -> bool:
        """Whether somebody wants another key to sign."""
        return self._folder.rotation_request.exists()

    def rotate(self) -> None:
        """Close the file before its time: another key signs from here on, and the one before is erased.

        An entry that names the new key, and the closing checkpoint, are the last that the old key signs.

        Raises:
            OSError: The disk does not let it; it can be tried again.
        """
        if self._named is None and self._following is None:
            named = Ed25519PrivateKey.generate()
            detail: dict[str, str | int] = {"next_key": public_text(named)}
            self.write(
                [AuditEvent(AuditAction.KEY_ROTATE, Outcome.SUCCESS, resource="key:audit", detail=detail)]
            )
            self._named = named
        self._change_file()
        self._folder.rotation_request.unlink(missing_ok=True)

    def _change_file(self) -> None:
        """Close the file by a checkpoint that names the next key; go on with that in the next file.

        A crash or a full disk may interrupt it anywhere: see ``_load_key``, and ``_following``.
        """
        if self._following is None:
            following = self._named or Ed25519PrivateKey.generate()
            write_private(self._folder.next_signing_key, pem(following))
            next_key = public_bytes(following.public_key())
            self._note(Checkpoint(self._file_origin, self._tree.size, self._tree.root(), next_key))
            self._following = following
        if self._folder.next_signing_key.exists():
            self._take_next_key()
        path = self._folder.entries(self._number + 1)
        file = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.close(self._file)
        self._file, self._number, self._signing_key = file, self._number + 1, self._following
        self._named, self._following, self._unsigned_since, self._day = None, None, None, None
        self._tree, self._n_signed, self._n_bytes = MerkleTree(), 0, 0
        self._is_tidy = False

    def _take_next_key(self) -> None:
        """Make the next key the current one, which erases the key before."""
        self._folder.next_signing_key.replace(self._folder.signing_key)
        sync_names(self._folder.path)

    def tidy(self) -> None:
        """Compress the files that are closed, delete those that are too old. May take seconds.

        Raises:
            OSError: The disk does not let it; it can be tried again.
        """
        if self._is_tidy:
            return
        closed = [number for number in self._folder.numbers() if number < self._number]
        for number in closed:
            if self._folder.entries(number).exists():
                pack(self._folder.entries(number), self._folder.packed(number))
        if self._settings.keep_days:
            self._expire(closed)
        self._is_tidy = True

    def _expire(self, closed: list[int]) -> None:
        limit = (self._clock() - timedelta(days=self._settings.keep_days)).timestamp()
        files = ((number, self._folder.packed(number)) for number in closed)
        expired = list(takewhile(lambda item: item[1].stat().st_mtime < limit, files))
        if expired:
            detail: dict[str, str | int] = {"last_file": expired[-1][0], "days": self._settings.keep_days}
            # First the entry: a file that is gone without one counts as tampering.
            self.write([AuditEvent(AuditAction.LOG_EXPIRE, Outcome.SUCCESS, detail=detail)])
            for _, path in expired:
                path.unlink()

    def close(self) -> None:
        """Sign the rest and let go of the log."""
        try:
            self.checkpoint()
        finally:
            os.close(self._file)
            os.close(self._lock)
