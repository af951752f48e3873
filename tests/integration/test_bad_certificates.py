"""No bad certificate gets in: each class over a real WebSocket, and the reason is on record."""

import logging
import ssl
from collections.abc import Iterator

import pytest
import websockets
from live_server import LiveServer, live_server, wire
from pki import REFUSED_BY_IDENTITY, REFUSED_BY_POLICY, REFUSED_BY_TLS, Bad, ClientPair, Pki

from certs.refusal import REFUSAL_REASONS
from certs.tls import client_context
from stream_server.client import ConnectFailed, connect


@pytest.fixture(scope="module")
def pairs(pki: Pki) -> dict[Bad, ClientPair]:
    return {kind: pki.bad(kind) for kind in Bad}


@pytest.fixture(scope="module")
def strict(pki: Pki, pairs: dict[Bad, ClientPair]) -> Iterator[LiveServer]:
    """A server whose certificates were all made, revocations included, before it started."""
    with live_server(pki) as running:
        yield running


async def recorded_reason(server: LiveServer, caplog: pytest.LogCaptureFixture) -> str:
    """Why the server says that it refused; the client may know before it is on record."""

    def reasons() -> list[str]:
        events = ("handshake_refused", "request_refused")
        records = [record for record in caplog.records if record.getMessage() in events]
        assert all(record.stream_server_fields["address"] == "127.0.0.1" for record in records)
        return [record.stream_server_fields["reason"] for record in records]

    await server.until(lambda: bool(reasons()))
    [reason] = reasons()
    return reason


def test_there_are_at_least_25_classes() -> None:
    assert len(Bad) >= 25
    assert {*REFUSED_BY_TLS, *REFUSED_BY_IDENTITY, *REFUSED_BY_POLICY} == set(Bad)


@pytest.mark.parametrize("kind", REFUSED_BY_TLS)
async def test_tls_lets_it_not_through_and_both_ends_know_why(
    kind: Bad,
    strict: LiveServer,
    pki: Pki,
    pairs: dict[Bad, ClientPair],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ConnectFailed) as caught:
        async with connect(strict.url, tls=client_context(pki.ca, pairs[kind].cert, pairs[kind].key)):
            pass
    assert len(str(caught.value)) > 20
    assert await recorded_reason(strict, caplog) in REFUSAL_REASONS - {"other"}


@pytest.mark.parametrize("kind", [*REFUSED_BY_IDENTITY, *REFUSED_BY_POLICY])
async def test_what_tls_lets_through_gets_403_and_is_told_why(
    kind: Bad,
    strict: LiveServer,
    pki: Pki,
    pairs: dict[Bad, ClientPair],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with wire(strict.url, pki, pairs[kind]):
            pass
    assert caught.value.response.status_code == 403
    assert len(caught.value.response.body) > 40
    assert await recorded_reason(strict, caplog) == "not_allowed"


async def test_no_certificate_and_old_tls_are_no_way_in(
    strict: LiveServer, pki: Pki, source: ClientPair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old = client_context(pki.ca, source.cert, source.key)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context, reason in ((client_context(pki.ca), "no_certificate"), (old, "old_tls")):
        caplog.clear()
        with pytest.raises(ConnectFailed):
            async with connect(strict.url, tls=context):
                pass
        assert await recorded_reason(strict, caplog) == reason
