"""The keys that sign checkpoints, as files and as texts."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream_server.records.errors import AuditError
from stream_server.records.note import public_bytes


def pem(key: Ed25519PrivateKey) -> bytes:
    """The private key as the text of a file, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_text(key: Ed25519PrivateKey) -> str:
    """The public key in base64, as entries and checkpoints name it."""
    return base64.b64encode(public_bytes(key.public_key())).decode()


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        AuditError: It is none of ours.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except ValueError as exc:
        raise AuditError(f"{path}: this is not a private key") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"{path}: this is not an Ed25519 key")
    return key
