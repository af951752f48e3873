"""The sealed file: everything of a model, encrypted but for its manifest, and nothing of it alterable.

::

    magic       23 bytes
    public      length (u32, big-endian), then JSON: manifest, its signature, names and sizes of the files
    slots       length (u32, big-endian), then JSON: the data key, wrapped for each key that may open
    mac         HMAC-SHA256 of all before it, by a key derived from the data key
    payload     the files one after another, in chunks of 1 MiB, each AES-256-GCM with a tag of 16 bytes

A chunk's nonce is its index (11 bytes, big-endian) and a byte that is 1 for the last one; its additional
data is the SHA-256 of magic and public. So no chunk can be altered, left out, doubled, moved, or taken from
another file, and nothing can follow the last. (The construction is STREAM of "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", which age uses too.) The data key is random
and of one file only: nonces never repeat. Changing who may open rewrites slots and mac; the payload stays
as it is.

The manifest is readable without a key, so that models can be listed, and their signatures checked, by whoever
may not open them. Only algorithms that FIPS 140 approves take part, unless a slot is one of age's.
"""

import hashlib
import hmac
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stream_server.errors import ModelError
from stream_server.sealing.keys import KEY_BYTES, KINDS, Key, Lock, Slot, unwrap, wrap

MAGIC = b"stream-server sealed 1\n"
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_MAC_BYTES = 32
PUBLIC_BYTES_MAX = 1 << 20
SLOTS_BYTES_MAX = 1 << 16
SLOTS_MAX = 64
"""Keys that may open one file."""
FILES_MAX = 64
_LENGTH = struct.Struct(">I")

Count = Callable[[int], None]
"""Told how many bytes of the files are done."""


class SealedEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file in the payload."""

    name: str
    size: int


class Public(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is readable without a key."""

    manifest: str
    """The bytes of the manifest, which is UTF-8."""
    signature: str | None
    """Of the manifest, the text of its signature file."""
    files: list[SealedEntry]


class SealedFile:
    """A sealed file, open for reading; a context manager.

    Raises:
        ModelError: It is no sealed file, or not as long as it must be; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as exc:
            raise ModelError(f"{path} cannot be read: {exc.strerror}") from exc
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_header(self) -> None:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise ModelError(f"{self.path} is not a sealed model; `stream-server models seal` makes one")
        self._public_bytes = self._read_part(PUBLIC_BYTES_MAX)
        self._slots_bytes = self._read_part(SLOTS_BYTES_MAX)
        self._mac = self._file.read(_MAC_BYTES)
        try:
            self.public = msgspec.json.decode(self._public_bytes, type=Public)
            self.slots = msgspec.json.decode(self._slots_bytes, type=list[Slot])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._damaged() from None
        sizes = [entry.size for entry in self.public.files]
        if not 1 <= len(sizes) <= FILES_MAX or min(sizes) < 1 or not 1 <= len(self.slots) <= SLOTS_MAX:
            raise self._damaged()
        self.n_bytes = sum(sizes)
        """Of the files together."""
        self._start = self._file.tell()
        n_chunks = -(-self.n_bytes // CHUNK_BYTES)
        if os.fstat(self._file.fileno()).st_size != self._start + self.n_bytes + n_chunks * _TAG_BYTES:
            raise self._damaged()

    def _read_part(self, n_max: int) -> bytes:
        length = self._file.read(_LENGTH.size)
        if len(length) < _LENGTH.size:
            raise self._damaged()
        n_bytes = _LENGTH.unpack(length)[0]
        if n_bytes > n_max:
            raise self._damaged()
        return self._file.read(n_bytes)

    @property
    def kinds(self) -> list[str]:
        """Of the keys that open it, as far as they are known; the header says so, and may be altered."""
        return [kind for kind in KINDS if any(slot.kind == kind for slot in self.slots)]

    def data_key(self, key: Key) -> bytes:
        """Unwrap the data key, and check with it all that stands before the payload.

        Raises:
            ModelError: The key is another, or cannot be had, or the file was altered.
        """
        try:
            data_key = unwrap(self.slots, key)
        except ModelError as exc:
            raise ModelError(f"{self.path} is not opened: {exc}") from exc
        if data_key is None:
            raise ModelError(
                f"{self.path} is not sealed for this key, or its header was altered; set [models] key, or "
                f"--key, to one that it is sealed for (kind: {' or '.join(self.kinds) or 'unknown'}), or "
                "copy the file again"
            )
        expected = _mac(data_key, self._public_bytes, self._slots_bytes)
        if not hmac.compare_digest(expected, self._mac):
            raise self._damaged()
        return data_key

    def pieces(self, key: Key) -> Iterator[tuple[str, memoryview]]:
        """Decrypt: name of the file and the next bytes of it, in order, each authenticated.

        Only when the iterator has ended without an error was the file whole.

        Raises:
            ModelError: As ``data_key``; or the payload was altered.
        """
        entries = iter(self.public.files)
        entry = next(entries)
        n_left = entry.size
        for chunk in self._chunks(self.data_key(key)):
            rest = memoryview(chunk)
            while rest:
                if n_left == 0:
                    entry = next(entries)
                    n_left = entry.size
                piece, rest = rest[:n_left], rest[n_left:]
                n_left -= len(piece)
                yield entry.name, piece

    def _chunks(self, data_key: bytes) -> Iterator[bytes]:
        cipher = AESGCM(_derived(data_key, b"payload"))
        bound_to = _digest(self._public_bytes)
        self._file.seek(self._start)
        for index, (n_bytes, is_last) in enumerate(_chunk_sizes(self.n_bytes)):
            sealed = self._file.read(n_bytes + _TAG_BYTES)
            try:
                yield cipher.decrypt(_nonce(index, is_last), sealed, bound_to)
            except (InvalidTag, ValueError):
                raise self._damaged() from None

    def rekeyed(self, key: Key, locks: Sequence[Lock], out: Path) -> None:
        """Write the same file, opened by other keys; the payload is copied as it is, owner and mode too.

        Raises:
            ModelError: As ``data_key``; or there are too many locks, or ``out`` cannot be written.
        """
        header = _header(self._public_bytes, self.data_key(key), locks)
        with _written_whole(out) as file:
            self._hand_over(file.fileno())
            file.write(header)
            self._file.seek(self._start)
            while block := self._file.read(CHUNK_BYTES):
                file.write(block)

    def _hand_over(self, descriptor: int) -> None:
        """Let those read the new file who may read this one: a server's user, if root changes the keys."""
        status = os.fstat(self._file.fileno())
        if os.geteuid() == 0:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))

    def _damaged(self) -> ModelError:
        return ModelError(f"{self.path} is truncated or altered; nothing of it is used: copy it again")


