"""The audit log as somebody may have left it: lines, checkpoints, a whole folder."""

import gzip
import shutil
from collections.abc import Iterator
from functools import cache

from audit_logs import Log

from fuzzing.target import DEEP, Target, scratch
from stream_server.records import line
from stream_server.records.folder import AuditFolder
from stream_server.records.line import LineError
from stream_server.records.note import NoteError, announced_key, open_note, split_notes
from stream_server.records.verify import Integrity, verify


@cache
def _log() -> AuditFolder:
    """A log of two files, the first of them compressed."""
    log = Log(scratch() / "audit")
    log.fill(14)
    return log.folder


def _feed_line(data: bytes) -> None:
    entry = line.decode(data)
    assert line.encode(entry) == data, "an entry has one spelling"
    assert entry.time.tzinfo is not None


audit_line = Target(
    _feed_line,
    (LineError,),
    lambda: list(_log().lines(1)),
    (
        b'"v":1',
        b'"detail":{',
        b'"ts":"2026-11-21T12:00:00.000+00:00"',
        b'"ts":"20261121T12Z"',
        b"\\u0000",
        b"null",
        DEEP,
    ),
)


def _feed_checkpoint(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    announced_key(text)
    for note in split_notes(text):
        checkpoint = open_note(note, _log().first_key())
        assert checkpoint.text() == note.rpartition("\n\n")[0] + "\n", "what was signed has one spelling"


checkpoint = Target(
    _feed_checkpoint,
    (NoteError,),
    lambda: [_log().notes(1).read_bytes(), _log().notes(2).read_bytes()],
    ("\N{EM DASH} ".encode(), b"next-key ", b"\n\n", b"stream-server-audit/", b"0", b"="),
)

_PARTS = ("origin", "first.pub", "000001.jsonl", "000001.notes", "000002.jsonl", "000002.notes")
_BETWEEN = b"\n--8<--\n"


def _feed_folder(data: bytes) -> None:
    """The files of a folder, one after the other; a file of the first number may be compressed."""
    folder = scratch() / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    parts = data.split(_BETWEEN)
    for name, content in zip(_PARTS, parts, strict=False):
        is_packed = name == "000001.jsonl" and content.startswith(b"\x1f\x8b")
        (folder / (f"{name}.gz" if is_packed else name)).write_bytes(content)
    verdict = verify(AuditFolder(folder), None, _log().first_key())
    assert (verdict.problem is None) == (verdict.integrity is Integrity.INTACT)
    if verdict.integrity is Integrity.INTACT:
        _check_intact(parts, verdict.n_checkpoints)


def _check_intact(parts: list[bytes], n_checkpoints: int) -> None:
    """Whoever has not the key may leave lines out that no checkpoint covers, and nothing else."""
    genuine = b"".join(content + b"\n" for number in (1, 2) for content in _log().lines(number))
    first = gzip.decompress(parts[2]) if parts[2].startswith(b"\x1f\x8b") else parts[2]
    found = first + b"".join(parts[4:5])
    assert genuine.startswith(found) or n_checkpoints == 0, "an edited log passed for intact"


def _folder_seeds() -> Iterator[bytes]:
    folder = _log()
    packed = folder.packed(1).read_bytes()
    plain = gzip.decompress(packed)
    rest = [folder.notes(1), folder.entries(2), folder.notes(2)]
    for first in (packed, plain, plain[:-20]):
        yield _BETWEEN.join(
            [
                folder.origin_file.read_bytes(),
                folder.first_key_file.read_bytes(),
                first,
                *(path.read_bytes() for path in rest),
            ]
        )


audit_folder = Target(
    _feed_folder,
    (),
    _folder_seeds,
    (_BETWEEN, b"\n", b'"action":"log.expire"', b'"seq":'),
    bytes_max=16_384,
    n_suite=40,
)
