"""Files of the audit log: for their owner only, on the disk when a call returns, whole or not at all."""

import gzip
import os
import shutil
from pathlib import Path


def pack(plain: Path, packed: Path) -> None:
    """Compress a closed file; the times of its entries decide its age, so the copy keeps its time."""
    temporary = packed.with_suffix(".tmp")
    with plain.open("rb") as source, open(temporary, "wb", opener=open_private) as target:
        with gzip.GzipFile(fileobj=target, mode="wb", mtime=0) as compressor:
            shutil.copyfileobj(source, compressor)
        target.flush()
        os.fsync(target.fileno())
    times = plain.stat()
    os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    temporary.replace(packed)
    plain.unlink()


def open_private(path: str | Path, flags: int) -> int:
    """Open a file for the owner only, and none that a name in the folder leads to elsewhere.

    Commands that root runs write into a folder of the server's user, who could have put such a name there.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, readable for the owner only."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", opener=open_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """Put the folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
