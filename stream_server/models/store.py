"""The folder of installed models, STATE/models: one folder a model, named as the model is.

A model appears and disappears by a rename, so that a server that looks for one finds it whole or not at all.
What is not a model yet, or no more, has a name that begins with a dot; the next command that changes the
folder clears what an interrupted one left. One such command runs at a time, held apart by a lock file.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_server.engine.manifest import (
    EMBEDDED_NAME,
    MANIFEST_NAME,
    embedded_model,
    is_sealed,
    read_manifest,
    version_key,
)
from stream_server.errors import ModelError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOCK = ".lock"
_STAGED, _REPLACED, _REMOVED = ".staged-", ".replaced-", ".removed-"
_DOWNLOADS = ".downloads"


class ModelStore:
    """Installed models; its folder need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def downloads(self) -> Path:
        """Where downloads that are not complete wait to be continued."""
        return self.folder / _DOWNLOADS

    def names(self) -> list[str]:
        """The installed models, without the embedded one."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and _is_name(path.name))

    def find(self, name: str) -> Path:
        """The folder of an installed model, or of the embedded one.

        Raises:
            ModelError: There is none of this name; lists those there are.
        """
        if name == EMBEDDED_NAME:
            return embedded_model()
        if name not in self.names():
            there = ", ".join([EMBEDDED_NAME, *self.names()])
            raise ModelError(f"no model {name} is installed in {self.folder}; there is: {there}")
        return self.folder / name

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let no other command change the folder for the length of the block.

        Raises:
            ModelError: Another one does.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise ModelError(
                    f"another command is changing {self.folder}; wait until it has finished"
                ) from exc
            self._clear_leftovers()
            yield

    def _clear_leftovers(self) -> None:
        for path in list(self.folder.iterdir()):
            replaced = path.name.removeprefix(_REPLACED)
            if replaced != path.name and not (self.folder / replaced).exists():
                path.rename(self.folder / replaced)
            elif path.name.startswith((_STAGED, _REPLACED, _REMOVED)):
                shutil.rmtree(path)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder beside the models, removed at the end of the block; call it in ``changing``."""
        path = Path(tempfile.mkdtemp(prefix=_STAGED, dir=self.folder))
        try:
            yield path
        finally:
            # It is gone if it was installed.
            shutil.rmtree(path, ignore_errors=True)

    def check_room(self, n_bytes: int) -> None:
        """Check that the disk has room.

        Raises:
            ModelError: It has not.
        """
        free = shutil.disk_usage(self.folder).free
        if free < n_bytes:
            raise ModelError(
                f"the disk of {self.folder} has {free / 1e9:.1f} GB left and {n_bytes / 1e9:.1f} GB are "
                "needed; remove a model with `stream-server models remove`, or set --state-dir"
            )

    def check_place(self, name: str, version: str, *, allow_downgrade: bool) -> None:
        """Check that a model may be installed under a name.

        Raises:
            ModelError: The name or version is not possible, or the name is taken by one that is not older.
        """
        try:
            wanted = version_key(version)
        except ValueError as exc:
            raise ModelError(f"--version: {exc}") from exc
        if not _is_name(name):
            raise ModelError(
                f"{name!r} cannot be a model's name: letters, digits, dots, - and _, at most 64; set --name"
            )
        if name == EMBEDDED_NAME:
            raise ModelError(f"{EMBEDDED_NAME} is the name of the embedded model; set another with --name")
        if allow_downgrade or name not in self.names():
            return
        installed = self._installed_version(name)
        if installed is not None and wanted <= version_key(installed):
            raise ModelError(
                f"{name} is installed in version {installed}, and {version} is not newer; set --version to "
                "a higher one, or --allow-downgrade to replace it all the same"
            )

    def _installed_version(self, name: str) -> str | None:
        """The version of a model; None if its manifest cannot be read, so that it can be replaced."""
        try:
            return read_manifest(self.folder / name).version
        except ModelError:
            return None

    def install(self, staged: Path, name: str) -> Path:
        """Put a complete model folder in its place, in place of an older one; call it in ``changing``."""
        for path in [*staged.iterdir(), staged]:
            _sync(path)
        place, replaced = self.folder / name, self.folder / f"{_REPLACED}{name}"
        if place.exists():
            place.rename(replaced)
        staged.rename(place)
        _sync(self.folder)
        if replaced.exists():
            shutil.rmtree(replaced)
        return place

    def remove(self, name: str) -> None:
        """Remove a model; call it in ``changing``.

        Raises:
            ModelError: There is none of this name, or it is the embedded one.
        """
        if name == EMBEDDED_NAME:
            raise ModelError(f"{EMBEDDED_NAME} is a part of the program and cannot be removed")
        place = self.find(name)
        removed = self.folder / f"{_REMOVED}{name}"
        place.rename(removed)
        shutil.rmtree(removed)


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _sync(path: Path) -> None:
    """Have the disk hold what was written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """How large a model is on disk."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def is_model_folder(path: Path) -> bool:
    """Whether a path is a model in the form in which they are installed."""
    return (path / MANIFEST_NAME).is_file() or is_sealed(path)
