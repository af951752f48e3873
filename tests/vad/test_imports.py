"""What importing the package brings along."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vad

FORBIDDEN = {
    "asyncio",
    "logging",
    "pathlib",
    "socket",
    "ssl",
    "threading",
    "time",
    "torch",
    "stream_server",
    "certs",
}
SHELL = {"__main__.py", "cli.py", "model.py"}
PACKAGE = Path(vad.__file__).parent
PURE = sorted(path.name for path in PACKAGE.glob("*.py") if path.name not in SHELL)


def test_importing_vad_does_not_import_torch() -> None:
    program = "import sys, vad, vad.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_no_io_no_clock_and_no_framework(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN
