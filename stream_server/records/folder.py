"""The audit folder: names of its files, and reading them whole.

::

    first.pub             public key of the first file: with it, everything after can be checked
    origin                the log's name
    000001.jsonl.gz       entries; a file ends with the UTC day or at its largest size, and is compressed then
    000001.notes          its checkpoints
    000002.jsonl          entries of today
    000002.notes
    signing.key           signs the checkpoints of the file being written
    rotate                there while the server is asked to change the key
    lock                  held by the server that writes
"""

import base64
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from stream_server.records.note import NoteError, split_notes

_PLAIN = re.compile(r"(\d{6})\.jsonl")
_PACKED = re.compile(r"(\d{6})\.jsonl\.gz")
_NOTES = re.compile(r"(\d{6})\.notes")


class FolderError(Exception):
    """A file of the audit log is missing or cannot be read; the message names it."""


class TornLine(FolderError):
    """The last line has no end: a crash cut it off, or somebody did."""


class AuditFolder:
    """Where an audit log lies.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_key_file = path / "first.pub"
        self.origin_file = path / "origin"
        self.signing_key = path / "signing.key"
        self.next_signing_key = path / "signing.key.next"
        self.rotation_request = path / "rotate"
        self.lock = path / "lock"

    def entries(self, number: int) -> Path:
        """The file of entries that is being written."""
        return self.path / f"{number:06d}.jsonl"

    def packed(self, number: int) -> Path:
        """The same, compressed."""
        return self.path / f"{number:06d}.jsonl.gz"

    def notes(self, number: int) -> Path:
        """The file's checkpoints."""
        return self.path / f"{number:06d}.notes"

    def numbers(self) -> list[int]:
        """Numbers of the files of entries, ascending."""
        return self._numbers(_PLAIN, _PACKED)

    def note_numbers(self) -> list[int]:
        """Numbers of the files of checkpoints, ascending."""
        return self._numbers(_NOTES)

    def _numbers(self, *patterns: re.Pattern[str]) -> list[int]:
        try:
            names = [path.name for path in self.path.iterdir()]
        except OSError as exc:
            raise FolderError(f"{self.path}: {exc.strerror}") from exc
        matches = (pattern.fullmatch(name) for name in names for pattern in patterns)
        return sorted({int(match[1]) for match in matches if match})

    def first_key(self) -> bytes:
        """Public key of the first file, 32 bytes.

        Raises:
            FolderError: It is missing or damaged.
        """
        return read_public_key(self.first_key_file)

    def origin(self) -> str:
        """The log's name.

        Raises:
            FolderError: It is missing or damaged.
        """
        text = _read(self.origin_file).decode("ascii", "replace").strip()
        if not re.fullmatch(r"[a-z0-9./-]{1,200}", text):
            raise FolderError(f"{self.origin_file}: this is not the name of a log")
        return text

    def lines(self, number: int) -> Iterator[bytes]:
        """The lines of a file without their newlines.

        Raises:
            TornLine: Something follows the last newline; the lines before have been given.
            FolderError: It is missing, or cannot be read.
        """
        plain, packed = self.entries(number), self.packed(number)
        path = plain if plain.exists() else packed
        try:
            with _open_either(plain, packed) as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        raise TornLine(f"{path}: the last line has no end")
                    yield line[:-1]
        except (OSError, EOFError, zlib.error) as exc:
            raise FolderError(f"{path}: it cannot be read ({type(exc).__name__})") from exc

    def read_notes(self, number: int) -> list[str]:
        """The signed checkpoints of a file, not yet checked; none where there is no file.

        Raises:
            FolderError: They cannot be read.
        """
        path = self.notes(number)
        if not path.exists():
            return []
        try:
            return split_notes(_read(path).decode())
        except (NoteError, UnicodeDecodeError) as exc:
            raise FolderError(f"{path}: {exc}") from exc


def _open_either(plain: Path, packed: Path) -> IO[bytes]:
    try:
        return plain.open("rb")
    except FileNotFoundError:
        # Not asked before whether it is there: the server may pack it in between.
        return cast(IO[bytes], gzip.open(packed))


def read_public_key(path: Path) -> bytes:
    """A public key, 32 bytes, from a file that holds it in base64.

    Raises:
        FolderError: It is missing or damaged.
    """
    try:
        key = base64.b64decode(_read(path).strip(), validate=True)
    except ValueError as exc:
        raise FolderError(f"{path}: this is not a public key in base64") from exc
    if len(key) != 32:
        raise FolderError(f"{path}: a public key has 32 bytes, this one has {len(key)}")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise FolderError(f"{path}: {exc.strerror}") from exc
