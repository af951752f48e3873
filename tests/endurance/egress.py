"""The whole demo where nothing can get out unseen, with the real model: ``make egress``."""

import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import LOOPBACK_ONLY, WATCHED, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def demo(namespace: list[str], state: Path) -> str:
    """Run it; what it prints, and then the interfaces of its namespace."""
    script = 'python=$1; shift; "$python" -m stream_server demo "$@"; cat /proc/self/net/dev'
    command = [*namespace, "sh", "-ec", script, "sh", sys.executable, "--state-dir", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_runs_with_loopback_only(tmp_path: Path) -> None:
    assert "watched" not in demo(LOOPBACK_ONLY, tmp_path)


def test_no_packet_leaves_while_the_demo_runs(tmp_path: Path) -> None:
    said = demo(WATCHED, tmp_path)
    [counters] = [line for line in said.splitlines() if line.strip().startswith("watched:")]
    assert counters.partition(":")[2].split()[8:10] == ["0", "0"]
