"""The list of links on disk: private, whole, and taken in when it has changed."""

import contextlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_server import guest_links
from stream_server.config import STREAM_S_MAX
from stream_server.core.signed import OVERLAP_S, TOKEN_S_MAX
from stream_server.errors import ConfigError
from stream_server.guest_links import REVOKED_S, GuestLinks


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = GuestLinks(tmp_path).keys().current
    assert isinstance(key, Ed25519PrivateKey)
    assert GuestLinks(tmp_path).keys().current.private_bytes_raw() == key.private_bytes_raw()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "guests").iterdir()}
    assert modes["link.key"] == 0o600
    assert stat.S_IMODE((tmp_path / "guests").stat().st_mode) == 0o700


def test_links_are_added_revoked_and_forgotten_when_they_are_over(tmp_path: Path) -> None:
    links = GuestLinks(tmp_path)
    assert links.links() == []
    hall = links.add("hall", 100, 1_000)
    board = links.add("board", 200, 1_000)
    assert (hall.room, hall.issued, hall.expires) == ("hall", 1_000, 1_100)
    assert links.revoke(hall.id).revoked
    assert [(link.id, link.revoked) for link in links.links()] == [(hall.id, True), (board.id, False)]
    late = links.add("late", 100, 1_100)
    assert [link.id for link in links.links()] == [board.id, late.id]
    assert stat.S_IMODE((tmp_path / "guests" / "links.json").stat().st_mode) == 0o600


def test_a_change_is_noticed_once(tmp_path: Path) -> None:
    operator, server = GuestLinks(tmp_path), GuestLinks(tmp_path)
    assert server.changed_links() == []
    assert server.changed_links() is None
    made = operator.add("hall", 100, 1_000)
    assert server.changed_links() == [made]
    assert server.changed_links() is None
    operator.revoke(made.id)
    assert server.changed_links() == [operator.links()[0]]
    (tmp_path / "guests" / "links.json").unlink()
    assert server.changed_links() == []


def test_a_link_that_is_not_there_cannot_be_revoked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--list"):
        GuestLinks(tmp_path).revoke("abc")


A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def test_tokens_are_taken_back_until_nothing_of_them_can_be_left(tmp_path: Path) -> None:
    operator, server = GuestLinks(tmp_path), GuestLinks(tmp_path)
    assert server.changed_revoked_tokens() == frozenset()
    assert server.changed_revoked_tokens() is None
    operator.revoke_token(A, 1_000)
    operator.revoke_token(A, 1_001)
    assert server.changed_revoked_tokens() == {A}
    assert server.changed_revoked_tokens() is None
    operator.revoke_token(B, 1_000 + REVOKED_S)
    assert server.changed_revoked_tokens() == {A, B}
    operator.revoke_token(C, 1_001 + REVOKED_S)
    assert server.changed_revoked_tokens() == {B, C}
    assert stat.S_IMODE((tmp_path / "guests" / "revoked.json").stat().st_mode) == 0o600


def test_a_token_stays_taken_back_longer_than_it_and_its_streams_can_last() -> None:
    assert REVOKED_S >= max(TOKEN_S_MAX, STREAM_S_MAX)


def test_the_list_of_tokens_taken_back_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_links, "REVOKED_MAX", 2)
    links = GuestLinks(tmp_path)
    links.revoke_token(A, 1_000)
    links.revoke_token(B, 1_001)
    with pytest.raises(ConfigError, match="keys rotate tokens --void"):
        links.revoke_token(C, 1_002)
    links.revoke_token(B, 1_002)
    links.revoke_token(C, 1_000 + REVOKED_S)
    assert links.changed_revoked_tokens() == {B, C}


