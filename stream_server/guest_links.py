"""Links, revoked tokens and keys of guests, on disk: lists that commands change, and what signs.

The folder is ``guests`` in the state folder: ``link.key`` (PEM, Ed25519), which signs links and tokens,
``retired.json`` with the public halves of the keys before it, ``links.json``, and ``revoked.json`` with the
writer tokens that were taken back; all 0600. The server looks at them about once a second and takes changed
ones in; files are replaced whole, so that it never reads half of one.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream_server.config import STREAM_S_MAX
from stream_server.core.guests import Link
from stream_server.core.signed import OVERLAP_S, Keys, RetiredKey
from stream_server.core.writer_tokens import TOKEN_ID
from stream_server.errors import ConfigError

_Stamp = tuple[int, int, int]
LINKS_MAX = 10_000
"""Links in force at once."""
RETIRED_MAX = 16
"""Earlier keys that are tried on what clients show."""
REVOKED_MAX = 10_000
"""Tokens in the list of those taken back."""
REVOKED_S = STREAM_S_MAX
"""How long they stand there: a token made just before opens connections and keeps streams no longer."""


class _LinksFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    links: list[Link]


class _RevokedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    revoked: int
    """Seconds since 1970."""


class _RevokedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: list[_RevokedToken]


class _Retired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    """Raw, 32 bytes; base64 in the file."""
    retired: int


class _RetiredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[_Retired]


class GuestLinks:
    """Keys and list of one state folder.

    Every method raises ``ConfigError`` when a file cannot be read or written; the message names it.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "guests"
        self._key_file = self._folder / "link.key"
        self._retired_file = self._folder / "retired.json"
        self._list_file = self._folder / "links.json"
        self._revoked_file = self._folder / "revoked.json"
        self._seen: _Stamp | None = None
        self._seen_revoked: _Stamp | None = None
        self._seen_keys: tuple[_Stamp, _Stamp] | None = None

    def keys(self) -> Keys:
        """The key that signs, made at its first use, and those before it."""
        with self._locked():
            return self._keys()

    def changed_keys(self) -> Keys | None:
        """The keys, if they are not those that this returned before."""
        seen = (_stamp(self._key_file), _stamp(self._retired_file))
        if seen == self._seen_keys:
            return None
        # Before reading: a change meanwhile is seen next time. Also when that fails: it is told once.
        self._seen_keys = seen
        return self.keys()

    def rotate(self, now_s: int, *, void: bool) -> Keys:
        """Make another key sign from now on; a server that runs takes note within some seconds.

        The private half of the key before is gone then. Its public half stays as long as something that it
        has signed may be in force.

        Args:
            now_s: Seconds since 1970.
            void: Forget all keys and links there were: whatever they have signed opens nothing from now on.
        """
        with self._locked():
            old = self._keys()
            just_now = RetiredKey(old.current.public_key(), now_s)
            links = self.links()
            retired = [key for key in (*old.retired, just_now) if _may_count(key, links, now_s)]
            if len(retired) > RETIRED_MAX and not void:
                raise ConfigError(
                    f"{RETIRED_MAX} earlier keys have signed links that are in force; wait until some have"
                    " ended, or void all of them with --void"
                )
            # First: should the other file not come to be written, the current key is known twice, no harm.
            _replace(self._retired_file, _encoded([] if void else retired))
            if void:
                self._write([])
            self._make_key()
            return self._keys()

    def _keys(self) -> Keys:
        if not self._key_file.exists():
            self._make_key()
        try:
            key = load_pem_private_key(_read(self._key_file), password=None)
        except (ValueError, TypeError) as exc:
            raise ConfigError(
                f"{self._key_file} is no private key; delete it to have one made: all links are void then"
            ) from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{self._key_file} is not an Ed25519 key; delete it to have one made")
        return Keys(key, self._retired())

    def _make_key(self) -> None:
        made = Ed25519PrivateKey.generate()
        _replace(self._key_file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _retired(self) -> tuple[RetiredKey, ...]:
        if not self._retired_file.exists():
            return ()
        try:
            found = msgspec.json.decode(_read(self._retired_file), type=_RetiredFile).keys
            return tuple(
                RetiredKey(Ed25519PublicKey.from_public_bytes(one.key), one.retired) for one in found
            )
        except (msgspec.DecodeError, ValueError) as exc:
            raise ConfigError(
                f"{self._retired_file} is damaged; put back a copy, or delete it: what earlier keys signed is"
                " void then"
            ) from exc

    def links(self) -> list[Link]:
        """Every link in the list, revoked ones too."""
        if not self._list_file.exists():
            return []
        try:
            return msgspec.json.decode(_read(self._list_file), type=_LinksFile).links
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ConfigError(
                f"{self._list_file} is damaged ({exc}); put back a copy, or delete it, and all links are void"
            ) from exc

    def changed_links(self) -> list[Link] | None:
        """The list, if it is not the one that this returned before."""
        seen = _stamp(self._list_file)
        if seen == self._seen:
            return None
        self._seen = seen
        return self.links()

    def add(self, room: str, lifetime_s: int, now_s: int) -> Link:
        """Note a link for a room; those that are over are forgotten.

        Args:
            room: Its name, checked by the caller.
            lifetime_s: Seconds until it ends.
            now_s: Seconds since 1970.
        """
        link = Link(secrets.token_hex(6), room, now_s, now_s + lifetime_s)
        with self._locked():
            kept = [other for other in self.links() if other.expires > now_s]
            if len(kept) >= LINKS_MAX:
                raise ConfigError(f"{LINKS_MAX} links are in force; wait until some have ended")
            self._write([*kept, link])
        return link

    def revoke(self, link_id: str) -> Link:
        """End a link before its time; a server that runs takes note within some seconds."""
        with self._locked():
            links = self.links()
            found = next((link for link in links if link.id == link_id), None)
            if found is None:
                raise ConfigError(f"there is no link {link_id}; `stream-server link --list` names them")
            revoked = msgspec.structs.replace(found, revoked=True)
            self._write([revoked if link is found else link for link in links])
        return revoked

    def revoke_token(self, token_id: str, now_s: int) -> None:
        """Take a writer token back; a server that runs takes note within some seconds.

        Which tokens there are stands in no list, so that one that was never made is taken back as well. Those
        of which nothing can be left are forgotten.

        Args:
            token_id: As its maker was told, and as the audit log has it.
            now_s: Seconds since 1970.
        """
        if not TOKEN_ID.fullmatch(token_id):
            raise ConfigError(
                f"{token_id!r} is no token's id, which is 12 of 0-9 a-f; the audit log has it where the token"
                " was made (token.mint) and used, under detail.token"
            )
        with self._locked():
            kept = [one for one in self._revoked() if one.revoked + REVOKED_S > now_s and one.id != token_id]
            if len(kept) >= REVOKED_MAX:
                raise ConfigError(
                    f"{REVOKED_MAX} tokens are taken back already; to void all of them: "
                    "stream-server keys rotate tokens --void"
                )
            content = _RevokedFile([*kept, _RevokedToken(token_id, now_s)])
            _replace(self._revoked_file, msgspec.json.format(msgspec.json.encode(content)) + b"\n")

    def changed_revoked_tokens(self) -> frozenset[str] | None:
        """The ids of tokens taken back, if the list is not the one that this returned before."""
        seen = _stamp(self._revoked_file)
        if seen == self._seen_revoked:
            return None
        self._seen_revoked = seen
        return frozenset(one.id for one in self._revoked())

    def _revoked(self) -> list[_RevokedToken]:
        if not self._revoked_file.exists():
            return []
        try:
            return msgspec.json.decode(_read(self._revoked_file), type=_RevokedFile).tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ConfigError(
                f"{self._revoked_file} is damaged ({exc}); put back a copy, or void all tokens with "
                "`stream-server keys rotate tokens --void` and delete it"
            ) from exc

    def _write(self, links: list[Link]) -> None:
        _replace(self._list_file, msgspec.json.format(msgspec.json.encode(_LinksFile(links))) + b"\n")

    def _make_folder(self) -> None:
        if self._folder.exists():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _give_to_owner(descriptor, self._folder.parent)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the folder meanwhile."""
        try:
            self._make_folder()
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._folder / ".lock", flags, 0o600)
            _give_to_owner(descriptor, self._folder)
        except OSError as exc:
            raise ConfigError(f"{self._folder} cannot be used: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # which also releases the lock


def _may_count(key: RetiredKey, links: Iterable[Link], now_s: int) -> bool:
    """Whether something that a key has signed may be in force."""
    has_tokens = now_s < key.retired_s + OVERLAP_S
    return has_tokens or any(
        link.issued <= key.retired_s and link.expires > now_s and not link.revoked for link in links
    )


def _encoded(retired: Iterable[RetiredKey]) -> bytes:
    keys = [_Retired(one.key.public_bytes_raw(), one.retired_s) for one in retired]
    return msgspec.json.format(msgspec.json.encode(_RetiredFile(keys))) + b"\n"


def _stamp(path: Path) -> _Stamp:
    """What tells one content of a file from another."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Let the server's user read what root has written.

    That user can put names there that lead elsewhere: what was opened is followed by no link, is nobody
    else's, and has no second name.
    """
    if os.geteuid() != 0:
        return
    made, owner = os.fstat(descriptor), folder.stat()
    if made.st_uid == 0 and (stat.S_ISDIR(made.st_mode) or made.st_nlink == 1):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _give_to_owner(descriptor, path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc
