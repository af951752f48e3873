"""The folder of certificates and keys: the only module that writes files.

Layout::

    ca.pem  ca.key          the authority; ca.key never leaves this machine
    crl.pem                 the revocation list servers load
    server.pem  server.key
    clients/ROLE-NAME.pem  .key  .p12
    index.json              what was issued and revoked
    replaced-TIME/          what `init --force` set aside

Keys are created with mode 0600 (never wider, not for a moment) and folders with 0700. Every file is written
beside its target, synced and renamed, so a reader sees the old or the new one, whole. Commands that change
the folder hold a lock on it, so two at once lose no index entry.

What root writes belongs to the folder's owner, the server's user, who must read it; but for ``ca.key``:
whoever breaks into the server is to issue nothing.
"""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from certs import authority
from certs.authority import CA_DAYS, CLIENT_DAYS, CRL_DAYS, SERVER_DAYS, AuthorityError, CrlInfo, Issued
from certs.identity import DEFAULT_TRUST_DOMAIN, Role, check_trust_domain, spiffe_uri
from certs.index import CorruptIndex, Entry, Index, Kind, decode, encode

COMMAND = "stream-server certs"
"""How messages spell the command line."""

LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.02
_MOVED_BY_FORCE = ("ca.pem", "ca.key", "crl.pem", "server.pem", "server.key", "clients", "index.json")


class StoreError(RuntimeError):
    """A file is missing, broken or in the way; the message names it and the next command."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where a client's certificate went."""

    cert: Path
    key: Path
    p12: Path | None
    entry: Entry
    replaced: tuple[Entry, ...]
    """Earlier certificates of the same client that are still valid."""


def default_folder() -> Path:
    """``$STREAM_SERVER_STATE/certs``, else ``~/.local/share/stream-server/certs``."""
    state = os.environ.get("STREAM_SERVER_STATE")
    return (Path(state) if state else Path.home() / ".local/share/stream-server") / "certs"


def utc_now() -> datetime:
    """The wall clock, UTC-aware."""
    return datetime.now(UTC)


