"""Tiny wheels: what `stream-server bundle` packs and install.sh installs, without torch."""

import base64
import ensurepip
import hashlib
import sysconfig
import zipfile
from pathlib import Path

ANY = "py3-none-any"
VERSION_COMMAND = "def main():\n    print('stream-server', {version!r})\n"


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    metadata: tuple[str, ...] = ("License-Expression: MIT",),
    licence: str | None = "MIT License",
    files: dict[str, str] | None = None,
    script: str | None = None,
    tag: str = ANY,
) -> Path:
    """A wheel that pip installs.

    Args:
        folder: Where.
        name: As wheels write it, with underscores.
        version: As wheels write it.
        requires: Requires-Dist.
        metadata: Further lines of its metadata.
        licence: Text of its LICENSE file; None leaves it out.
        files: Text by path.
        script: Console script, ``command = module:function``.
        tag: Interpreter, ABI and platform.
    """
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]
    lines += [f"Requires-Dist: {line}" for line in requires]
    pure = str(tag.endswith("-none-any")).lower()
    content = {f"{name}/__init__.py": "", **(files or {}), f"{info}/METADATA": "\n".join(lines) + "\n"}
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    if licence is not None:
        content[f"{info}/licenses/LICENSE"] = licence
    if script is not None:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    content[f"{info}/RECORD"] = "".join(
        [f"{path},sha256={_record_hash(text)},{len(text.encode())}\n" for path, text in content.items()]
        + [f"{info}/RECORD,,\n"]
    )
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in content.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return path


def _record_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def write_server(folder: Path, version: str = "1.0", requires: tuple[str, ...] = ("helper>=1",)) -> Path:
    """A server's wheel whose command knows its version only."""
    return write_wheel(
        folder,
        "stream_server",
        version,
        requires=requires,
        files={"stream_server/__init__.py": VERSION_COMMAND.format(version=version)},
        script="stream-server = stream_server:main",
    )


def write_house(folder: Path, version: str = "1.0") -> Path:
    """A folder with a server, a helper that it requires, and pip."""
    folder.mkdir()
    write_server(folder, version)
    write_wheel(folder, "helper", "1.2")
    pip = pip_wheel()
    (folder / pip.name).symlink_to(pip)
    return folder


def pip_wheel() -> Path:
    """The real pip that Python carries; Debian keeps it in a folder of its own."""
    folders = [Path(ensurepip.__file__).parent / "_bundled"]
    if elsewhere := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(elsewhere))
    return next(path for folder in folders for path in sorted(folder.glob("pip-*.whl")))
