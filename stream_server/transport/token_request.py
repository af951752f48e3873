"""What a client wants of a token that it asks for: the query of ``POST /v1/tokens``.

A request has no body that could be read before the upgrade to a WebSocket; nothing in it is secret, only
the answer is.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from stream_server.core.networks import Network, address_network, networks
from stream_server.core.room_messages import (
    ROOM_RULE,
    SPEAKER_LENGTH_MAX,
    is_room_name,
    is_speaker_name,
)
from stream_server.core.signed import TOKEN_S_MAX
from stream_server.core.writer_tokens import NETWORK_RULE, TOKEN_S_MIN, is_bounded

_KEYS = ("room", "network", "name", "seconds")


class TokenRequestError(ValueError):
    """The request is none for a token; the message names the key and what is allowed."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token as it is wanted."""

    room: str | None
    network: Network
    name: str | None
    lifetime_s: int


def read_token_request(query: str, address: str) -> TokenRequest:
    """Read the part of a request's path behind ``?``.

    Args:
        query: Such as ``room=hall&network=10.1.0.0/16&name=Softphone%207&seconds=600``; each may be left out.
        address: Of who asks: the network of the token if none is named.

    Raises:
        TokenRequestError: A key is unknown or stands there twice, or a value is not allowed.
    """
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(_KEYS)
        )
    except ValueError as exc:
        raise TokenRequestError(f"the query must be KEY=VALUE pairs, of {', '.join(_KEYS)}") from exc
    given = dict(pairs)
    if len(given) < len(pairs) or not given.keys() <= set(_KEYS):
        raise TokenRequestError(f"the query has {', '.join(_KEYS)}, each once at most, and nothing else")
    room, name = given.get("room"), given.get("name")
    if room is not None and not is_room_name(room):
        raise TokenRequestError(f"room: {ROOM_RULE}")
    if name is not None and not is_speaker_name(name):
        raise TokenRequestError(f"name: 1 to {SPEAKER_LENGTH_MAX} printable characters, no space at an end")
    return TokenRequest(
        room, _network(given.get("network"), address), name, _lifetime_s(given.get("seconds"))
    )


def _network(text: str | None, address: str) -> Network:
    try:
        network = address_network(address) if text is None else networks([text])[0]
    except ValueError as exc:
        raise TokenRequestError(f"network: {NETWORK_RULE}, without bits beyond the prefix") from exc
    if not is_bounded(network):
        raise TokenRequestError(f"network: {NETWORK_RULE}")
    return network


def _lifetime_s(text: str | None) -> int:
    if text is None:
        return TOKEN_S_MAX
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(TOKEN_S_MAX))
    if not is_number or not TOKEN_S_MIN <= int(text) <= TOKEN_S_MAX:
        raise TokenRequestError(f"seconds: a number from {TOKEN_S_MIN} to {TOKEN_S_MAX}")
    return int(text)
