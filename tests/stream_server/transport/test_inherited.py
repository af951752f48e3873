"""Sockets passed by systemd: what is taken, and what is refused with a word about the unit."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from stream_server.errors import ConfigError
from stream_server.transport.inherited import FDS_MAX, Door, check_doors, take_inherited


def environment(names: str, n_fds: int | str | None = None, pid: int | None = None) -> dict[str, str]:
    return {
        "LISTEN_PID": str(pid or os.getpid()),
        "LISTEN_FDS": str(len(names.split(":")) if n_fds is None else n_fds),
        "LISTEN_FDNAMES": names,
        "HOME": "/",
    }


@pytest.fixture
def place() -> Iterator[Callable[..., int]]:
    """Puts sockets on descriptors that follow each other; returns the first."""
    with ExitStack() as stack:

        def put(*sockets: socket.socket) -> int:
            for number, sock in enumerate(sockets):
                stack.enter_context(sock)
                os.dup2(sock.fileno(), first + number)
            return first

        first = 200
        yield put
        for fd in range(first, first + 8):
            try:
                os.close(fd)
            except OSError:
                continue


def listener(address: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((address, 0))


def test_sockets_are_taken_by_name_and_kept_from_child_processes(place: Callable[..., int]) -> None:
    told = environment("server:guest:server")
    first = place(listener(), listener(), listener())
    doors = take_inherited(told, first_fd=first)
    assert {door: len(sockets) for door, sockets in doors.items()} == {Door.SERVER: 2, Door.GUEST: 1}
    assert told == {"HOME": "/"}
    for sock in [*doors[Door.SERVER], *doors[Door.GUEST]]:
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        sock.close()


@pytest.mark.parametrize(
    "told", [{}, environment("server", pid=1), environment("server", 0)], ids=["none", "another's", "zero"]
)
def test_without_sockets_for_this_process_there_are_none(told: dict[str, str]) -> None:
    assert take_inherited(told, first_fd=200) == {}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (environment("server", "-1"), "LISTEN_FDS"),
        (environment("server", "9" * 5000), "LISTEN_FDS"),
        (environment("server", FDS_MAX + 1), "LISTEN_FDS"),
        (environment("server", FDS_MAX), "LISTEN_FDNAMES"),
        (environment("server:guest", 1), "FileDescriptorName"),
        (environment("stream-server.socket"), "server, guest, ops"),
        (environment("guest"), "FileDescriptorName=server"),
    ],
)
def test_what_is_told_wrongly_is_named_with_the_setting(
    told: dict[str, str], words: str, place: Callable[..., int]
) -> None:
    first = place(listener())
    with pytest.raises(ConfigError, match=words):
        take_inherited(told, first_fd=first)


@pytest.mark.parametrize(
    "make",
    [
        socket.socket,
        lambda: socket.socket(type=socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_UNIX),
    ],
    ids=["not listening", "datagram", "unix"],
)
def test_what_is_no_listening_tcp_socket_is_refused(
    make: Callable[[], socket.socket], place: Callable[..., int]
) -> None:
    first = place(make())
    with pytest.raises(ConfigError, match="ListenStream"):
        take_inherited(environment("server"), first_fd=first)


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(ConfigError, match="not a listening TCP socket"):
        take_inherited(environment("server"), first_fd=file.fileno())


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        ("server", {Door.GUEST: True}, "enable stream-server-guest.socket"),
        ("server", {Door.OPS: True}, "unset server.ops_port"),
        ("server:guest", {Door.GUEST: False}, "guest.enabled is not set"),
    ],
)
def test_sockets_and_configuration_must_agree(names: str, wanted: dict[Door, bool], words: str) -> None:
    doors: dict[Door, list[socket.socket]] = {Door(name): [] for name in names.split(":")}
    with pytest.raises(ConfigError, match=words):
        check_doors(doors, wanted)


def test_without_inherited_sockets_everything_is_opened_as_configured() -> None:
    check_doors({}, {Door.GUEST: True, Door.OPS: True})


def test_metrics_are_told_on_loopback_only() -> None:
    with listener() as inside, listener("0.0.0.0") as outside:
        check_doors({Door.SERVER: [], Door.OPS: [inside]}, {Door.OPS: True})
        with pytest.raises(ConfigError, match="without TLS"):
            check_doors({Door.SERVER: [], Door.OPS: [outside]}, {Door.OPS: True})
