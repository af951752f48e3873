"""Whether an audit log is as it was written: the chain, every checkpoint, every key.

A change inside a file breaks the chain or a checkpoint's root. Cutting the end off, or putting an old copy
of the whole folder back, shows only against checkpoints kept in a second place; so the verdict says
whether there was one. For the log of commands the server's is such a place: see ``records.anchor``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from stream_server.core.audit import AuditAction
from stream_server.records import line
from stream_server.records.anchor import anchored_note
from stream_server.records.folder import AuditFolder, FolderError, TornLine
from stream_server.records.line import LineError
from stream_server.records.merkle import MerkleTree
from stream_server.records.note import Checkpoint, NoteError, open_note


class Integrity(IntEnum):
    """The outcome; its value is the command's exit code."""

    INTACT = 0
    TAMPERED = 2
    TRUNCATED = 3
    UNREADABLE = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found."""

    integrity: Integrity
    n_entries: int
    """Entries that were read and are in order."""
    n_checkpoints: int
    """Checkpoints whose signature and root are right."""
    n_uncovered: int
    """Entries after the last checkpoint: chained, but not signed yet."""
    has_second_place: bool
    """Whether checkpoints kept elsewhere were compared."""
    problem: str | None = None
    """What is wrong, with the file's number and the entry's."""
    n_anchors: int = 0
    """Checkpoints that another log tells of, and that were compared."""


Anchors = Mapping[int, Sequence[str]]
"""By file, the checkpoints that another log tells of."""
NO_ANCHORS: Anchors = {}


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found, in the log and in it about another."""

    verdict: Verdict
    anchors: Anchors
    """Of the log of commands, as far as this log is in order."""


class _Broken(Exception):
    """Carries the verdict out of the walk."""

    def __init__(self, integrity: Integrity, problem: str) -> None:
        super().__init__(problem)
        self.integrity = integrity


@dataclass(slots=True)
class _Walk:
    """State while going through the files."""

    folder: AuditFolder
    second: AuditFolder | None
    anchors: Anchors
    key: bytes
    origin: str
    prev: str
    seq: int = 0
    n_checkpoints: int = 0
    n_uncovered: int = 0
    expired_until: int = 0
    """The last file whose deletion an entry tells of."""
    missing: list[int] = field(default_factory=list)
    told: dict[int, list[str]] = field(default_factory=dict)
    """Anchors of another log that entries of this one hold."""


def verify(folder: AuditFolder, second: AuditFolder | None = None, first_key: bytes | None = None) -> Verdict:
    """Check a log from its first file to its last entry; see ``check``."""
    return check(folder, second, first_key).verdict


def check(
    folder: AuditFolder,
    second: AuditFolder | None = None,
    first_key: bytes | None = None,
    anchors: Anchors = NO_ANCHORS,
) -> Checked:
    """Check a log from its first file to its last entry.

    Args:
        folder: The log.
        second: A folder with copies of the checkpoints, out of reach of whoever might edit the log.
        first_key: Public key of the first file, 32 bytes, as noted when the log began; else the folder's own,
            which somebody who writes a whole new log replaces with it.
        anchors: Checkpoints of this log that another one tells of.
    """
    walk: _Walk | None = None
    integrity: Integrity = Integrity.INTACT
    problem: str | None = None
    try:
        origin = folder.origin()
        key = first_key or folder.first_key()
        walk = _Walk(folder, second, anchors, key, origin, line.genesis(origin))
        _go(walk)
    except _Broken as broken:
        integrity, problem = broken.integrity, str(broken)
    except FolderError as exc:
        integrity, problem = Integrity.UNREADABLE, str(exc)
    n_anchors = sum(map(len, anchors.values()))
    if walk is None:
        return Checked(Verdict(integrity, 0, 0, 0, second is not None, problem, n_anchors), NO_ANCHORS)
    verdict = Verdict(
        integrity,
        walk.seq,
        walk.n_checkpoints,
        walk.n_uncovered,
        second is not None,
        problem,
        n_anchors,
    )
    return Checked(verdict, walk.told)