class Store:
    """One folder of certificates. Holds no state but the path: several may be open on one folder."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.folder = folder
        self._clock = clock
        self.ca_cert = folder / "ca.pem"
        self.ca_key = folder / "ca.key"
        self.crl = folder / "crl.pem"
        self.server_cert = folder / "server.pem"
        self.server_key = folder / "server.key"
        self.index_file = folder / "index.json"

    def init(
        self,
        trust_domain: str = DEFAULT_TRUST_DOMAIN,
        *,
        days: int = CA_DAYS,
        crl_days: int = CRL_DAYS,
        force: bool = False,
    ) -> Path | None:
        """Make the authority and its first, empty CRL.

        Args:
            trust_domain: remembered, and part of every client's URI.
            days: lifetime of the authority.
            crl_days: lifetime of the first CRL.
            force: set an existing authority aside, with everything it issued.

        Returns:
            The folder that the earlier authority was moved to, if there was one.

        Raises:
            StoreError: there is an authority already and ``force`` is not set, or a file cannot be written.
            IdentityError: the trust domain is not allowed.
        """
        check_trust_domain(trust_domain)
        _make_folder(self.folder)
        with self._locked():
            set_aside = self._make_room(force)
            now = self._clock()
            ca = authority.new_ca(trust_domain, serial=x509.random_serial_number(), now=now, days=days)
            crl_pem = authority.new_crl(ca, (), now=now, days=crl_days)
            _write(self.ca_key, ca.key_pem, mode=0o600, is_handed_over=False)
            _write(self.ca_cert, ca.cert_pem)
            self._write_index(Index(trust_domain, authority.crl_info(crl_pem)))
            _write(self.crl, crl_pem)
        return set_aside

    def issue_server(self, names: Sequence[str], *, days: int = SERVER_DAYS, force: bool = False) -> Entry:
        """Issue the server's certificate for these host names and IP addresses.

        Raises:
            StoreError: no authority, or a server key exists and ``force`` is not set.
            AuthorityError: a name is neither host name nor address.
        """
        with self._locked():
            index = self.read_index()
            _refuse_overwrite(self.server_key, force)
            issued = authority.new_server(
                self._ca(), names, serial=x509.random_serial_number(), now=self._clock(), days=days
            )
            entry = Entry(Kind.SERVER, "server", " ".join(names), issued.serial, issued.not_after)
            self._write_index(index.with_entry(entry))
            _write(self.server_key, issued.key_pem, mode=0o600)
            _write(self.server_cert, issued.cert_pem)
        return entry

    def issue_client(
        self,
        role: Role,
        name: str,
        *,
        days: int = CLIENT_DAYS,
        passphrase: str | None = None,
        force: bool = False,
    ) -> ClientFiles:
        """Issue a client's certificate.

        Args:
            role: what the client may do; together with the name it makes URI and file name.
            name: see ``identity.check_segment``.
            days: lifetime.
            passphrase: also write a .p12 file under it.
            force: replace the files of an earlier certificate; that one stays valid until revoked.

        Raises:
            StoreError: no authority, or the client's key exists and ``force`` is not set.
            IdentityError: the name is not allowed.
            AuthorityError: the passphrase is too short, or the authority has expired.
        """
        with self._locked():
            index = self.read_index()
            uri = spiffe_uri(index.trust_domain, role, name)
            stem = f"clients/{role}-{name}"
            cert, key, p12 = (self.folder / f"{stem}{suffix}" for suffix in (".pem", ".key", ".p12"))
            _refuse_overwrite(key, force)
            ca, now = self._ca(), self._clock()
            issued = authority.new_client(ca, uri, serial=x509.random_serial_number(), now=now, days=days)
            bundle = passphrase and authority.pkcs12_bundle(
                issued, ca.cert_pem, name=f"{name} ({role})", passphrase=passphrase
            )
            entry = Entry(Kind.CLIENT, stem, uri, issued.serial, issued.not_after)
            self._write_index(index.with_entry(entry))
            _make_folder(cert.parent)
            _write(key, issued.key_pem, mode=0o600)
            _write(cert, issued.cert_pem)
            # A bundle left from an earlier certificate would not fit the new key.
            p12.unlink(missing_ok=True)
            if bundle:
                _write(p12, bundle, mode=0o600)
        replaced = tuple(e for e in index.clients_called(uri) if e.revoked_at is None and e.not_after > now)
        return ClientFiles(cert, key, p12 if bundle else None, entry, replaced)

    def revoke(self, wanted: str, *, crl_days: int = CRL_DAYS) -> tuple[Entry, ...]:
        """Revoke every certificate of one client, or one by serial number, and write the CRL anew.

        Args:
            wanted: short name, name, URI or serial number in hex.
            crl_days: lifetime of the new CRL.

        Returns:
            What was revoked by this call; nothing if all had been revoked before.

        Raises:
            StoreError: nobody is called that, or more than one client is.
        """
        with self._locked():
            index = self.read_index()
            found = index.clients_called(wanted)
            if not found:
                raise StoreError(
                    f"no client certificate is called '{wanted}'; list them with `{COMMAND} show`"
                )
            if len({entry.subject for entry in found}) > 1:
                names = ", ".join(sorted({entry.short_name for entry in found}))
                raise StoreError(f"'{wanted}' can mean {names}; give one of these names or a serial number")
            fresh = tuple(entry for entry in found if entry.revoked_at is None)
            revoked_at = self._clock().replace(microsecond=0)
            self._renew_crl(index.with_revoked((entry.serial for entry in fresh), revoked_at), crl_days)
        return fresh

    def issue_crl(self, *, days: int = CRL_DAYS) -> CrlInfo:
        """Write the CRL anew with a later expiry date.

        Raises:
            StoreError: no authority, or a file cannot be read or written.
            AuthorityError: the clock went backwards since the last CRL.
        """
        with self._locked():
            return self._renew_crl(self.read_index(), days)

    def read_index(self) -> Index:
        """What was issued and revoked.

        Raises:
            StoreError: there is no authority in this folder, or its index is broken.
        """
        if not self.index_file.exists() and not self.ca_key.exists():
            raise StoreError(f"there is no authority in {self.folder}; make one with `{COMMAND} init`")
        restore = "restore it from a backup, or start over with"
        try:
            return decode(_read(self.index_file, f"{restore} `{COMMAND} init --force`").decode())
        except (CorruptIndex, UnicodeDecodeError) as error:
            raise StoreError(f"{self.index_file} is broken; {restore} `{COMMAND} init --force`") from error

    def ca_not_after(self) -> datetime:
        """When the authority expires, UTC-aware.

        Raises:
            StoreError: the authority cannot be read.
        """
        return self._ca().not_after

    def _ca(self) -> Issued:
        advice = f"restore it from a backup, or start over with `{COMMAND} init --force`"
        cert_pem, key_pem = _read(self.ca_cert, advice), _read(self.ca_key, advice)
        try:
            return authority.load_issued(cert_pem, key_pem)
        except AuthorityError as error:
            raise StoreError(f"{self.ca_cert} and {self.ca_key}: {error}; {advice}") from error

    def _renew_crl(self, index: Index, days: int) -> CrlInfo:
        crl_pem = authority.new_crl(
            self._ca(), index.revoked(), now=self._clock(), previous=index.crl, days=days
        )
        info = authority.crl_info(crl_pem)
        self._write_index(index.with_crl(info))
        _write(self.crl, crl_pem)
        return info

    def _write_index(self, index: Index) -> None:
        # 0600: it lists the names of people.
        _write(self.index_file, encode(index).encode(), mode=0o600)

    def _make_room(self, force: bool) -> Path | None:
        present = [self.folder / name for name in _MOVED_BY_FORCE if (self.folder / name).exists()]
        if not present:
            return None
        if not force:
            raise StoreError(
                f"{present[0]} exists already; --force sets the old authority aside and makes a new one,"
                " and then every server and client needs a new certificate"
            )
        # Moved, not deleted: the key of an authority that is still in use somewhere cannot be made again.
        target = self.folder / f"replaced-{self._clock():%Y%m%dT%H%M%S.%fZ}"
        _make_folder(target)
        for path in present:
            path.rename(target / path.name)
        return target

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise StoreError(f"there is no authority in {self.folder}; make one with `{COMMAND} init`")
        with _os_errors(self.folder):
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.folder / ".lock", flags, 0o600)
        try:
            _hand_over(descriptor, self.folder)
            _wait_for_lock(descriptor, self.folder)
            yield
        finally:
            os.close(descriptor)  # which also releases the lock


def _wait_for_lock(descriptor: int, folder: Path) -> None:
    give_up_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= give_up_s:
                raise StoreError(
                    f"another command is changing {folder}; try again when it is done"
                ) from error
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _make_folder(folder: Path) -> None:
    with _os_errors(folder):
        missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in reversed(missing):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _hand_over(descriptor, path.parent)
            finally:
                os.close(descriptor)
        if folder.stat().st_mode & 0o022:
            raise StoreError(f"other users can write to {folder}; run `chmod 700 {folder}` and try again")


def _hand_over(descriptor: int, folder: Path) -> None:
    """Give what root has made to the owner of the folder it lies in.

    The owner can put names there that lead elsewhere: what was opened is followed by no link, is nobody
    else's, and has no second name.
    """
    if os.geteuid() != 0:
        return
    made, owner = os.fstat(descriptor), folder.stat()
    if made.st_uid == 0 and (stat.S_ISDIR(made.st_mode) or made.st_nlink == 1):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _refuse_overwrite(key: Path, force: bool) -> None:
    if key.exists() and not force:
        raise StoreError(f"{key} exists already; add --force to replace it")


def _read(path: Path, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; {advice}") from error
    except PermissionError as error:
        raise StoreError(f"{path} is another user's; run the command as its owner, or as root") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); {advice}") from error


def _write(path: Path, content: bytes, *, mode: int = 0o644, is_handed_over: bool = True) -> None:
    """Replace a file in one step; ``mode`` holds from its creation on, less the umask.

    Args:
        path: The file.
        content: All of it.
        mode: Its permissions.
        is_handed_over: Whether it belongs to the folder's owner if root writes it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _os_errors(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                if is_handed_over:
                    _hand_over(descriptor, path.parent)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost in a power cut.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"{path} cannot be written ({reason}); check the folder's owner and space"
        ) from error
