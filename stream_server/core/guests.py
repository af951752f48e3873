"""Guests: who holds a link may read one room until the link ends.

A *link* is made by the operator and given to a person; a *token* is what its page exchanges it for, lives
15 minutes, and is shown when connecting. Both are signed (``core/signed.py``).

A link also stands in the server's list of links; one that is not there, or was revoked there, opens nothing,
whatever its signature.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_server.core.room_messages import Read
from stream_server.core.rooms import Reader
from stream_server.core.signed import TOKEN_S_MAX, Claims, KeysInForce, NotSigned, check_retired, sign, verify
from stream_server.errors import LinkExpired, NotAllowed

TOKEN_S = TOKEN_S_MAX
"""How long a token may be used to connect."""

_LINK_AUDIENCE = "stream-server guest link"
_TOKEN_AUDIENCE = "stream-server guest token"  # noqa: S105  a name, not a secret


class Link(msgspec.Struct, frozen=True):
    """The right to read one room for a time, as the server's list keeps it."""

    id: str
    """Names the link to the operator; opens nothing by itself."""
    room: str
    issued: int
    """Seconds since 1970, as below."""
    expires: int
    revoked: bool = False


class _LinkClaims(Claims, frozen=True):
    """What a link and its tokens say."""

    jti: str
    """The link's id."""
    exp: int
    room: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a link is exchanged for."""

    token: str
    expires_s: int
    """From now, as below."""
    link: Link
    link_expires_s: int


def sign_link(key: Ed25519PrivateKey, link: Link) -> str:
    """The text that goes behind the ``#`` of a link's URL."""
    return sign(key, _LinkClaims(_LINK_AUDIENCE, link.id, link.expires, link.room))


class Guests:
    """Exchanges links for tokens, lets readers in by them, and ends those whose link is over.

    It is the ``Admittance`` of the guest listener. One thread.

    Args:
        keys: Sign links and tokens.
        unix_s: Gives the wall clock's time.
    """

    def __init__(self, keys: KeysInForce, unix_s: Callable[[], float]) -> None:
        self._keys = keys
        self._unix_s = unix_s
        self._links: dict[str, Link] = {}
        self._readers: dict[Reader, str] = {}

    def set_links(self, links: Iterable[Link]) -> None:
        """Take the list of all links, in place of the one before."""
        self._links = {link.id: link for link in links}

    def exchange(self, signed: str) -> Grant:
        """Give a token for a link.

        Raises:
            NotSigned: It is no link of this server.
            LinkExpired: It is over or was revoked.
        """
        try:
            claims, retired_s = verify(self._keys.current, signed, _LinkClaims, _LINK_AUDIENCE)
        except NotSigned as exc:
            raise NotSigned(
                "this is no link of this server; copy the whole address, to its last character"
            ) from exc
        link = self._link_of(claims)
        if retired_s is not None and link.issued > retired_s:
            raise NotSigned("this link was signed by a key that signs no more")
        now_s = int(self._unix_s())
        expires = min(now_s + TOKEN_S, link.expires)
        token = sign(self._keys.current.current, _LinkClaims(_TOKEN_AUDIENCE, link.id, expires, link.room))
        return Grant(token, expires - now_s, link, link.expires - now_s)

    def join(self, room: str, read: Read, reader_of: Callable[[], Reader]) -> Reader:
        """Let a reader in whose token is good for this room.

        Raises:
            NotAllowed: No token, or one that is not good, or not for this room.
            LinkExpired: The link behind the token is over or was revoked.
            StreamError: Whatever ``reader_of`` raises.
        """
        link = self._link_behind(read.token, room)
        reader = reader_of()
        self._readers[reader] = link.id
        return reader

    def part(self, reader: Reader) -> None:
        """A reader that was let in has gone."""
        del self._readers[reader]

    def tick(self) -> list[str]:
        """About once a second: end the readers whose link is over or was revoked.

        Returns:
            The ids of their links, one for each reader that is ended by this call.
        """
        cut = []
        for reader, link_id in self._readers.items():
            if self._is_over(self._links.get(link_id)):
                if reader.error is None:
                    cut.append(link_id)
                reader.cut(_link_expired())
        return cut

    def _link_behind(self, token: str | None, room: str) -> Link:
        if token is None:
            raise NotAllowed("a guest's read needs a token; get one from /v1/guest/token")
        try:
            claims, retired_s = verify(self._keys.current, token, _LinkClaims, _TOKEN_AUDIENCE)
            check_retired(retired_s, self._unix_s())
            link = self._link_of(claims)
        except NotSigned as exc:
            raise NotAllowed("the token is not one of this server; get another one") from exc
        if claims.exp <= self._unix_s():
            raise NotAllowed("the token is over; get another one")
        if link.room != room:
            raise NotAllowed("the link is for another room")
        return link

    def _link_of(self, claims: _LinkClaims) -> Link:
        link = self._links.get(claims.jti)
        if link is None and claims.exp > self._unix_s():
            raise NotSigned("this link is not in the server's list")
        if link is None or self._is_over(link):
            raise _link_expired()
        return link

    def _is_over(self, link: Link | None) -> bool:
        return link is None or link.revoked or link.expires <= self._unix_s()


def _link_expired() -> LinkExpired:
    return LinkExpired("this link is over; ask whoever gave it to you for another one")
