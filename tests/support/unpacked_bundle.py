"""Archives of tiny wheels, unpacked, and their install.sh."""

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wheelhouse import write_house

from stream_server.bundle.archive import write
from stream_server.bundle.contents import contents
from stream_server.bundle.wheels import read_folder


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive as the operator has it after tar, and where it is to be installed."""

    folder: Path
    prefix: Path

    def __call__(
        self, *words: object, wrapper: tuple[str, ...] = (), script: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [*wrapper, script or self.folder / "install.sh", *words]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)

    def install(self, *words: object, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self("--prefix", self.prefix, *words, wrapper=wrapper)

    def installed(self) -> str:
        """What the installed command says of its version."""
        command = [str(self.prefix / "bin" / "stream-server"), "--version"]
        # Without PYTHONPATH: it would put the tests' own copy of the server first.
        return subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout.strip()


def unpacked(folder: Path, version: str = "1.0", key: Ed25519PrivateKey | None = None) -> Unpacked:
    """An archive of a server in a version, written and unpacked below a folder."""
    place = folder / f"archive-{version}"
    place.mkdir()
    made = contents(read_folder(write_house(place / "house", version)), {}, None, key)
    write(place / "made.tar", made.folder, made.members, lambda n_done, n_total: None)
    with tarfile.open(place / "made.tar") as archive:
        archive.extractall(place, filter="tar")
    return Unpacked(place / made.folder, folder / "opt")
