"""Networks that may connect, in CIDR notation, and what an address counts as."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks such as ``10.1.0.0/16`` or ``fd00::/8``; a lone address is a network of one.

    Raises:
        ValueError: A text is no network, or has bits set beyond its prefix, which is mostly a slip.
    """
    return tuple(ip_network(text) for text in texts)


def address_network(address: str) -> Network:
    """The network of one address, as a socket tells it; see ``contains``.

    Raises:
        ValueError: It is no IP address.
    """
    return ip_network(_parse(address))


def contains(allowed: tuple[Network, ...], address: str) -> bool:
    """Whether an address is in one of the networks; none means every address.

    Args:
        allowed: Networks.
        address: As a socket tells it: with an interface after ``%``, or IPv4 within IPv6. What is no
            address, such as the peer of a Unix socket, is in no network.
    """
    if not allowed:
        return True
    try:
        parsed = _parse(address)
    except ValueError:
        return False
    return any(parsed in network for network in allowed)


def _parse(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def within(network: Network, allowed: tuple[Network, ...]) -> bool:
    """Whether every address of a network is in one of those allowed; with none allowed, none is."""
    return any(_holds(outer, network) for outer in allowed)


def _holds(outer: Network, inner: Network) -> bool:
    # Networks of two versions cannot be compared.
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def limited_by(address: str) -> str:
    """What a client is limited by: its IPv4 address, or the IPv6 network whose addresses are all its own."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
