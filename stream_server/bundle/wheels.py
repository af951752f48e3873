"""What wheels say of themselves, and which of a folder the server needs on a machine like this one.

The requirements are resolved here, when the archive is written, and not on the machine that installs it:
what is missing is named while there is still an index to fetch it from.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from stream_server.errors import BundleError

SERVER = canonicalize_name("stream-server")
INSTALLER = canonicalize_name("pip")
_TORCH, _TRITON = canonicalize_name("torch"), canonicalize_name("triton")
_LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_")
_UNREADABLE = (
    InvalidWheelFilename,
    zipfile.BadZipFile,
    StopIteration,
    UnicodeDecodeError,
    InvalidRequirement,
    OSError,
)
_NAMED_GLIBC = {"manylinux1_": (2, 5), "manylinux2010_": (2, 12), "manylinux2014_": (2, 17)}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel file and what its metadata says."""

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    requires: tuple[Requirement, ...]
    licence: str | None
    """An SPDX expression, or what the authors wrote in place of one; None if they wrote nothing."""
    licence_is_spdx: bool
    licence_files: tuple[str, ...]
    """Members of the wheel."""

    def sha256(self) -> str:
        """Of the file, in hex."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, member: str) -> bytes:
        """One of the files in it."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(member)

    def installed_bytes(self) -> int:
        """What its files take up, without compiled bytecode."""
        with zipfile.ZipFile(self.path) as archive:
            return sum(info.file_size for info in archive.infolist())

    def glibc(self) -> tuple[int, int]:
        """The oldest glibc it runs on; (0, 0) where it does not depend on one."""
        return min(filter(None, (_glibc(tag.platform) for tag in self.tags)), default=(0, 0))


def _glibc(platform: str) -> tuple[int, int] | None:
    if found := _GLIBC.match(platform):
        return int(found[1]), int(found[2])
    return next((version for name, version in _NAMED_GLIBC.items() if platform.startswith(name)), None)


def read_wheel(path: Path) -> Wheel:
    """Read a wheel's name and metadata.

    Raises:
        BundleError: It is no wheel, or a damaged one; names the file.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.namelist())
            folder = next(
                PurePosixPath(member).parent
                for member in members
                if member.endswith(".dist-info/METADATA") and member.count("/") == 1
            )
            metadata = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode("utf-8"))
        requires = tuple(Requirement(line) for line in metadata.get_all("Requires-Dist", []))
    except _UNREADABLE as exc:
        raise BundleError(f"{path} is not a wheel that can be read ({exc}); fetch or build it again") from exc
    licence, is_spdx = _licence(metadata)
    found = tuple(member for member in members if _is_licence(member, folder))
    return Wheel(path, name, version, tags, requires, licence, is_spdx, found)


def _licence(metadata: Message) -> tuple[str | None, bool]:
    """The licence that the metadata states, and whether as an SPDX expression (core metadata 2.4)."""
    if expression := metadata.get("License-Expression"):
        return expression, True
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License ::") and line != "License :: OSI Approved"
    ]
    # Old metadata often has the licence's whole text in this field; its first line names it.
    stated = (metadata.get("License") or "").strip().partition("\n")[0].strip()
    name = stated if stated and stated.upper() != "UNKNOWN" else " AND ".join(classifiers)
    return name or None, False


def _is_licence(member: str, dist_info: PurePosixPath) -> bool:
    path = PurePosixPath(member)
    if member.endswith("/") or not path.is_relative_to(dist_info):
        return False
    inside = path.relative_to(dist_info)
    return inside.parts[0] in ("licenses", "license_files") or _LICENCE.match(inside.name) is not None


def read_folder(folder: Path) -> list[Wheel]:
    """The wheels in a folder that fit this interpreter and machine.

    Raises:
        BundleError: The folder cannot be read or has none.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; --wheels needs one with wheels")
    fitting = frozenset(sys_tags())
    wheels = [read_wheel(path) for path in sorted(folder.glob("*.whl"))]
    wheels = [wheel for wheel in wheels if not fitting.isdisjoint(wheel.tags)]
    if not wheels:
        raise BundleError(f"{folder} has no wheel for this Python and machine")
    return wheels


def select(wheels: list[Wheel]) -> list[Wheel]:
    """The server's wheel and all that it requires, sorted by name; pip, which installs them, is left out.

    Of several versions the newest that its dependents allow is taken. A CPU build of torch goes without
    triton, which openai-whisper asks for and uses on CUDA only.

    Raises:
        BundleError: Something is missing; names it, and what requires it.
    """
    by_name: dict[NormalizedName, list[Wheel]] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.version, reverse=True):
        by_name.setdefault(wheel.name, []).append(wheel)
    torch = by_name.get(_TORCH, [])
    unused = {_TRITON} if torch and (torch[0].version.local or "").startswith("cpu") else set()
    selected: dict[NormalizedName, Wheel] = {}
    waiting = [(Requirement(SERVER), frozenset[str](), "the archive")]
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    while waiting:
        requirement, extras, dependent = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in unused:
            continue
        wheel = selected.get(name) or _newest(by_name.get(name, []), requirement, dependent)
        if not requirement.specifier.contains(wheel.version, prereleases=True):
            raise BundleError(
                f"{dependent} requires {requirement}, others take {wheel.path.name}; "
                "put a version there that all of them allow"
            )
        selected[name] = wheel
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += [(inner, frozenset(inner.extras), wheel.name) for inner in requirements(wheel, extras)]
    return [selected[name] for name in sorted(selected)]


def requirements(wheel: Wheel, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """What a wheel requires on this interpreter and machine."""
    for requirement in wheel.requires:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _newest(wheels: list[Wheel], requirement: Requirement, dependent: str) -> Wheel:
    for wheel in wheels:
        if requirement.specifier.contains(wheel.version, prereleases=True):
            return wheel
    there = ", ".join(wheel.path.name for wheel in wheels) or "none of that name"
    raise BundleError(
        f"no wheel for {requirement}, which {dependent} requires (there is: {there}); add one for this "
        "Python and machine to the folder of --wheels"
    )


def installer(wheels: list[Wheel]) -> Wheel:
    """The newest pip, which installs the others from inside the archive.

    Raises:
        BundleError: There is none.
    """
    found = [wheel for wheel in wheels if wheel.name == INSTALLER]
    if not found:
        raise BundleError("no wheel of pip, which installs the others; `pip download pip` fetches it")
    return max(found, key=lambda wheel: wheel.version)
