"""Links and tokens: each opens what it was made for, for as long as it was made for, and nothing else."""

import base64
import dataclasses
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.guests import TOKEN_S, Guests, Link, sign_link
from stream_server.core.room_log import RoomLimits
from stream_server.core.room_messages import Read
from stream_server.core.rooms import Reader, Rooms
from stream_server.core.signed import OVERLAP_S, SIGNED_LENGTH_MAX, Keys, KeysInForce, NotSigned, RetiredKey
from stream_server.errors import LinkExpired, NotAllowed, Overloaded

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LINK = Link("abc123", "hall", issued=1_000, expires=10_000)


@dataclasses.dataclass
class Clock:
    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class GuestWorld:
    """Guests of a server whose list has some links."""

    def __init__(self, *links: Link) -> None:
        self.clock = Clock()
        self.keys = KeysInForce(Keys(KEY))
        self.guests = Guests(self.keys, self.clock)
        self.guests.set_links(links or [LINK])
        self.rooms = Rooms(RoomLimits(), lambda event: b"", new_life=lambda: "0", unix_s=self.clock)

    def token(self, link: Link = LINK) -> str:
        return self.guests.exchange(sign_link(KEY, link)).token

    def join(self, token: str | None, room: str = "hall") -> Reader:
        read = Read(token=token)
        return self.guests.join(room, read, lambda: self.rooms.join(room, read, lambda: None, 0.0))


def test_a_link_gives_tokens_that_open_its_room() -> None:
    world = GuestWorld()
    grant = world.guests.exchange(sign_link(KEY, LINK))
    assert (grant.expires_s, grant.link.room, grant.link_expires_s) == (TOKEN_S, "hall", 9_000)
    reader = world.join(grant.token)
    world.guests.tick()
    assert reader.error is None
    world.guests.part(reader)


def test_a_token_is_good_for_15_minutes_and_no_longer_than_its_link() -> None:
    world = GuestWorld()
    token = world.token()
    world.clock.now_s += TOKEN_S - 1
    world.join(token)
    world.clock.now_s += 1
    with pytest.raises(NotAllowed, match="get another one"):
        world.join(token)
    world.clock.now_s = LINK.expires - 10
    assert world.guests.exchange(sign_link(KEY, LINK)).expires_s == 10


def test_a_token_opens_no_other_room() -> None:
    world = GuestWorld()
    with pytest.raises(NotAllowed, match="another room"):
        world.join(world.token(), room="board")


def test_without_a_token_nobody_reads() -> None:
    world = GuestWorld()
    for token in (None, "", "x", "a.b.c"):
        with pytest.raises(NotAllowed):
            world.join(token)


def test_a_link_is_no_token_and_a_token_no_link() -> None:
    world = GuestWorld()
    with pytest.raises(NotAllowed):
        world.join(sign_link(KEY, LINK))
    with pytest.raises(NotSigned):
        world.guests.exchange(world.token())


def test_what_another_server_signed_opens_nothing() -> None:
    world = GuestWorld()
    with pytest.raises(NotSigned):
        world.guests.exchange(sign_link(OTHER_KEY, LINK))
    other = Guests(KeysInForce(Keys(OTHER_KEY)), world.clock)
    other.set_links([LINK])
    with pytest.raises(NotAllowed):
        world.join(other.exchange(sign_link(OTHER_KEY, LINK)).token)


def test_a_link_that_is_not_in_the_list_opens_nothing() -> None:
    world = GuestWorld()
    with pytest.raises(NotSigned, match="list"):
        world.guests.exchange(sign_link(KEY, msgspec.structs.replace(LINK, id="lost")))


def test_the_list_knows_the_room_better_than_the_link() -> None:
    world = GuestWorld()
    grant = world.guests.exchange(sign_link(KEY, msgspec.structs.replace(LINK, room="board")))
    assert grant.link.room == "hall"


@pytest.mark.parametrize("how", ["over", "revoked", "forgotten"])
def test_a_link_that_has_ended_says_so_and_its_readers_are_cut(how: str) -> None:
    world = GuestWorld()
    token = world.token()
    reader = world.join(token)
    if how == "over":
        world.clock.now_s = LINK.expires
    elif how == "revoked":
        world.guests.set_links([msgspec.structs.replace(LINK, revoked=True)])
    else:
        world.clock.now_s = LINK.expires
        world.guests.set_links([])
    assert world.guests.tick() == [LINK.id]
    assert world.guests.tick() == []
    assert isinstance(reader.error, LinkExpired)
    assert reader.pop() is None
    with pytest.raises(LinkExpired):
        world.guests.exchange(sign_link(KEY, LINK))
    if how == "revoked":
        with pytest.raises(LinkExpired):
            world.join(token)


