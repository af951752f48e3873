"""Keys that open sealed models: how they are read, and how they wrap a model's data key.

Three kinds. A secret key is 32 bytes, written as 64 hexadecimal digits (``openssl rand -hex 32``); it wraps
by AES key wrap (RFC 3394, NIST SP 800-38F). An age key pair (https://age-encryption.org/v1) seals with what
is public, ``age1…``, and opens with the identity, ``AGE-SECRET-KEY-1…``; it needs the extra ``sealed``. An
external key never leaves where it is (``external``).

No error of this module holds key material, in its message, its cause or its context.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import assert_never

import msgspec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from stream_server.errors import ModelError
from stream_server.sealing import external
from stream_server.sealing.external import (
    ExternalKey,
    TokenKey,
    VaultKey,
    VaultServer,
    is_external,
    parse_external,
)
from stream_server.sealing.places import Secret, read_secret

KEY_BYTES = 32
KINDS = ("secret", "age", "vault", "pkcs11")
"""Of keys, and of the slots that they open."""
_AGE_SECRET = "AGE-SECRET-KEY-"  # noqa: S105  the beginning of every identity, no secret
_HOW = (
    "a key is 64 hexadecimal digits (`openssl rand -hex 32`) or an age identity (`age-keygen`), on a line of "
    "its own"
)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that both seals and opens."""

    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgeIdentity:
    """The secret half of an age key pair."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgeRecipient:
    """The public half of an age key pair."""

    public: str


Key = SecretKey | AgeIdentity | ExternalKey
"""What opens."""
Lock = SecretKey | AgeRecipient | ExternalKey
"""What seals."""


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data key, wrapped for one key."""

    kind: str
    """One of ``KINDS``."""
    wrapped: str
    """base64."""


def read_key(reference: str, vault: VaultServer | None = None) -> Key:
    """The key that a reference names; one that is external is not asked for yet.

    Args:
        reference: As ``places.read_secret`` or ``external.parse_external`` takes it.
        vault: How Vault is reached, for a key that is there.

    Raises:
        ModelError: There is no key; names the place, never what lies there.
    """
    if is_external(reference):
        return parse_external(reference, vault)
    return _parse(read_secret(reference, "the model's key"))


def read_secret_key(path: Path) -> SecretKey:
    """The key in a file, to seal with.

    Raises:
        ModelError: There is none, or it is an age identity, whose public half seals.
    """
    key = _parse(read_secret(str(path), "the model's key"))
    if isinstance(key, AgeIdentity):
        raise ModelError(
            f"{path} holds an age identity, which only opens; seal with its public half, "
            "`--recipient age1…`, which `age-keygen -y` prints"
        )
    return key


def parse_recipient(text: str) -> AgeRecipient:
    """Check the public half of an age key pair.

    Raises:
        ModelError: It is none.
    """
    if text.upper().startswith(_AGE_SECRET):
        raise ModelError("--recipient takes the public half of the pair, age1…, and was given the secret one")
    pyrage = _age()
    try:
        pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as exc:
        raise ModelError(f"{text} is no age recipient ({exc}); `age-keygen -y FILE` prints one") from exc
    return AgeRecipient(text)


def wrap(data_key: bytes, lock: Lock) -> Slot:
    """Wrap a data key so that only the lock's key can unwrap it.

    Raises:
        ModelError: The lock is external and does not do it.
    """
    if isinstance(lock, SecretKey):
        return _slot("secret", aes_key_wrap(lock.secret, data_key))
    if isinstance(lock, AgeRecipient):
        pyrage = _age()
        return _slot("age", pyrage.encrypt(data_key, [pyrage.x25519.Recipient.from_str(lock.public)]))
    return _slot(_kind(lock), external.wrap(lock, data_key))


def unwrap(slots: list[Slot], key: Key) -> bytes | None:
    """The data key, if one of the slots is for this key.

    Raises:
        ModelError: The key is external and does not open any slot of its kind.
    """
    wrapped = [one for slot in slots if slot.kind == _kind(key) and (one := _wrapped(slot)) is not None]
    if not wrapped:
        return None
    if isinstance(key, ExternalKey):
        opened = external.unwrap(key, wrapped)
        return opened if len(opened) == KEY_BYTES else None
    for one in wrapped:
        data_key = _unwrap(one, key)
        if data_key is not None and len(data_key) == KEY_BYTES:
            return data_key
    return None


def _kind(key: Key | Lock) -> str:
    match key:
        case SecretKey():
            return "secret"
        case AgeIdentity() | AgeRecipient():
            return "age"
        case VaultKey():
            return "vault"
        case TokenKey():
            return "pkcs11"
        case _:
            assert_never(key)


def _slot(kind: str, wrapped: bytes) -> Slot:
    return Slot(kind, base64.b64encode(wrapped).decode())


def _wrapped(slot: Slot) -> bytes | None:
    try:
        return base64.b64decode(slot.wrapped, validate=True)
    except ValueError:
        return None


def _unwrap(wrapped: bytes, key: SecretKey | AgeIdentity) -> bytes | None:
    if isinstance(key, SecretKey):
        try:
            return aes_key_unwrap(key.secret, wrapped)
        except (InvalidUnwrap, ValueError):
            return None
    pyrage = _age()
    try:
        return bytes(pyrage.decrypt(wrapped, [pyrage.x25519.Identity.from_str(key.secret)]))
    except pyrage.DecryptError:
        return None


def _parse(secret: Secret) -> SecretKey | AgeIdentity:
    lines = [line.strip() for line in secret.text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]  # age-keygen writes comments
    if len(lines) == 1:
        key = _parse_line(lines[0], secret.place)
        if key is not None:
            return key
    raise ModelError(f"{secret.place} holds no key: {_HOW}")


def _parse_line(line: str, place: str) -> SecretKey | AgeIdentity | None:
    if line.startswith(_AGE_SECRET):
        pyrage = _age()
        try:
            pyrage.x25519.Identity.from_str(line)
        except pyrage.IdentityError:
            # Without its cause, which could quote what it read.
            raise ModelError(f"{place} holds a damaged age identity; copy it again") from None
        return AgeIdentity(line)
    if len(line) == 2 * KEY_BYTES:
        try:
            return SecretKey(bytes.fromhex(line))
        except ValueError:
            return None
    return None


def _age() -> ModuleType:
    try:
        import pyrage
    except ImportError as exc:
        raise ModelError(
            "age keys need the extra: `pip install 'stream-server[sealed]'`; "
            "without it, seal with --key-file and 64 hexadecimal digits"
        ) from exc
    module: ModuleType = pyrage
    return module
