"""What ships in ``deploy/``: units that systemd reads without a complaint, and a firewall that stops."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import LOOPBACK_ONLY, missing

SUPPORT = Path(__file__).parents[1] / "support"
DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("stream-server*.s*"))
EXPOSURE_MAX = 1.5
"""Of 10, as ``systemd-analyze security`` counts."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)
no_firewall = missing("nft") or (None if os.geteuid() == 0 else "needs root to be two users")
NOBODY = 65534


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as they ship, with a command and a user that this machine has."""
    for unit in UNITS:
        if unit.is_file():
            text = unit.read_text().replace("/opt/stream-server/bin/stream-server", sys.executable)
            (tmp_path / unit.name).write_text(re.sub(r"(?m)^(User|Group)=.*", r"\1=nobody", text))
    return sorted(tmp_path.iterdir())


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(units: list[Path]) -> None:
    assert len(units) == 4
    done = analyze("verify", *map(str, units))
    complaints = [line for line in done.stderr.splitlines() if "stream-server" in line]
    # "nobody" stands in for a user that only an installation has.
    assert [line for line in complaints if "nobody" not in line] == []
    assert done.returncode == 0


@needs_systemd
def test_systemd_would_find_an_unknown_setting(units: list[Path]) -> None:
    broken = next(unit for unit in units if unit.name == "stream-server.service")
    broken.write_text(broken.read_text().replace("PrivateNetwork=", "PrivateNetworks="))
    assert "PrivateNetworks" in analyze("verify", str(broken)).stderr


@needs_systemd
def test_the_service_is_locked_in(units: list[Path]) -> None:
    service = next(unit for unit in units if unit.name == "stream-server.service")
    said = analyze("security", "--offline=true", str(service)).stdout
    found = re.search(r"Overall exposure level.*?: ([\d.]+)", said)
    assert found is not None, said
    assert float(found.group(1)) <= EXPOSURE_MAX
    for lock in ("PrivateNetwork=", "NoNewPrivileges=", "RestrictAddressFamilies=~AF_(INET|INET6)"):
        assert re.search(rf"✓ {re.escape(lock)}", said), lock


@pytest.mark.skipif(no_firewall is not None, reason=no_firewall or "")
def test_the_firewall_lets_the_service_answer_and_begin_nothing(tmp_path: Path) -> None:
    rules = tmp_path / "nftables.conf"
    text = (DEPLOY / "nftables.conf").read_text()
    assert '"stream-server"' in text
    rules.write_text(text.replace('"stream-server"', str(NOBODY)))
    script = """
        nft -f "$1"
        nft -f "$1"
        "$2" "$3" "$4"; echo
        nft list counter inet stream_server refused
    """
    arguments = [str(rules), sys.executable, str(SUPPORT / "firewall_probe.py"), str(NOBODY)]
    done = subprocess.run(
        [*LOOPBACK_ONLY, "sh", "-ec", script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[0])
    assert told.pop("root connects") == told.pop("root asks") == "ok"
    # How the kernel puts it depends on its version; that it comes at once and is no "ok" does not.
    assert set(told) == {"user connects", "user asks"}
    assert not {"ok", "TimeoutError"} & set(told.values()), told
    counted = re.search(r"packets (\d+)", done.stdout)
    assert counted is not None
    assert int(counted.group(1)) >= 2
