"""The TLS files of a running server: noticed when they change, checked, and only then taken over.

A new context is built from the new files and tried in a handshake in memory; the old one stays in use until
that has worked. Files are replaced one after the other, so a change is looked at when it has settled.
"""

import os
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from certs.identity import UNREADABLE, Identity
from certs.tls import TlsConfigError, crl_expiry, server_context, try_handshake


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The four files of a server."""

    cert: Path
    key: Path
    client_ca: Path
    crl: Path

    def __iter__(self) -> Iterator[Path]:
        """In the order of ``server_context``'s arguments."""
        return iter((self.cert, self.key, self.client_ca, self.crl))


class RevocationList:
    """A CRL in force.

    Args:
        path: PEM; checked by ``server_context`` before.

    Raises:
        TlsConfigError: What ``server_context`` does not look at is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            crl = x509.load_pem_x509_crl(path.read_bytes())
            self._issuer = crl.issuer.public_bytes()
            self._serials = frozenset(entry.serial_number for entry in crl)
            self.number = _number(crl)
            """Rises with each list of an authority; None in lists that have none."""
        except UNREADABLE as error:
            raise TlsConfigError(f"{path} is a damaged revocation list; put a good copy there") from error
        self.expires = crl_expiry(path)
        """UTC-aware; from then on TLS refuses every client."""

    def __len__(self) -> int:
        return len(self._serials)

    def names(self, identity: Identity) -> bool:
        """Whether a client's certificate is revoked."""
        return identity.serial in self._serials and identity.issuer == self._issuer


@dataclass(frozen=True, slots=True)
class Credentials:
    """What four files that fit each other come to."""

    context: ssl.SSLContext
    revoked: RevocationList
    server_expires: datetime
    """UTC-aware; when the server's certificate ends."""


class FileWatch:
    """Whether files have changed, by what the file system says of them.

    Args:
        paths: They need not exist.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._taken = self._stamps()

    def has_changed(self) -> bool:
        """Whether they are others than those last taken, and the same as at the call before."""
        stamps = self._stamps()
        is_settled, self._seen = stamps == self._seen, stamps
        return is_settled and stamps != self._taken

    def take(self) -> None:
        """They are about to be read."""
        self._taken = self._stamps()

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._paths))


class LiveCredentials:
    """The credentials in use, and whether the files have changed.

    Args:
        files: Read at once.
        now: UTC-aware.

    Raises:
        TlsConfigError: See ``server_context``.
    """

    def __init__(self, files: TlsFiles, now: datetime) -> None:
        self._files = files
        self._watch = FileWatch(files)
        self.current = _load(files, now)

    def has_changed(self) -> bool:
        """Whether the files are others than those last read, and the same as at the call before."""
        return self._watch.has_changed()

    def reload(self, now: datetime) -> Credentials:
        """Read the files and use them from now on.

        Raises:
            TlsConfigError: They cannot be used, or the CRL is older than the one in use: the old ones stay.
        """
        # Also when it fails: the same broken files are not tried again each second.
        self._watch.take()
        credentials = _load(self._files, now)
        old, new = self.current.revoked.number, credentials.revoked.number
        if old is not None and new is not None and new < old:
            raise TlsConfigError(
                f"{self._files.crl} is list number {new}, but number {old} is in use: an old list would "
                "admit who was revoked since; put the newest one there"
            )
        self.current = credentials
        return credentials


def _load(files: TlsFiles, now: datetime) -> Credentials:
    context = server_context(*files, now=now)
    try_handshake(context)
    leaf = x509.load_pem_x509_certificates(files.cert.read_bytes())[0]
    return Credentials(context, RevocationList(files.crl), leaf.not_valid_after_utc)


def _number(crl: x509.CertificateRevocationList) -> int | None:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one content of a file from another, following links as ``open`` does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