def test_other_readers_stay_when_one_link_is_revoked() -> None:
    other = msgspec.structs.replace(LINK, id="other")
    world = GuestWorld(LINK, other)
    readers = [world.join(world.token(LINK)), world.join(world.token(other))]
    world.guests.set_links([msgspec.structs.replace(LINK, revoked=True), other])
    world.guests.tick()
    assert [reader.error is None for reader in readers] == [False, True]


def test_after_a_change_of_keys_what_the_one_before_has_signed_stays_good() -> None:
    world = GuestWorld()
    link, token = sign_link(KEY, LINK), world.token()
    world.keys.current = Keys(OTHER_KEY, (RetiredKey(KEY.public_key(), 1_100),))
    world.clock.now_s = 1_100
    world.join(token)
    assert verifies_with(OTHER_KEY, world.guests.exchange(link).token)
    world.clock.now_s = LINK.expires - 1
    assert verifies_with(OTHER_KEY, world.guests.exchange(link).token)


def test_a_retired_key_signs_nothing_more() -> None:
    late = Link("late", "hall", issued=1_101, expires=100_000)
    world = GuestWorld(LINK, late)
    world.keys.current = Keys(OTHER_KEY, (RetiredKey(KEY.public_key(), 1_100),))
    with pytest.raises(NotSigned):
        world.guests.exchange(sign_link(KEY, late))
    thief = GuestWorld(LINK, late)
    thief.clock.now_s = world.clock.now_s = 1_100 + OVERLAP_S
    with pytest.raises(NotAllowed):
        world.join(thief.token(late))


def test_a_key_that_is_forgotten_has_signed_nothing() -> None:
    world = GuestWorld()
    token = world.token()
    world.keys.current = Keys(OTHER_KEY)
    with pytest.raises(NotSigned):
        world.guests.exchange(sign_link(KEY, LINK))
    with pytest.raises(NotAllowed):
        world.join(token)


def verifies_with(key: Ed25519PrivateKey, token: str) -> bool:
    other = GuestWorld()
    other.keys.current = Keys(key)
    other.clock.now_s = 0
    other.join(token)
    return True


def test_a_room_that_is_full_is_so_for_guests() -> None:
    world = GuestWorld()
    world.rooms = Rooms(
        RoomLimits(readers_per_room=1), lambda event: b"", new_life=lambda: "0", unix_s=world.clock
    )
    world.join(world.token())
    with pytest.raises(Overloaded):
        world.join(world.token())


def test_the_text_is_a_json_web_token_by_its_standard() -> None:
    header, payload, _ = sign_link(KEY, LINK).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "EdDSA", "typ": "JWT"}
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims == {"aud": "stream-server guest link", "jti": "abc123", "exp": 10_000, "room": "hall"}


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA "])
def test_the_header_cannot_choose_how_it_is_checked(algorithm: str) -> None:
    world = GuestWorld()
    _, payload, signature = sign_link(KEY, LINK).split(".")
    written = json.dumps({"alg": algorithm, "typ": "JWT"}, separators=(",", ":")).encode()
    header = base64.urlsafe_b64encode(written).rstrip(b"=").decode()
    for end in (signature, ""):
        with pytest.raises(NotSigned):
            world.guests.exchange(f"{header}.{payload}.{end}")


@given(st.data())
def test_a_link_with_one_character_changed_is_none(data: st.DataObject) -> None:
    text = sign_link(KEY, LINK)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters().filter(lambda c: c != text[place]))
    with pytest.raises(NotSigned):
        GuestWorld().guests.exchange(text[:place] + character + text[place + 1 :])


@given(st.text(max_size=2_000))
def test_any_text_is_refused_in_the_same_way(text: str) -> None:
    with pytest.raises(NotSigned):
        GuestWorld().guests.exchange(text)


def test_the_longest_room_fits() -> None:
    link = msgspec.structs.replace(LINK, room="a" * 63)
    assert len(sign_link(KEY, link)) < SIGNED_LENGTH_MAX / 2
