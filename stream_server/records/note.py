"""Signed checkpoints: how many lines a file has, their root, and who says so.

The form is that of C2SP signed notes and checkpoints (https://c2sp.org/signed-note,
https://c2sp.org/tlog-checkpoint): three lines of text, maybe one more, an empty line, a signature line::

    stream-server-audit/4f1c2a9b7d3e5f60/000001
    1000
    ahQAf8oZ…root, base64
    next-key kBzL…public key, base64

    — stream-server-audit/4f1c2a9b7d3e5f60 rC3v…key hash and signature, base64

The last checkpoint of a file names the key that signs the next file. The key before is erased then, so
somebody who takes over the machine today cannot sign a different yesterday.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_NEXT_KEY = "next-key "
_ED25519 = b"\x01"
"""The algorithm's number in a signed note."""
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,15}")


class NoteError(ValueError):
    """A checkpoint cannot be read, or its signature is not the key's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a note says."""

    origin: str
    """The log's name, ``/``, and the number of the file."""
    size: int
    """Lines of the file."""
    root: bytes
    """Merkle tree hash of the lines, 32 bytes."""
    next_key: bytes | None = None
    """Public key of the next file, 32 bytes; only in the file's last checkpoint."""

    def text(self) -> str:
        """What is signed."""
        lines = [self.origin, str(self.size), _base64(self.root)]
        if self.next_key is not None:
            lines.append(_NEXT_KEY + _base64(self.next_key))
        return "\n".join(lines) + "\n"


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The note: text, empty line, signature line; ends with a newline."""
    text = checkpoint.text()
    signer = _signer(checkpoint.origin)
    signature = _key_hash(signer, public_bytes(key.public_key())) + key.sign(text.encode())
    return f"{text}\n\N{EM DASH} {signer} {_base64(signature)}\n"


def open_note(note: str, key: bytes) -> Checkpoint:
    """Read a note that ``key``, 32 bytes, has signed.

    Raises:
        NoteError: It is malformed, or signed by somebody else.
    """
    text, separator, signature_line = note.rpartition("\n\n")
    dash, _, rest = signature_line.partition(" ")
    signer, _, encoded = rest.partition(" ")
    if not separator or dash != "\N{EM DASH}" or not encoded.endswith("\n"):
        raise NoteError("a checkpoint is not a signed note")
    text += "\n"
    checkpoint = _read(text)
    signature = _unbase64(encoded[:-1])
    if signer != _signer(checkpoint.origin) or signature[:4] != _key_hash(signer, key):
        raise NoteError("a checkpoint is signed by another key")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], text.encode())
    except InvalidSignature:
        raise NoteError("a checkpoint's signature is wrong") from None
    return checkpoint


def announced_key(note: str) -> str | None:
    """The next file's key, in base64, that a note names; the note is not checked."""
    named = (text for text in note.split("\n") if text.startswith(_NEXT_KEY))
    return next((text.removeprefix(_NEXT_KEY) for text in named), None)


def split_notes(content: str) -> list[str]:
    """The notes of a file that holds one after the other, each as ``sign`` wrote it.

    Raises:
        NoteError: Something at the end is not a whole note.
    """
    notes: list[str] = []
    lines: list[str] = []
    *whole, rest = content.split("\n")
    for line in whole:
        lines.append(line + "\n")
        if line.startswith("\N{EM DASH} "):
            notes.append("".join(lines))
            lines = []
    if lines or rest:
        raise NoteError("the checkpoints end in the middle of one")
    return notes


def _read(text: str) -> Checkpoint:
    lines = text.split("\n")[:-1]
    if len(lines) not in (3, 4) or not _DECIMAL.fullmatch(lines[1]):
        raise NoteError("a checkpoint has not the lines of one")
    next_key = None
    if len(lines) == 4:
        if not lines[3].startswith(_NEXT_KEY):
            raise NoteError("a checkpoint has a line that is not understood")
        next_key = _unbase64(lines[3].removeprefix(_NEXT_KEY))
    checkpoint = Checkpoint(lines[0], int(lines[1]), _unbase64(lines[2]), next_key)
    if checkpoint.text() != text or len(checkpoint.root) != 32 or len(next_key or bytes(32)) != 32:
        raise NoteError("a checkpoint is not in canonical form")
    return checkpoint


def _signer(origin: str) -> str:
    return origin.rpartition("/")[0]


def _key_hash(signer: str, key: bytes) -> bytes:
    return hashlib.sha256(signer.encode() + b"\n" + _ED25519 + key).digest()[:4]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; text that is not ASCII raises another
        raise NoteError("a checkpoint holds what is not base64") from None
    if _base64(data) != text:
        raise NoteError("a checkpoint holds base64 in a second spelling")
    return data
