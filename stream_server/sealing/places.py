"""Where secrets lie: a file that its owner alone may read, an environment variable, a credential of systemd.

A reference names the place, and configurations and command lines hold nothing else. No error of this module
holds what it read.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from stream_server.errors import ModelError

_FILE_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Secret:
    """What a place holds."""

    place: str
    """For errors."""
    text: str = field(repr=False)


def read_secret(reference: str, what: str) -> Secret:
    """Read the text that a reference names.

    Args:
        reference: ``env:NAME`` for an environment variable, ``credential:NAME`` for a credential that systemd
            hands over, else the path of a file that its owner alone may read.
        what: What it should be, for errors: ``the model's key``.

    Raises:
        ModelError: There is nothing; names the place, never what lies there.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        text = os.environ.get(name)
        if text is None:
            raise ModelError(f"the environment variable {name}, which is to hold {what}, is not set")
        return Secret(f"the environment variable {name}", text)
    if kind == "credential":
        return _read_file(_credential(name), what)
    path = Path(reference)
    _check_is_private(path, what)
    return _read_file(path, what)


def _read_file(path: Path, what: str) -> Secret:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ModelError(f"{path}, which is to hold {what}, cannot be read: {exc.strerror}") from exc
    if len(content) > _FILE_BYTES_MAX:
        raise ModelError(f"{path} is too large to hold {what}")
    # Whatever is not ASCII is none of these secrets; who parses it says so.
    return Secret(str(path), content.decode("ascii", "replace"))


def _credential(name: str) -> Path:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise ModelError(
            f"credential:{name} comes from systemd, and this process has none; start it as a unit with "
            f"LoadCredentialEncrypted={name}:FILE, or name a file"
        )
    if Path(name).name != name:
        raise ModelError(f"credential:{name} must be the name of a credential, not a path")
    return Path(folder) / name


def _check_is_private(path: Path, what: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ModelError(f"{path}, which is to hold {what}, cannot be read: {exc.strerror}") from exc
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ModelError(f"{path} holds {what} and others may read it; `chmod 600 {path}`")