def seal(
    folder: Path,
    names: Sequence[str],
    manifest: bytes,
    signature: str | None,
    locks: Sequence[Lock],
    out: Path,
    count: Count | None = None,
) -> None:
    """Write a sealed file; it is whole or not there.

    Args:
        folder: Where the files lie.
        names: Files to encrypt, in this order; none is empty.
        manifest: UTF-8; stays readable.
        signature: Of the manifest; stays readable.
        locks: Who may open, one or more.
        out: The file to write; one that is there is replaced.
        count: Told how far it is.

    Raises:
        ModelError: There are too many locks, the manifest is too long, or a file cannot be read or written.
    """
    try:
        entries = [SealedEntry(name, (folder / name).stat().st_size) for name in names]
    except OSError as exc:
        raise ModelError(f"{exc.filename} cannot be read: {exc.strerror}") from exc
    public = msgspec.json.encode(Public(manifest.decode(), signature, entries))
    if len(public) > PUBLIC_BYTES_MAX or len(entries) > FILES_MAX:
        raise ModelError(f"{folder}: its manifest is too long to be sealed")
    data_key = secrets.token_bytes(KEY_BYTES)
    cipher, bound_to = AESGCM(_derived(data_key, b"payload")), _digest(public)
    header = _header(public, data_key, locks)
    n_bytes, n_done = sum(entry.size for entry in entries), 0
    with _written_whole(out) as file:
        file.write(header)
        for index, chunk in enumerate(_plain_chunks([folder / name for name in names])):
            n_done += len(chunk)
            file.write(cipher.encrypt(_nonce(index, n_done == n_bytes), chunk, bound_to))
            if count is not None:
                count(n_done)
        if n_done != n_bytes:
            raise ModelError(f"a file in {folder} changed while it was sealed; run the command again")


def _plain_chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of files as if they were one; all chunks but the last are whole."""
    waiting = bytearray()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(CHUNK_BYTES - len(waiting)):
                waiting += block
                if len(waiting) == CHUNK_BYTES:
                    yield bytes(waiting)
                    waiting.clear()
    if waiting:
        yield bytes(waiting)


def _chunk_sizes(n_bytes: int) -> Iterator[tuple[int, bool]]:
    """Of each chunk: bytes of plain text, and whether it is the last."""
    n_chunks = -(-n_bytes // CHUNK_BYTES)
    for index in range(n_chunks):
        yield min(CHUNK_BYTES, n_bytes - index * CHUNK_BYTES), index == n_chunks - 1


def _nonce(index: int, is_last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([is_last])


def _derived(data_key: bytes, purpose: bytes) -> bytes:
    """A key of its own for each purpose, so that no key serves two algorithms."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=MAGIC + purpose).derive(data_key)


def _digest(public: bytes) -> bytes:
    return hashlib.sha256(MAGIC + public).digest()


def _header(public: bytes, data_key: bytes, locks: Sequence[Lock]) -> bytes:
    slots = msgspec.json.encode([wrap(data_key, lock) for lock in locks])
    if not 1 <= len(locks) <= SLOTS_MAX or len(slots) > SLOTS_BYTES_MAX:
        raise ModelError(f"a model is sealed for 1 to {SLOTS_MAX} keys, not {len(locks)}")
    return _framed(public, slots) + _mac(data_key, public, slots)


def _framed(public: bytes, slots: bytes) -> bytes:
    return b"".join((MAGIC, _LENGTH.pack(len(public)), public, _LENGTH.pack(len(slots)), slots))


def _mac(data_key: bytes, public: bytes, slots: bytes) -> bytes:
    return hmac.digest(_derived(data_key, b"header"), _framed(public, slots), "sha256")


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends well, and not at all otherwise."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as exc:
        raise ModelError(f"{exc.filename or path}: {exc.strerror}; {path} was not written") from exc
