"""Listening sockets that systemd opened before it started this process (socket activation).

A process that opens no socket of its own can run in a network namespace that has no interface, and still
serve: a connection belongs to the namespace of the socket that accepted it. The protocol is that of
``sd_listen_fds(3)``: descriptors from 3 on, told in the environment, each with the ``FileDescriptorName=``
of its unit.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping, MutableMapping
from enum import StrEnum

from stream_server.errors import ConfigError

_FIRST_FD = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
FDS_MAX = 64
"""Several addresses each for a few listeners; more is a mistake."""


class Door(StrEnum):
    """What an inherited socket is for: its ``FileDescriptorName=``."""

    SERVER = "server"
    GUEST = "guest"
    OPS = "ops"


def take_inherited(
    environment: MutableMapping[str, str] = os.environ, *, first_fd: int = _FIRST_FD
) -> dict[Door, list[socket.socket]]:
    """The sockets that were passed to this process; empty when none were.

    Takes the variables out of the environment and closes the sockets on exec, so that no process started
    from here inherits them.

    Args:
        environment: With ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES``.
        first_fd: Of the descriptors.

    Raises:
        ConfigError: The variables are damaged, a descriptor is no listening TCP socket, a name is unknown,
            or there is none for ``server``; all descriptors are closed.
    """
    told = {name: environment.pop(name) for name in _VARIABLES if name in environment}
    if told.get("LISTEN_PID") != str(os.getpid()):
        return {}
    n_fds = _count(told)
    if not n_fds:
        return {}
    fds = range(first_fd, first_fd + n_fds)
    names = told.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != n_fds:
        raise ConfigError(
            f"LISTEN_FDNAMES has {len(names)} names for {n_fds} sockets; give each socket unit its"
            f" FileDescriptorName={_known()}"
        )
    doors: dict[Door, list[socket.socket]] = {}
    try:
        for fd, name in zip(fds, names, strict=True):
            doors.setdefault(_door(name), []).append(_listening(fd, name))
        if Door.SERVER not in doors:
            raise ConfigError(
                "sockets were passed, but none is named server; give the socket unit of server.port"
                " FileDescriptorName=server"
            )
    except ConfigError:
        for sockets in doors.values():
            for sock in sockets:
                sock.close()
        raise
    return doors


def check_doors(inherited: Mapping[Door, list[socket.socket]], wanted: Mapping[Door, bool]) -> None:
    """Compare what was passed with what is configured.

    A socket opened beside inherited ones would often listen in a namespace that nobody can reach.

    Raises:
        ConfigError: One is configured and not passed, or passed and not configured, or that of ``ops``,
            which speaks no TLS, is bound elsewhere than on loopback.
    """
    keys = {Door.GUEST: "guest.enabled", Door.OPS: "server.ops_port"}
    for door, is_wanted in wanted.items():
        if inherited and is_wanted and door not in inherited:
            raise ConfigError(
                f"{keys[door]} is set, but no socket named {door} was passed; enable"
                f" stream-server-{door}.socket, or unset {keys[door]}"
            )
        if door in inherited and not is_wanted:
            raise ConfigError(
                f"a socket named {door} was passed, but {keys[door]} is not set; set it, or disable"
                f" stream-server-{door}.socket"
            )
    for sock in inherited.get(Door.OPS, []):
        host = sock.getsockname()[0]
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(
                f"the socket named ops is bound to {host}, but health and metrics are told without TLS;"
                " set its ListenStream= to 127.0.0.1:PORT"
            )


def _count(told: Mapping[str, str]) -> int:
    text = told.get("LISTEN_FDS", "")
    if not text.isascii() or not text.isdigit() or int(text[:9]) > FDS_MAX:
        raise ConfigError(f"LISTEN_FDS must be a number from 0 to {FDS_MAX}; it is set by systemd only")
    return int(text)


def _door(name: str) -> Door:
    try:
        return Door(name)
    except ValueError:
        raise ConfigError(
            f"a passed socket is named {name!r}; FileDescriptorName= must be one of {_known()}"
        ) from None


def _known() -> str:
    return ", ".join(Door)


def _listening(fd: int, name: str) -> socket.socket:
    problem = f"descriptor {fd}, named {name}, is not a listening TCP socket; its unit needs ListenStream="
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise ConfigError(problem) from exc
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ConfigError(problem)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
