"""Commands in network namespaces of their own: what cannot be reached there cannot be reached at all.

``LOOPBACK_ONLY`` and ``WATCHED`` go before a command. In a watched namespace every address is routed to
an interface that leads nowhere and counts; ``packets_out`` reads it from inside.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

_UNSHARE = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")
_LOOPBACK = "ip link set lo up"
# 192.0.2.0/24 is for documentation (RFC 5737). Neighbours are written down, so that a packet leaves at once
# instead of waiting for an answer; without link-local addresses the kernel itself sends nothing.
_VETH = """
ip link add watched type veth peer name nowhere
ip link set watched addrgenmode none
ip link set nowhere addrgenmode none
ip addr add 192.0.2.1/24 dev watched
ip link set nowhere up
ip link set watched up
ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev watched
ip route add default via 192.0.2.2
"""


def _inside(set_up: str) -> list[str]:
    return [*_UNSHARE, "sh", "-ec", f'{set_up}\nexec "$@"', "sh"]


NO_INTERFACE = [*_UNSHARE]
"""Not even loopback is up."""
LOOPBACK_ONLY = _inside(_LOOPBACK)
WATCHED = _inside(_LOOPBACK + _VETH)


def packets_out() -> int:
    """Packets that left this watched namespace's interface, to whatever address."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "watched":
            return int(counters.split()[9])
    raise AssertionError("this namespace is not watched")


@cache
def missing(*tools: str) -> str | None:
    """Why namespaces cannot be used here, with ``tools`` inside; None when they can."""
    packages = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}
    for tool in ("unshare", "ip", *tools):
        if shutil.which(tool) is None:
            return f"needs {tool}: apt-get install {packages.get(tool, tool)}"
    done = subprocess.run([*WATCHED, "true"], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        return f"needs the right to make a network namespace (CAP_SYS_ADMIN): {done.stderr.strip()}"
    return None