def _go(walk: _Walk) -> None:
    present = set(walk.folder.numbers())
    noted = set(walk.folder.note_numbers()) | set(walk.second.note_numbers() if walk.second else ())
    noted |= walk.anchors.keys()
    last = max(present | noted, default=0)
    if not present:
        raise FolderError(f"{walk.folder.path}: there is no audit log here")
    for number in range(1, last + 1):
        checkpoints = _checkpoints(walk, number)
        if number in present:
            _check_file(walk, number, checkpoints)
        elif number < min(present):
            walk.missing.append(number)
            _skip_file(walk, number, checkpoints)
        else:
            raise _Broken(Integrity.TRUNCATED, f"file {number:06d} is missing")
        closing = _closing(checkpoints)
        if closing is None:
            if number < last:
                raise _Broken(Integrity.TRUNCATED, f"file {number:06d} has no closing checkpoint")
        elif number == last:
            raise _Broken(Integrity.TRUNCATED, f"file {number + 1:06d}, which follows the last, is missing")
        else:
            assert closing.next_key is not None
            walk.key = closing.next_key
    if walk.missing and walk.missing[-1] > walk.expired_until:
        raise _Broken(
            Integrity.TRUNCATED, f"file {walk.missing[-1]:06d} is missing, and no entry says that it expired"
        )


def _checkpoints(walk: _Walk, number: int) -> list[Checkpoint]:
    """The checkpoints of a file from all places, signatures checked, by size."""
    notes = walk.folder.read_notes(number)
    if walk.second is not None:
        notes = notes + walk.second.read_notes(number)
    checkpoints = []
    for note in dict.fromkeys((*notes, *walk.anchors.get(number, ()))):
        try:
            checkpoint = open_note(note, walk.key)
        except NoteError as exc:
            raise _Broken(Integrity.TAMPERED, f"file {number:06d}: {exc}") from exc
        if checkpoint.origin != f"{walk.origin}/{number:06d}":
            raise _Broken(Integrity.TAMPERED, f"file {number:06d}: a checkpoint is of another file or log")
        checkpoints.append(checkpoint)
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.size)


def _closing(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    closing = [checkpoint for checkpoint in checkpoints if checkpoint.next_key is not None]
    if len(closing) > 1:
        raise _Broken(Integrity.TAMPERED, "a file was closed twice, with two different keys to follow")
    return closing[0] if closing else None


def _check_file(walk: _Walk, number: int, checkpoints: list[Checkpoint]) -> None:
    tree = MerkleTree()
    due = list(reversed(checkpoints))
    _compare(walk, number, tree, due)
    try:
        for content in walk.folder.lines(number):
            _check_line(walk, number, content)
            tree.add(content)
            walk.n_uncovered += 1
            _compare(walk, number, tree, due)
    except TornLine as exc:
        raise _Broken(Integrity.TRUNCATED, f"file {number:06d}: {exc}") from exc
    if due:
        raise _Broken(
            Integrity.TRUNCATED,
            f"file {number:06d} has {tree.size} entries; a checkpoint was made at {due[0].size}",
        )
    closing = _closing(checkpoints)
    if closing is not None and closing.size != tree.size:
        raise _Broken(Integrity.TAMPERED, f"file {number:06d} has entries after its closing checkpoint")


def _check_line(walk: _Walk, number: int, content: bytes) -> None:
    try:
        entry = line.decode(content)
    except LineError as exc:
        raise _Broken(Integrity.TAMPERED, f"file {number:06d}, entry {walk.seq}: {exc}") from exc
    if walk.missing and walk.seq == 0 and entry.seq > 0:
        # The entries before have expired; their checkpoints say nothing of the numbers.
        walk.seq, walk.prev = entry.seq, entry.prev
    if entry.seq != walk.seq or entry.prev != walk.prev:
        raise _Broken(
            Integrity.TAMPERED, f"file {number:06d}, entry {walk.seq}: it does not follow the one before"
        )
    if entry.action == AuditAction.LOG_EXPIRE:
        last = entry.detail.get("last_file")
        walk.expired_until = max(walk.expired_until, last if isinstance(last, int) else 0)
    if (anchored := anchored_note(entry)) is not None:
        of_file, note = anchored
        told = walk.told.setdefault(of_file, [])
        if told[-1:] != [note]:  # A server that starts tells once more what the one before has told.
            told.append(note)
    walk.seq += 1
    walk.prev = line.digest(content)


def _compare(walk: _Walk, number: int, tree: MerkleTree, due: list[Checkpoint]) -> None:
    """Compare the root with the checkpoints made at this size; ``due`` is in descending order of size."""
    while due and due[-1].size == tree.size:
        if due.pop().root != tree.root():
            raise _Broken(
                Integrity.TAMPERED,
                f"file {number:06d}: its first {tree.size} entries are not those that were signed",
            )
        walk.n_checkpoints += 1
        walk.n_uncovered = 0


def _skip_file(walk: _Walk, number: int, checkpoints: list[Checkpoint]) -> None:
    if _closing(checkpoints) is None:
        raise _Broken(Integrity.TRUNCATED, f"file {number:06d} is missing and so is its closing checkpoint")
    walk.n_checkpoints += len(checkpoints)
