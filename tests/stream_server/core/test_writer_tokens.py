"""Writer tokens: what was signed comes back whole, in its time only, and nothing else does."""

import dataclasses
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from certs.identity import Identity
from stream_server.core.guests import Link, sign_link
from stream_server.core.networks import Network
from stream_server.core.signed import OVERLAP_S, Claims, Keys, KeysInForce, NotSigned, RetiredKey, sign
from stream_server.core.writer_tokens import TokenTooLong, WriterToken, WriterTokens, is_bounded
from stream_server.errors import TokenExpired

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NEXT_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW_S = 1_700_000_000
HALL_NET = ip_network("10.1.0.0/16")


def minter(name: str = "desk", valid_s: int = 86_400) -> Identity:
    return Identity(
        uri=f"spiffe://stream-server.local/source/{name}",
        trust_domain="stream-server.local",
        path=f"/source/{name}",
        serial=2**159 + 7,
        fingerprint=bytes(range(32)),
        issuer=b"\x30\x82issuer",
        not_after=datetime.fromtimestamp(NOW_S, UTC) + timedelta(seconds=valid_s),
    )


class TokenWorld:
    """A server's tokens, and its clock."""

    def __init__(self, key: Ed25519PrivateKey = KEY) -> None:
        self.now_s = float(NOW_S)
        self._n = 0
        self.keys = KeysInForce(Keys(key))
        self.tokens = WriterTokens(self.keys, lambda: self.now_s, self._new_id)

    def _new_id(self) -> str:
        self._n += 1
        return f"id{self._n}"

    def mint(
        self,
        who: Identity | None = None,
        room: str | None = "hall",
        network: Network = HALL_NET,
        name: str | None = "Softphone 7",
        lifetime_s: int = 900,
    ) -> tuple[WriterToken, str]:
        return self.tokens.mint(who or minter(), room=room, network=network, name=name, lifetime_s=lifetime_s)


names = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
nets = st.ip_addresses().map(lambda address: ip_network(address))


@given(room=st.none() | st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), name=names, network=nets)
def test_what_was_minted_is_what_is_opened(room: str | None, name: str | None, network: Network) -> None:
    world = TokenWorld()
    token, text = world.mint(room=room, name=name, network=network)
    assert world.tokens.open(text) == token
    assert token.minter == minter()


def test_a_token_is_good_until_its_time_is_over() -> None:
    world = TokenWorld()
    _, text = world.mint(lifetime_s=60)
    world.now_s += 59.9
    world.tokens.open(text)
    world.now_s += 0.1
    with pytest.raises(TokenExpired):
        world.tokens.open(text)


def test_a_token_ends_no_later_than_its_makers_certificate() -> None:
    world = TokenWorld()
    token, text = world.mint(minter(valid_s=30))
    assert token.expires_s == NOW_S + 30
    world.now_s += 30
    with pytest.raises(TokenExpired):
        world.tokens.open(text)


def test_what_another_key_or_another_purpose_signed_is_none() -> None:
    world = TokenWorld()
    _, foreign = TokenWorld(NEXT_KEY).mint()
    link = sign_link(KEY, Link("abc", "hall", NOW_S, NOW_S + 900))
    other = sign(KEY, Claims("stream-server writer token"))
    for text in (foreign, link, other, "", "a.b.c"):
        with pytest.raises(NotSigned):
            world.tokens.open(text)


@given(st.data())
def test_a_token_with_one_character_changed_is_none(data: st.DataObject) -> None:
    world = TokenWorld()
    _, text = world.mint()
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters().filter(lambda c: c != text[place]))
    with pytest.raises(NotSigned):
        world.tokens.open(text[:place] + character + text[place + 1 :])


def test_a_token_survives_a_change_of_keys_for_its_own_time_and_no_longer() -> None:
    world, thief = TokenWorld(), TokenWorld()
    token, text = world.mint()
    world.keys.current = Keys(NEXT_KEY, (RetiredKey(KEY.public_key(), NOW_S),))
    assert world.tokens.open(text) == token
    assert TokenWorld(NEXT_KEY).tokens.open(world.mint()[1]).room == "hall"
    world.now_s += OVERLAP_S
    thief.now_s += OVERLAP_S
    with pytest.raises(NotSigned):
        world.tokens.open(thief.mint()[1])


def test_a_name_makes_one_holder_of_many_tokens_and_none_of_another_room() -> None:
    world = TokenWorld()
    first, again = world.mint()[0], world.mint()[0]
    assert first.holder == again.holder
    others = [world.mint(room="board")[0], world.mint(name=None)[0], world.mint(name=None)[0]]
    assert len({first.holder, *(token.holder for token in others)}) == 4


def test_nobody_takes_a_nameless_senders_place_by_the_name_of_its_token() -> None:
    world = TokenWorld()
    nameless = world.mint(name=None)[0]
    assert world.mint(name=nameless.id)[0].holder != nameless.holder


def test_a_makers_name_that_fits_no_header_is_told() -> None:
    with pytest.raises(TokenTooLong):
        TokenWorld().mint(minter("x" * 2_000))
    longest = dataclasses.replace(minter("x" * 128), issuer=bytes(200))
    token, text = TokenWorld().mint(longest, room="a" * 63, name="\N{SPEAKER}" * 64)
    assert TokenWorld().tokens.open(text) == token


@pytest.mark.parametrize(
    ("network", "bounded"), [("0.0.0.0/0", False), ("::/0", False), ("0.0.0.0/1", True), ("::1", True)]
)
def test_every_address_is_no_bound(network: str, bounded: bool) -> None:
    assert is_bounded(ip_network(network)) is bounded
