"""Each peer's virtual environment, made by the first run from the package index that pip uses, and kept."""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".environments"
REPOSITORY = HERE.parent.parent
PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--requirement")


class Unavailable(Exception):
    """Raised when a peer cannot be measured; says why."""


def ensure_environment(name: str) -> Path:
    """The Python of a peer's environment, made if there is none.

    Args:
        name: Of the peer, and of the file beside this one that names its packages.

    Raises:
        Unavailable: The packages cannot be installed.
    """
    folder = ENVIRONMENTS / name
    python, complete = folder / "bin" / "python", folder / ".complete"
    wanted = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    if complete.exists() and complete.read_text(encoding="utf-8") == wanted:
        return python
    print(f"making {folder} …", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    # Ours, and its CPU build: an open range brings gigabytes of CUDA's libraries.
    _run([str(REPOSITORY / "tools" / "install-torch"), str(python), _torch_version(), "cpu"])
    _run([str(python), *PIP, str(HERE / f"{name}.txt")])
    complete.write_text(wanted, encoding="utf-8")
    return python


def _torch_version() -> str:
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(pin.removeprefix("torch==") for pin in pins if pin.startswith("torch=="))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)  # noqa: S603 - our own
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:5])} …: {done.stderr.strip().splitlines()[-1:]}")
