"""The links given to guests, on disk: their key, and the list that ``stream-server link`` changes.

The folder is ``guests`` in the state folder: ``link.key`` (PEM, Ed25519, 0600) and ``links.json`` (0600). The
server looks at the list about once a second and takes a changed one in; files are replaced whole, so that it
never reads half of one.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream_server.core.guests import Link
from stream_server.errors import ConfigError

LINKS_MAX = 10_000
"""Links in force at once."""


class _LinksFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    links: list[Link]


class GuestLinks:
    """Key and list of one state folder.

    Every method raises ``ConfigError`` when a file cannot be read or written; the message names it.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "guests"
        self._key_file = self._folder / "link.key"
        self._list_file = self._folder / "links.json"
        self._seen: tuple[int, int, int] | None = None

    def key(self) -> Ed25519PrivateKey:
        """The key that signs, made at its first use."""
        with self._locked():
            if not self._key_file.exists():
                made = Ed25519PrivateKey.generate()
                pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                _replace(self._key_file, pem)
            try:
                key = load_pem_private_key(_read(self._key_file), password=None)
            except (ValueError, TypeError) as exc:
                raise ConfigError(
                    f"{self._key_file} is no private key; delete it to have one made: all links are void then"
                ) from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{self._key_file} is not an Ed25519 key; delete it to have one made")
        return key

    def links(self) -> list[Link]:
        """Every link in the list, revoked ones too."""
        if not self._list_file.exists():
            return []
        try:
            return msgspec.json.decode(_read(self._list_file), type=_LinksFile).links
        except msgspec.DecodeError as exc:
            raise ConfigError(
                f"{self._list_file} is damaged ({exc}); put back a copy, or delete it, and all links are void"
            ) from exc

    def changed_links(self) -> list[Link] | None:
        """The list, if it is not the one that this returned before."""
        try:
            found = self._list_file.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = (0, 0, 0)
        except OSError as exc:
            raise ConfigError(f"{self._list_file} cannot be read: {exc.strerror}") from exc
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

    def _write(self, links: list[Link]) -> None:
        _replace(self._list_file, msgspec.json.format(msgspec.json.encode(_LinksFile(links))) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the folder meanwhile."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigError(f"{self._folder} cannot be used: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # which also releases the lock


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc
