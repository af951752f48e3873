"""Programs that stand in for a server process: each is one `-c` script that starts in milliseconds."""

import sys
from pathlib import Path


def script(source: str, *arguments: str) -> list[str]:
    """A command line for some Python."""
    return [sys.executable, "-c", source, *arguments]


def dies(*lines: str, code: int = 3) -> list[str]:
    """Prints and ends."""
    return script(
        "import sys; print('\\n'.join(sys.argv[2:])); sys.exit(int(sys.argv[1]))", str(code), *lines
    )


def stops_politely(mark: Path) -> list[str]:
    """Waits for SIGTERM, then writes `mark`; prints `up` when it listens for it."""
    return script(
        "import signal, sys, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n",
        str(mark),
    )


def ignores_sigterm_and_has_a_child() -> list[str]:
    """Only SIGKILL ends it; prints the child's process id."""
    return script(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True)\n"
        "while True: signal.pause()\n"
    )
