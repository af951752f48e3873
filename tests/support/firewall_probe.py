"""What the service's user can still do behind ``deploy/nftables.conf``; prints JSON. Run in a namespace.

python firewall_probe.py UID
"""

import encodings.idna  # noqa: F401  what is read later, another user may not be allowed to read
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

ADDRESS = ("127.0.0.1", 8443)
TIMEOUT_S = 5


def _as_user(user: int, call: Callable[[], object]) -> str:
    """How a call ends in a process of the user: ``ok``, or the error's name."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.setresuid(user, user, user)
        try:
            call()
            told = "ok"
        except OSError as exc:
            told = type(exc).__name__ if exc.errno is None else os.strerror(exc.errno)
        os.write(writing, told.encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reading, 100).decode()


def _connect() -> None:
    with socket.create_connection(ADDRESS, TIMEOUT_S) as client:
        client.recv(1)


def _ask() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.sendto(b"x", ("127.0.0.1", 53))


def _serve(user: int) -> int:
    """Fork a server of the user; returns its process."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.read(reading, 1)
        return child
    os.setresuid(user, user, user)
    with socket.create_server(ADDRESS) as server:
        os.write(writing, b"!")
        while True:
            server.accept()[0].sendall(b"x")


def _main(user: int) -> None:
    server = _serve(user)
    try:
        told = {
            "root connects": _as_user(0, _connect),
            "user connects": _as_user(user, _connect),
            "root asks": _as_user(0, _ask),
            "user asks": _as_user(user, _ask),
        }
    finally:
        os.kill(server, signal.SIGKILL)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
