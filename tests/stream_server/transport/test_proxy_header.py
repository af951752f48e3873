"""The header of a proxy: read to its last byte and no further, or refused with its reason."""

import asyncio
import socket
from ipaddress import ip_address

import pytest
from fake_proxy import LOCAL, SIGNATURE, tcp_header
from hypothesis import given
from hypothesis import strategies as st

from stream_server.transport.proxy_header import (
    HEADER_BYTES_MAX,
    PREFIX_BYTES,
    ProxyHeaderError,
    missing_bytes,
    read_source,
    source_address,
)

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, as TLS begins"


def drive(stream: bytes, pieces: int = 1) -> tuple[str | None, bytes]:
    """Address and rest of a connection that gives at most ``pieces`` bytes a read."""
    data = b""
    while n_missing := missing_bytes(data):
        n = min(n_missing, pieces, len(stream) - len(data))
        if n == 0:
            raise ProxyHeaderError("ended")
        data = stream[: len(data) + n]
    return source_address(data), stream[len(data) :]


def reason(stream: bytes, pieces: int = 1) -> str:
    with pytest.raises(ProxyHeaderError) as caught:
        drive(stream, pieces)
    return caught.value.reason


@given(
    st.ip_addresses(),
    st.binary(max_size=HEADER_BYTES_MAX - PREFIX_BYTES - 36),
    st.binary(max_size=64),
    st.integers(1, 3_000),
)
def test_the_address_is_told_and_what_follows_is_left(
    address: object, extensions: bytes, rest: bytes, pieces: int
) -> None:
    header = tcp_header(str(address), extensions=extensions)
    assert drive(header + rest, pieces) == (str(ip_address(str(address))), rest)


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_a_connection_of_the_proxys_own_has_no_address_whatever_its_block_says(
    block: bytes, rest: bytes
) -> None:
    for kind in (0x00, 0x11, 0xFF):
        header = SIGNATURE + bytes([0x20, kind]) + len(block).to_bytes(2, "big") + block
        assert drive(header + rest) == (None, rest)


@given(st.binary(max_size=200), st.integers(1, 200))
def test_any_bytes_are_a_header_or_one_kind_of_error(data: bytes, pieces: int) -> None:
    for stream in (data, SIGNATURE + data, SIGNATURE + b"\x21\x11" + data):
        outcomes = set()
        for size in (1, pieces, len(stream) or 1):
            try:
                outcomes.add(drive(stream, size))
            except ProxyHeaderError as exc:
                outcomes.add((exc.reason, b""))
        assert len(outcomes) == 1


BAD = {
    "proxy_header_missing": [
        HELLO,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIZ\n",
        b"\r\rab",
    ],
    "proxy_header_broken": [
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # a command that is none
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # shorter than its addresses
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
    ],
    "proxy_header_without_address": [
        SIGNATURE + b"\x21\x00\x00\x00",  # unspecified
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),  # UDP
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),  # a Unix socket
    ],
    "proxy_header_too_long": [
        SIGNATURE + b"\x21\x11" + (HEADER_BYTES_MAX - PREFIX_BYTES + 1).to_bytes(2, "big"),
        SIGNATURE + b"\x20\x00\xff\xff",
    ],
}


@pytest.mark.parametrize("expected", BAD)
def test_what_is_no_header_of_ours_is_named(expected: str) -> None:
    for stream in BAD[expected]:
        assert {reason(stream, pieces) for pieces in (1, 7, 4_096)} == {expected}


def test_the_longest_header_is_read() -> None:
    room = HEADER_BYTES_MAX - len(tcp_header("192.0.2.7"))
    assert drive(tcp_header("192.0.2.7", extensions=bytes(room)), 4_096) == ("192.0.2.7", b"")
    assert reason(tcp_header("192.0.2.7", extensions=bytes(room + 1))) == "proxy_header_too_long"


async def read(stream: bytes, *, ends: bool, timeout_s: float) -> tuple[str | None, bytes]:
    """What is read from a real socket, and what is left on it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(stream)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        source = await read_source(ours, timeout_s)
        return source, ours.recv(4_096)


async def test_a_socket_is_read_to_the_end_of_the_header() -> None:
    assert await read(tcp_header("2001:db8::7") + HELLO, ends=False, timeout_s=5) == ("2001:db8::7", HELLO)
    assert await read(LOCAL + HELLO, ends=False, timeout_s=5) == (None, HELLO)


@pytest.mark.parametrize(
    ("ends", "expected"), [(True, "proxy_header_cut"), (False, "proxy_header_timed_out")]
)
async def test_half_a_header_is_no_header(ends: bool, expected: str) -> None:
    for n_bytes in (0, 5, 16, 27):
        with pytest.raises(ProxyHeaderError) as caught:
            await read(tcp_header("192.0.2.7")[:n_bytes], ends=ends, timeout_s=5 if ends else 0)
        assert caught.value.reason == expected


async def test_a_connection_that_is_reset_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            with pytest.raises(ProxyHeaderError, match="cut"):
                await asyncio.wait_for(read_source(accepted, 5), 5)
