"""The real archive, from package index to captions in a machine without network: ``make bundle-test``.

Builds it as an operator would, unpacks it, installs it in a network namespace that has nothing but loopback,
and follows its README.txt there: certificates, server, one recording. The folder is removed at the end.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.timeout(3_600)]

ROOT = Path(__file__).resolve().parents[2]
WORDS_TO_HEAR = 3
# Where 127.0.0.1 is the only address that is answered. $1: prefix, $2: a recording.
STEPS = """
ip link set lo up
export PATH=$1/bin:/usr/bin:/bin STREAM_SERVER_STATE=$1/state
stream-server --version
stream-server models list
stream-server certs init
stream-server certs server localhost
stream-server certs client board-301 --role source
stream-server serve > "$1/serve.log" 2>&1 &
trap 'kill %1; wait' EXIT
tries=0
until stream-server transcribe --fast --no-partials "$2" > "$1/captions.txt" 2> "$1/problem.txt"; do
  tries=$((tries + 1))
  [ $tries -lt 30 ] || { cat "$1/problem.txt" "$1/serve.log" >&2; exit 1; }
  sleep 1
done
"""


def test_what_was_bundled_serves_without_network(tmp_path: Path) -> None:
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    tried = subprocess.run([*unshare, "ip", "link"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"needs ip (iproute2) and CAP_SYS_ADMIN for `unshare --net`: {tried.stderr.strip()}")
    console = Console()
    command = [sys.executable, "-m", "stream_server", "bundle", "--output", str(tmp_path)]
    console.print(f"bundle   {timed(command, cwd=ROOT):6.0f} s")
    (archive,) = tmp_path.glob("*.tar")
    console.print(f"archive  {archive.stat().st_size / 1e6:6.0f} MB")
    subprocess.run(["sha256sum", "--check", f"{archive.name}.sha256"], cwd=tmp_path, check=True)
    subprocess.run(["tar", "-xf", archive.name], cwd=tmp_path, check=True)

    folder, prefix = tmp_path / archive.stem, tmp_path / "opt"
    digest = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    install = [*unshare, str(folder / "install.sh"), "--prefix", str(prefix), "--sums", digest]
    console.print(f"install  {timed(install):6.0f} s")
    release = (prefix / "current").resolve()
    size = subprocess.run(["du", "-sm", release], capture_output=True, text=True, check=True)
    console.print(f"on disk  {size.stdout.split()[0]:>6} MB")

    recording = ROOT / "stream_server" / "assets" / "recordings" / "01.flac"
    # No path of the checkout, so that only what was installed can run.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    steps = [*unshare, "bash", "-ec", STEPS, "steps", str(prefix), str(recording)]
    console.print(f"README   {timed(steps, env=environment):6.0f} s")
    assert len((prefix / "captions.txt").read_text().split()) >= WORDS_TO_HEAR
    assert str(ROOT) not in (prefix / "serve.log").read_text()


def timed(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> float:
    """Seconds that a command needed; it must succeed."""
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, env=env, check=True)
    return time.monotonic() - began
