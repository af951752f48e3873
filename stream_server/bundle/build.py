"""Collects wheels with pip: the server's own from its sources, the others from the index that pip knows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from stream_server.errors import BundleError

_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "stream_server", "vad", "certs", "client_js")
_NOT_SOURCES = ("__pycache__", "node_modules", "*.egg-info", "build")
# The first moment that zip files can tell (1980-01-01): what is built here has the same bytes each time.
_EPOCH = "315532800"


def find_sources() -> Path | None:
    """The checkout that this package runs from; None where it was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "constraints.txt").is_file() else None


def collect(into: Path, sources: Path, torch: str, index: str | None) -> None:
    """Fetch and build all that the server needs, in the versions of ``constraints.txt``, and pip.

    Args:
        into: Empty folder.
        sources: A checkout.
        torch: ``cpu`` or ``cuda``.
        index: A further package index for the CPU build of torch.

    Raises:
        BundleError: pip failed; it has said why on standard error.
    """
    wish = f"torch=={_pinned_torch(sources)}" + ("+cpu" if torch == "cpu" else "")
    with TemporaryDirectory(prefix="stream-server-bundle-") as folder:
        # A copy, since setuptools builds in the folder itself and keeps what an earlier build left there.
        copy = Path(folder)
        for name in _SOURCES:
            _copy(sources / name, copy / name)
        constraints = str(sources / "constraints.txt")
        command = ["wheel", "--wheel-dir", str(into), "--constraint", constraints, wish, "pip", str(copy)]
        if index is not None:
            command += ["--extra-index-url", index]
        _pip(command, f"its error stands above; an index without {wish} needs --torch-index or --torch cuda")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_NOT_SOURCES))
    else:
        shutil.copy(source, target)


def _pinned_torch(sources: Path) -> str:
    lines = (sources / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("torch==") for line in lines if line.startswith("torch=="))


def _pip(arguments: list[str], advice: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  our own words
    if code != 0:
        raise BundleError(f"pip could not collect the wheels (exit code {code}): {advice}")
