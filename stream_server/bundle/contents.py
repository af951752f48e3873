"""What is in an archive, file by file."""

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_server.bundle.archive import SIGNATURE_NAME, SUMS_NAME, Member, sums
from stream_server.bundle.sbom import ListedModel, write_sbom
from stream_server.bundle.wheels import SERVER, Wheel, installer, select
from stream_server.engine.manifest import MANIFEST_NAME, read_manifest, verify_files
from stream_server.errors import BundleError

# Bytecode, which pip compiles at the target, and directories: measured at 30 % of the embedded installation.
_COMPILED = 1.4
_ODD = re.compile(r"[^A-Za-z0-9_+.,@/-]")


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of an archive, and what its maker should know of them."""

    folder: str
    """What the archive unpacks to; with ``.tar`` its own name."""
    members: Mapping[str, Member]
    unlicensed: Sequence[str]
    """Wheels that carry no text of a licence, with what their metadata says."""

    def sums_sha256(self) -> str:
        """Of the list of checksums, in hex: whoever knows it can check all the rest."""
        return self.members[SUMS_NAME].sha256()


def contents(
    wheels: Sequence[Wheel],
    models: Mapping[str, Path],
    units: Path | None,
    key: Ed25519PrivateKey | None,
) -> Contents:
    """Put an archive together.

    Args:
        wheels: What there is; what the server does not need is left out.
        models: Folders of models, by name.
        units: Folder with systemd units and the like, copied as it is; None if there is none.
        key: Signs the list of checksums; None leaves it unsigned.

    Raises:
        BundleError: A wheel is missing.
        ModelError: A model is damaged.
    """
    wheels = list(wheels)
    needed, pip = select(wheels), installer(wheels)
    server = next(wheel for wheel in needed if wheel.name == SERVER)
    members = {f"wheels/{wheel.path.name}": Member(wheel.path) for wheel in [*needed, pip]}
    digests = {wheel.path.name: members[f"wheels/{wheel.path.name}"].sha256() for wheel in [*needed, pip]}
    listed = []
    for name, folder in sorted(models.items()):
        listed.append(_listed(name, folder))
        members |= {f"models/{name}/{path.name}": Member(path) for path in sorted(folder.iterdir())}
    if units is not None:
        members |= {f"deploy/{name}": member for name, member in _tree(units).items()}
    licences, unlicensed = _licences([*needed, pip])
    members |= licences
    members["requirements.txt"] = Member(_requirements(needed, digests))
    members["sbom.cdx.json"] = Member(write_sbom([*needed, pip], digests, listed))
    members["install.sh"] = Member(_asset("install.sh"), is_executable=True)
    members["README.txt"] = Member(_asset("README.txt"))
    folder_name = f"stream-server-{server.version}-{_python_tag()}-{_machine()}"
    members["bundle.txt"] = Member(_facts(server, needed, pip, members))
    listed_sums = sums(members)
    members[SUMS_NAME] = Member(listed_sums)
    if key is not None:
        members[SIGNATURE_NAME] = Member(key.sign(listed_sums))
    return Contents(folder_name, members, unlicensed)


def _asset(name: str) -> bytes:
    return (resources.files("stream_server") / "assets" / "bundle" / name).read_bytes()


def _python_tag() -> str:
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def _machine() -> str:
    return f"{sys.platform}-{platform.machine()}"


def _tree(folder: Path) -> dict[str, Member]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): Member(path, os.access(path, os.X_OK)) for path in files}


def _listed(name: str, folder: Path) -> ListedModel:
    """A model, after every file of it was compared with its manifest."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    unknown = {path.name for path in folder.iterdir()} - {MANIFEST_NAME, *manifest.files}
    if unknown:
        raise BundleError(f"{folder} has files that its manifest does not name: {', '.join(sorted(unknown))}")
    digests = {file: entry.sha256 for file, entry in manifest.files.items()}
    digests[MANIFEST_NAME] = Member(folder / MANIFEST_NAME).sha256()
    return ListedModel(name, manifest.version, manifest.licence, digests)


def _requirements(wheels: Sequence[Wheel], digests: Mapping[str, str]) -> bytes:
    """What pip installs with --require-hashes."""
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{digests[wheel.path.name]}" for wheel in wheels]
    return ("\n".join(lines) + "\n").encode()


def _licences(wheels: Sequence[Wheel]) -> tuple[dict[str, Member], list[str]]:
    """The texts by wheel, a list of all, and who has none."""
    members: dict[str, Member] = {}
    lines, unlicensed = [], []
    for wheel in wheels:
        stated = wheel.licence or "no licence stated"
        lines.append(f"{wheel.name} {wheel.version}: {stated}")
        if not wheel.licence_files:
            unlicensed.append(f"{wheel.name} ({stated})")
            lines[-1] += " (its wheel has no text of it)"
        for file in wheel.licence_files:
            inside = _ODD.sub("_", "/".join(file.split("/")[1:]))
            members[f"licences/{wheel.name}-{wheel.version}/{inside}"] = Member(wheel.read(file))
    members["licences/LIST.txt"] = Member(("\n".join(lines) + "\n").encode())
    return members, unlicensed


def _facts(server: Wheel, wheels: Sequence[Wheel], pip: Wheel, members: Mapping[str, Member]) -> bytes:
    """What install.sh compares the machine with: ``key=value`` lines."""
    glibc = max(wheel.glibc() for wheel in wheels)
    n_bytes = sum(wheel.installed_bytes() for wheel in wheels) * _COMPILED
    n_bytes += sum(member.size() for name, member in members.items() if name.startswith("models/"))
    facts = {
        "version": str(server.version),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "abi": sysconfig.get_config_var("SOABI") or "",
        "machine": platform.machine(),
        "glibc": f"{glibc[0]}.{glibc[1]}",
        "disk_kb": str(int(n_bytes / 1024) + 1),
        "pip": pip.path.name,
    }
    return "".join(f"{key}={value}\n" for key, value in facts.items()).encode()
