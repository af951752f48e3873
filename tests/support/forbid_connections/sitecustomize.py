"""Python reads this file at start where its folder is in ``PYTHONPATH``: connections and look-ups fail there.

The file named by ``CONNECTIONS_FILE`` gets a line ``armed PID`` from each process, and a line for each
call that was stopped. Unix sockets, accepted sockets and addresses that are numbers are nobody's business.
libuv's own calls raise no events of Python; namespaces and strace see those.
"""

import contextlib
import ipaddress
import os
import socket
import sys

_SENDING = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_STARTING = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")


def _is_number(host: object) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
        return True
    return host is None


def _leaves(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether a call would reach, or ask for, another machine."""
    if event in _SENDING:
        peer, address = arguments[0], arguments[-1]
        assert isinstance(peer, socket.socket)
        return peer.family != socket.AF_UNIX and address is not None
    return event in _LOOKING_UP and not _is_number(arguments[0])


def _write(line: str) -> None:
    fd = os.open(os.environ["CONNECTIONS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _leaves(event, arguments):
        _write(f"stopped {os.getpid()} {event} {arguments[1:] if event in _SENDING else arguments[0]}")
        raise PermissionError(f"{event} is forbidden in this process")
    if event in _STARTING:
        _write(f"started {os.getpid()} {arguments[0]!s}")


_write(f"armed {os.getpid()}")
sys.addaudithook(_hook)
