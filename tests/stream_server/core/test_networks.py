"""Which addresses are in which networks."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.networks import contains, networks, within

OFFICE = networks(["10.1.0.0/16", "fd00::/8", "192.0.2.7"])


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("10.1.0.0", True),
        ("10.1.255.255", True),
        ("10.0.255.255", False),
        ("10.2.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd12::1", True),
        ("fd12::1%eth0", True),
        ("fe80::1%eth0", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:10.2.2.3", False),
        ("unknown", False),
        ("", False),
        ("10.1.2.3.4", False),
    ],
)
def test_an_address_is_in_the_networks_or_not(address: str, is_in: bool) -> None:
    assert contains(OFFICE, address) is is_in


def test_no_networks_hold_everybody() -> None:
    assert contains((), "203.0.113.9")
    assert contains((), "unknown")


@pytest.mark.parametrize("text", ["10.1", "10.1.2.3/16", "10.0.0.0/33", "x", "", "fd00::1/8"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits"):
        networks(["10.0.0.0/8", text])


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_membership_is_a_matter_of_the_first_bits(base: int, address: int, prefix: int) -> None:
    network = IPv4Network((base >> (32 - prefix) << (32 - prefix), prefix))
    expected = base >> (32 - prefix) == address >> (32 - prefix)
    assert contains((network,), str(IPv4Address(address))) is expected
    assert contains((network,), f"::ffff:{IPv4Address(address)}") is expected


@pytest.mark.parametrize(
    ("inner", "is_within"),
    [
        ("10.1.0.0/16", True),
        ("10.1.9.9", True),
        ("10.0.0.0/15", False),
        ("192.0.2.7", True),
        ("fd00::/8", True),
        ("fc00::/7", False),
        ("::/0", False),
    ],
)
def test_a_network_is_within_others_or_it_is_not(inner: str, is_within: bool) -> None:
    assert within(networks([inner])[0], OFFICE) is is_within
    assert not within(networks([inner])[0], ())