@pytest.mark.parametrize(
    "token_id", ["", "aaaaaaaaaaa", "aaaaaaaaaaaaa", "AAAAAAAAAAAA", "aaaaaaaaaaaa\n", "../x"]
)
def test_what_is_no_tokens_id_is_refused_with_where_to_find_one(tmp_path: Path, token_id: str) -> None:
    links = GuestLinks(tmp_path)
    with pytest.raises(ConfigError, match=r"detail\.token"):
        links.revoke_token(token_id, 1_000)
    assert not (tmp_path / "guests" / "revoked.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("links.json", b"{"),
        ("links.json", b'{"links":[{"id":1}]}'),
        ("revoked.json", b"{"),
        ("revoked.json", b'{"tokens":["aaaaaaaaaaaa"]}'),
        ("link.key", b"no key"),
        ("retired.json", b"{"),
        ("retired.json", b'{"keys":[{"key":"AAAA","retired":1}]}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    links = GuestLinks(tmp_path)
    links.add("hall", 100, 1_000)
    links.keys()
    (tmp_path / "guests" / name).write_bytes(content)
    read = {"links.json": links.links, "revoked.json": links.changed_revoked_tokens}.get(name, links.keys)
    with pytest.raises(ConfigError, match=name):
        read()


def test_the_list_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_links, "LINKS_MAX", 2)
    links = GuestLinks(tmp_path)
    links.add("a", 100, 1_000)
    links.add("b", 100, 1_000)
    with pytest.raises(ConfigError, match="2 links"):
        links.add("c", 100, 1_000)
    links.add("c", 100, 1_100)


def test_two_operators_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: GuestLinks(tmp_path).add(f"r{number}", 100, 1_000), range(16)))
    assert {link.id for link in GuestLinks(tmp_path).links()} == {link.id for link in made}


def test_another_key_signs_and_the_one_before_stays_known_while_it_may_count(tmp_path: Path) -> None:
    links = GuestLinks(tmp_path)
    first = links.keys().current
    links.add("hall", 5_000, 1_000)
    second = links.rotate(2_000, void=False)
    assert second.current.private_bytes_raw() != first.private_bytes_raw()
    assert second.names[1:] == ((first.public_key().public_bytes_raw(), 2_000),)
    assert first.private_bytes_raw() not in b"".join(
        path.read_bytes() for path in (tmp_path / "guests").iterdir()
    )
    third = links.rotate(3_500, void=False)
    assert [retired_s for _, retired_s in third] == [None, 2_000, 3_500]
    assert [retired_s for _, retired_s in links.rotate(5_999, void=False)] == [None, 2_000, 3_500, 5_999]
    assert [retired_s for _, retired_s in links.rotate(6_000, void=False)] == [None, 5_999, 6_000]


def test_a_revoked_link_keeps_no_key(tmp_path: Path) -> None:
    links = GuestLinks(tmp_path)
    made = links.add("hall", 50_000, 1_000)
    links.revoke(made.id)
    links.rotate(2_000, void=False)
    assert [retired_s for _, retired_s in links.rotate(2_000 + OVERLAP_S, void=False)][1:] == [2_960]


def test_to_void_forgets_keys_and_links(tmp_path: Path) -> None:
    links = GuestLinks(tmp_path)
    links.add("hall", 5_000, 1_000)
    links.rotate(1_100, void=False)
    assert len(links.rotate(1_200, void=True).names) == 1
    assert links.links() == []


def test_earlier_keys_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_links, "RETIRED_MAX", 2)
    links = GuestLinks(tmp_path)
    links.rotate(1_000, void=False)
    kept = links.rotate(1_001, void=False)
    with pytest.raises(ConfigError, match="--void"):
        links.rotate(1_002, void=False)
    assert links.keys().names == kept.names
    links.rotate(1_002, void=True)


def test_changed_keys_are_noticed_once(tmp_path: Path) -> None:
    operator, server = GuestLinks(tmp_path), GuestLinks(tmp_path)
    operator.keys()
    assert server.changed_keys() is not None
    assert server.changed_keys() is None
    rotated = operator.rotate(1_000, void=False)
    seen = server.changed_keys()
    assert seen is not None
    assert seen.names == rotated.names
    (tmp_path / "guests" / "retired.json").write_text("{")
    with pytest.raises(ConfigError, match="retired"):
        server.changed_keys()
    assert server.changed_keys() is None


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes what it must then give away")


@needs_root
def test_what_root_writes_belongs_to_the_servers_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_346)
    links = GuestLinks(tmp_path)
    links.add("hall", 100, 1_000)
    links.revoke_token(A, 1_000)
    links.keys()
    written = [tmp_path / "guests", *(tmp_path / "guests").iterdir()]
    assert len(written) == 5
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(12_345, 12_346)}


@needs_root
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_root_gives_nothing_away_that_the_servers_user_has_linked_to(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    folder, roots_own = tmp_path / "guests", tmp_path / "shadow"
    folder.mkdir()
    os.chown(folder, 12_345, 12_346)
    roots_own.write_text("root's")
    link(roots_own, folder / ".lock")
    with contextlib.suppress(ConfigError):
        GuestLinks(tmp_path).revoke_token(A, 1_000)
    assert roots_own.stat().st_uid == 0
