"""Writer tokens: who shows one sends audio in place of the client that had it made.

For senders that cannot hold a certificate, such as a softphone in a browser. A client with a certificate and
the right to *mint* asks for a token over mutual TLS and hands it on. The token is a signed statement
(``core/signed.py``) that is good

- for 15 minutes at most, to open connections with;
- for one room, or for streams that publish nowhere;
- from one network.

It names the certificate behind it. Whoever uses it acts for that certificate's owner: by the rights that the
owner has at that moment, out of the owner's quotas, and under the owner's name in the audit log. So a token
needs no list of those that are good: it is worth nothing once the certificate has ended, was revoked, or may
no longer mint. A single one can be taken back by its id, which then stands in a list until nothing of the
token can be left.

Pure: time and randomness are arguments.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from certs.identity import Identity, parse_uri
from stream_server.core.networks import Network, networks
from stream_server.core.signed import (
    SIGNED_LENGTH_MAX,
    Claims,
    KeysInForce,
    NotSigned,
    check_retired,
    sign,
    verify,
)
from stream_server.errors import TokenExpired

TOKEN_S_MIN = 10
TOKEN_ID = re.compile(r"[0-9a-f]{12}")
NETWORK_RULE = "a network is such as 10.1.0.0/16 or 2001:db8::/48, or one address, and not every address"

_AUDIENCE = "stream-server writer token"


class TokenTooLong(ValueError):
    """Raised when a certificate's name is too long for a token to fit into a header."""


@dataclass(frozen=True, slots=True)
class WriterToken:
    """What a token says."""

    id: str
    """Names it in the audit log; opens nothing by itself."""
    minter: Identity
    """The certificate in whose place audio is sent."""
    room: str | None
    """The one room in which its streams publish; None: they publish nowhere."""
    network: Network
    """From where it may be used."""
    name: str | None
    """Of whoever uses it, as the minter wants it shown."""
    issued_s: int
    """Seconds since 1970, as below."""
    expires_s: int

    @property
    def holder(self) -> str:
        """Who may resume a stream: tokens for one room and name are those of one sender."""
        return f"{self.room or ''}/{self.id if self.name is None else f'name:{self.name}'}"


class _Minter(msgspec.Struct, frozen=True):
    """The fields of an ``Identity``, except those that follow from its URI."""

    uri: str
    serial: str
    fingerprint: str
    issuer: str
    """Base64."""
    not_after: int


class _TokenClaims(Claims, frozen=True):
    """What is signed; names as in RFC 7519 where it has them."""

    jti: str
    iat: int
    exp: int
    room: str | None
    network: str
    name: str | None
    minter: _Minter


class RevokedTokens:
    """The tokens that an operator has taken back; replaced as a whole when their list changes."""

    def __init__(self) -> None:
        self.ids: frozenset[str] = frozenset()


class WriterTokens:
    """Makes tokens and knows them again.

    Args:
        keys: Sign them.
        unix_s: Gives the wall clock's time.
        new_id: Gives an id that was never given before.
    """

    def __init__(self, keys: KeysInForce, unix_s: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._keys = keys
        self._unix_s = unix_s
        self._new_id = new_id

    def mint(
        self, minter: Identity, *, room: str | None, network: Network, name: str | None, lifetime_s: int
    ) -> tuple[WriterToken, str]:
        """Make a token; the caller has asked the policy, and checked room and name.

        Args:
            minter: Who asks for it.
            room: Room to publish in, or None.
            network: From where it may be used; see ``is_bounded``.
            name: Of its user, or None.
            lifetime_s: ``TOKEN_S_MIN`` to ``TOKEN_S_MAX``; the certificate's end makes it shorter.

        Returns:
            The token, and the text to hand on.

        Raises:
            TokenTooLong: The minter's name leaves no room.
        """
        now_s = int(self._unix_s())
        expires_s = min(now_s + lifetime_s, int(minter.not_after.timestamp()))
        token = WriterToken(self._new_id(), minter, room, network, name, now_s, expires_s)
        text = sign(self._keys.current.current, _claims_of(token))
        if len(text) > SIGNED_LENGTH_MAX:
            raise TokenTooLong("this certificate's name is too long for a token; issue a shorter one")
        return token, text

    def open(self, text: str) -> WriterToken:
        """Read a token that is still good; its network and its minter's rights are the caller's to check.

        Raises:
            NotSigned: It is no token of this server.
            TokenExpired: Its time is over.
        """
        claims, retired_s = verify(self._keys.current, text, _TokenClaims, _AUDIENCE)
        check_retired(retired_s, self._unix_s())
        token = _token_of(claims)
        if token.expires_s <= self._unix_s():
            raise TokenExpired("the token is over; get another one")
        return token


def is_bounded(network: Network) -> bool:
    """Whether a token may be bound to a network: all addresses together are no bound."""
    return network.prefixlen > 0


def _claims_of(token: WriterToken) -> _TokenClaims:
    minter = token.minter
    return _TokenClaims(
        aud=_AUDIENCE,
        jti=token.id,
        iat=token.issued_s,
        exp=token.expires_s,
        room=token.room,
        network=str(token.network),
        name=token.name,
        minter=_Minter(
            minter.uri,
            f"{minter.serial:x}",
            minter.fingerprint.hex(),
            base64.b64encode(minter.issuer).decode(),
            int(minter.not_after.timestamp()),
        ),
    )


def _token_of(claims: _TokenClaims) -> WriterToken:
    try:
        [network] = networks([claims.network])
        minter = _identity_of(claims.minter)
    except (ValueError, OverflowError) as exc:
        # Signed by us all the same: by a version with other claims.
        raise NotSigned("this server has signed it in another form") from exc
    return WriterToken(claims.jti, minter, claims.room, network, claims.name, claims.iat, claims.exp)


def _identity_of(minter: _Minter) -> Identity:
    domain, path = parse_uri(minter.uri)
    return Identity(
        uri=minter.uri,
        trust_domain=domain,
        path=path,
        serial=int(minter.serial, 16),
        fingerprint=bytes.fromhex(minter.fingerprint),
        issuer=base64.b64decode(minter.issuer, validate=True),
        not_after=datetime.fromtimestamp(minter.not_after, UTC),
    )
