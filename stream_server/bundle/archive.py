"""A tar archive whose bytes depend on its contents alone, and the checksums in it.

It is not compressed: wheels and weights, which are nearly all of it, are as small as they get.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_server.errors import BundleError

SUMS_NAME = "SHA256SUMS"
SIGNATURE_NAME = "SHA256SUMS.sig"
# What a tool for zip or tar takes for the beginning of time: no file of the archive is from any day.
_MTIME = 315_532_800
_NAME = re.compile(r"[A-Za-z0-9_+.,@-]+(/[A-Za-z0-9_+.,@-]+)*")

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: bytes, or a file to copy."""

    content: bytes | Path
    is_executable: bool = False

    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def sha256(self) -> str:
        """In hex."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def sums(members: Mapping[str, Member]) -> bytes:
    """The lines that ``sha256sum -c`` reads, sorted by name.

    Raises:
        BundleError: A name has characters that the tools which check it may take for something else.
    """
    for name in members:
        if not _NAME.fullmatch(name) or ".." in name.split("/"):
            raise BundleError(f"{name!r} cannot be a file of the archive: letters, digits and _+.,@- only")
    return "".join(f"{members[name].sha256()}  {name}\n" for name in sorted(members)).encode()


def write(path: Path, folder: str, members: Mapping[str, Member], progress: Progress) -> str:
    """Write the archive whole or not at all.

    Args:
        path: Where; an older one is replaced.
        folder: What it unpacks to.
        members: Files by their names in the folder.
        progress: Told how far it is.

    Returns:
        The SHA-256 of the archive, in hex.

    Raises:
        BundleError: It cannot be written; nothing is left.
    """
    total = sum(member.size() for member in members.values())
    n_done = 0
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("xb") as file:
            # GNU's format has no times beside the one that is set here.
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
                for name in sorted(members):
                    _add(archive, f"{folder}/{name}", members[name])
                    n_done += members[name].size()
                    progress(n_done, total)
            file.flush()
            os.fsync(file.fileno())
        digest = Member(partial).sha256()
        partial.replace(path)
    except FileExistsError as exc:
        raise BundleError(f"{partial} is there: another command is writing it, or remove it") from exc
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise BundleError(f"{path} cannot be written: {exc.strerror}") from exc
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return digest


def _add(archive: tarfile.TarFile, name: str, member: Member) -> None:
    info = tarfile.TarInfo(name)
    info.size = member.size()
    info.mtime = _MTIME
    info.mode = 0o755 if member.is_executable else 0o644
    if isinstance(member.content, bytes):
        archive.addfile(info, io.BytesIO(member.content))
    else:
        with member.content.open("rb") as file:
            archive.addfile(info, file)
