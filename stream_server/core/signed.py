"""Statements that this server has signed and knows again: JSON Web Tokens of one form only.

The compact form of JWS (RFC 7515) with EdDSA (RFC 8037). The header is a constant that must match to the
byte: what cannot be chosen cannot be confused. Each kind of statement has an audience of its own, so that
none is taken for another.

One key signs. Keys that signed before are known for a while by their public half, so that what they have
signed stays good over a change of keys; for how long, each kind of statement decides for itself.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stream_server.errors import StreamServerError

SIGNED_LENGTH_MAX = 3_072
"""Characters; a link has about 250, and a line of an HTTP header 4,096 at most."""

TOKEN_S_MAX = 900
"""How long tokens of any kind may be used to connect."""
OVERLAP_S = TOKEN_S_MAX + 60
"""How long after a key was retired its tokens may be shown: their own time, and a minute in which a server
may not have noticed that it is to sign with another key."""

_HEADER = base64.urlsafe_b64encode(b'{"alg":"EdDSA","typ":"JWT"}').rstrip(b"=").decode()


class NotSigned(StreamServerError):
    """Raised when a text is no statement of this server, or not of the kind that is wanted."""


class Claims(msgspec.Struct, frozen=True):
    """What is signed; names as in RFC 7519 where it has them."""

    aud: str


@dataclass(frozen=True, slots=True)
class RetiredKey:
    """The public half of a key that signs no more."""

    key: Ed25519PublicKey
    retired_s: int
    """When another one took its place, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that signs, and those before it whose signatures may still count."""

    current: Ed25519PrivateKey
    retired: tuple[RetiredKey, ...] = ()

    @property
    def names(self) -> tuple[tuple[bytes, int | None], ...]:
        """What tells these keys from others: each public key's bytes, and when it was retired."""
        return tuple((key.public_bytes_raw(), retired_s) for key, retired_s in self)

    def __iter__(self) -> Iterator[tuple[Ed25519PublicKey, int | None]]:
        """Each public key with the time at which it was retired, the current one first."""
        yield self.current.public_key(), None
        for retired in self.retired:
            yield retired.key, retired.retired_s


class KeysInForce:
    """The keys that count at this moment; replaced as a whole when they change.

    Args:
        keys: The first ones.
    """

    def __init__(self, keys: Keys) -> None:
        self.current = keys


_Kind = TypeVar("_Kind", bound=Claims)


def sign(key: Ed25519PrivateKey, claims: Claims) -> str:
    """The statement as text, in characters that need no escapes in a header or behind a ``#``."""
    signed = f"{_HEADER}.{to_base64(msgspec.json.encode(claims))}"
    return f"{signed}.{to_base64(key.sign(signed.encode()))}"


def verify(keys: Keys, text: str, kind: type[_Kind], audience: str) -> tuple[_Kind, int | None]:
    """The claims of a text that one of these keys has signed for this audience.

    Neither its time nor that of the key is looked at.

    Returns:
        The claims, and when the key that signed them was retired; None for the current one.

    Raises:
        NotSigned: Anything else.
    """
    problem = "this server has not signed it"
    header, _, rest = text.partition(".")
    payload, _, signature = rest.partition(".")
    if len(text) > SIGNED_LENGTH_MAX or header != _HEADER:
        raise NotSigned(problem)
    try:
        retired_s = _retirement_of_signer(keys, from_base64(signature), f"{header}.{payload}".encode())
        claims = msgspec.json.decode(from_base64(payload), type=kind)
    except (InvalidSignature, ValueError, RecursionError, msgspec.DecodeError) as exc:
        raise NotSigned(problem) from exc
    if claims.aud != audience:
        raise NotSigned(problem)
    return claims, retired_s


def _retirement_of_signer(keys: Keys, signature: bytes, signed: bytes) -> int | None:
    """When the key that made a signature was retired.

    Raises:
        InvalidSignature: None of them made it.
    """
    for key, retired_s in keys:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return retired_s
    raise InvalidSignature


def check_retired(retired_s: int | None, now_s: float) -> None:
    """Check that a token may still be one that its key has signed before it was retired.

    Raises:
        NotSigned: By now all of those are over.
    """
    if retired_s is not None and now_s >= retired_s + OVERLAP_S:
        raise NotSigned("it was signed by a key that signs no more")


def to_base64(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64(text: str) -> bytes:
    """The bytes of unpadded base64url in its one right spelling.

    Raises:
        ValueError: Anything else.
    """
    try:
        data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64url") from exc
    if to_base64(data) != text:
        raise ValueError("not the canonical spelling")
    return data
