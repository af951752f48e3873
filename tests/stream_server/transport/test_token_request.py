"""What may be asked of a token, and what is told of anything else."""

import contextlib
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.transport.token_request import TokenRequest, TokenRequestError, read_token_request

ASKER = "10.1.2.3"


def test_all_that_may_be_asked() -> None:
    query = "room=hall&network=10.2.0.0%2F16&name=Softphone%207&seconds=60"
    expected = TokenRequest("hall", ip_network("10.2.0.0/16"), "Softphone 7", 60)
    assert read_token_request(query, ASKER) == expected


@pytest.mark.parametrize(
    ("address", "network"),
    [(ASKER, "10.1.2.3/32"), ("::ffff:10.1.2.3", "10.1.2.3/32"), ("fe80::1%eth0", "fe80::1/128")],
)
def test_without_a_word_it_is_for_the_asker_alone(address: str, network: str) -> None:
    assert read_token_request("", address) == TokenRequest(None, ip_network(network), None, 900)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("room=Hall", "room: "),
        ("room=", "room: "),
        ("name=%0A", "name: "),
        (f"name={'x' * 65}", "name: "),
        ("network=10.0.0.1/8", "network: "),
        ("network=0.0.0.0/0", "network: "),
        ("network=here", "network: "),
        ("seconds=9", "seconds: "),
        ("seconds=901", "seconds: "),
        ("seconds=+60", "seconds: "),
        ("seconds=%D9%A6%D9%A0", "seconds: "),
        ("room=hall&room=board", "once"),
        ("minutes=5", "nothing else"),
        ("room", "KEY=VALUE"),
        ("a=1&b=2&c=3&d=4&e=5", "KEY=VALUE"),
    ],
)
def test_what_may_not_be_asked_is_named(query: str, words: str) -> None:
    with pytest.raises(TokenRequestError, match=words):
        read_token_request(query, ASKER)


def test_an_asker_without_an_address_must_name_a_network() -> None:
    with pytest.raises(TokenRequestError, match="network"):
        read_token_request("", "unknown")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
def test_any_query_is_a_request_or_an_error_of_one_kind(query: str) -> None:
    with contextlib.suppress(TokenRequestError):
        assert 10 <= read_token_request(query, ASKER).lifetime_s <= 900
