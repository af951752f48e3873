"""Statements that this server has signed and knows again: JSON Web Tokens of one form only.

The compact form of JWS (RFC 7515) with EdDSA (RFC 8037). The header is a constant that must match to the
byte: what cannot be chosen cannot be confused. Each kind of statement has an audience of its own, so that
none is taken for another.
"""

import base64
import binascii
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_server.errors import StreamServerError

SIGNED_LENGTH_MAX = 3_072
"""Characters; a link has about 250, and a line of an HTTP header 4,096 at most."""

_HEADER = base64.urlsafe_b64encode(b'{"alg":"EdDSA","typ":"JWT"}').rstrip(b"=").decode()


class NotSigned(StreamServerError):
    """Raised when a text is no statement of this server, or not of the kind that is wanted."""


class Claims(msgspec.Struct, frozen=True):
    """What is signed; names as in RFC 7519 where it has them."""

    aud: str


_Kind = TypeVar("_Kind", bound=Claims)


def sign(key: Ed25519PrivateKey, claims: Claims) -> str:
    """The statement as text, in characters that need no escapes in a header or behind a ``#``."""
    signed = f"{_HEADER}.{to_base64(msgspec.json.encode(claims))}"
    return f"{signed}.{to_base64(key.sign(signed.encode()))}"


def verify(key: Ed25519PrivateKey, text: str, kind: type[_Kind], audience: str) -> _Kind:
    """The claims of a text that this key has signed for this audience; its time is not looked at.

    Raises:
        NotSigned: Anything else.
    """
    problem = "this server has not signed it"
    header, _, rest = text.partition(".")
    payload, _, signature = rest.partition(".")
    if len(text) > SIGNED_LENGTH_MAX or header != _HEADER:
        raise NotSigned(problem)
    try:
        key.public_key().verify(from_base64(signature), f"{header}.{payload}".encode())
        claims = msgspec.json.decode(from_base64(payload), type=kind)
    except (InvalidSignature, ValueError, msgspec.DecodeError) as exc:
        raise NotSigned(problem) from exc
    if claims.aud != audience:
        raise NotSigned(problem)
    return claims


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
