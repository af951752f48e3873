"""The header by which a proxy in front tells the address of its client: PROXY protocol, version 2.

A balancer that passes TCP on is itself the peer of every connection. So it may say, before the first byte of
TLS, from where the connection came to it (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt,
section 2.2). The text form, version 1, is not read.

::

    byte  0-11  signature
          12    version 2 and command: LOCAL 0 (the proxy's own, such as a health check), PROXY 1
          13    address family and transport; ours are TCP over IPv4, 0x11, and over IPv6, 0x21
          14-15 length of what follows, big-endian: addresses, ports, then extensions that are not read

Parsing is pure and asks for no byte beyond the header: the next one is the client's.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PREFIX_BYTES = 16
HEADER_BYTES_MAX = 2_048
"""With extensions; balancers send some 30 to 300 bytes, and in the worst case the names in a certificate."""

_VERSION_2 = 0x20
_LOCAL = 0
_PROXY = 1
_TCP4, _TCP4_BYTES = 0x11, 12
_TCP6, _TCP6_BYTES = 0x21, 36


class ProxyHeaderError(Exception):
    """Raised when a proxy's connection does not begin with a header that can be used.

    Attributes:
        reason: A code, for log, metric and audit log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def missing_bytes(data: bytes) -> int:
    """How many bytes to read before the header can be told further; 0 when it is whole.

    Args:
        data: The connection's first bytes, no more than were asked for.

    Raises:
        ProxyHeaderError: They are not how a header begins, or it is of a kind or length that is not read.
    """
    if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
        raise ProxyHeaderError("proxy_header_missing")
    if len(data) < PREFIX_BYTES:
        return PREFIX_BYTES - len(data)
    if data[12] not in (_VERSION_2 | _LOCAL, _VERSION_2 | _PROXY):
        raise ProxyHeaderError("proxy_header_broken")
    n_bytes = PREFIX_BYTES + int.from_bytes(data[14:16], "big")
    if n_bytes > HEADER_BYTES_MAX:
        raise ProxyHeaderError("proxy_header_too_long")
    return n_bytes - len(data)


def source_address(header: bytes) -> str | None:
    """The address of a proxy's client; None where the connection is the proxy's own.

    Args:
        header: Whole: ``missing_bytes`` is 0.

    Raises:
        ProxyHeaderError: It names no address of TCP, or is shorter than its addresses.
    """
    if header[12] == _VERSION_2 | _LOCAL:
        return None
    kind, block = header[13], header[PREFIX_BYTES:]
    if kind not in (_TCP4, _TCP6):
        raise ProxyHeaderError("proxy_header_without_address")
    if len(block) < (_TCP4_BYTES if kind == _TCP4 else _TCP6_BYTES):
        raise ProxyHeaderError("proxy_header_broken")
    return str(IPv4Address(block[:4])) if kind == _TCP4 else str(IPv6Address(block[:16]))


async def read_source(sock: socket.socket, timeout_s: float) -> str | None:
    """Read the header from a proxy's connection, and nothing behind it; see ``source_address``.

    Args:
        sock: Not blocking.
        timeout_s: For the whole header.

    Raises:
        ProxyHeaderError: None came in time, or none that can be used.
    """
    loop = asyncio.get_running_loop()
    data = b""
    try:
        async with asyncio.timeout(timeout_s):
            while n_missing := missing_bytes(data):
                piece = await loop.sock_recv(sock, n_missing)
                if not piece:
                    raise ProxyHeaderError("proxy_header_cut")
                data += piece
    except TimeoutError as exc:
        raise ProxyHeaderError("proxy_header_timed_out") from exc
    except OSError as exc:
        raise ProxyHeaderError("proxy_header_cut") from exc
    return source_address(data)
