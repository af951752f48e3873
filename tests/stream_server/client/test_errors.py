import socket
import ssl

import pytest
from fake_caption_server import Gate, alerting_server, eager_closer, fake_server, refusing, silence
from pki import Bad, ClientPair, Pki

from certs.tls import client_context
from stream_server.client import ClientError, ConnectFailed, connect


async def refusal(url: str, tls: ssl.SSLContext, timeout_s: float = 10.0) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with connect(url, tls=tls, open_timeout_s=timeout_s):
            pytest.fail("there is no stream")
    assert "\n" not in str(caught.value)
    return caught.value


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("gate", "status", "code", "retry_after_s", "words"),
    [
        (
            refusing(403, '{"code": "not_allowed", "message": "this role may not stream"}'),
            403,
            "not_allowed",
            None,
            "this role may not stream",
        ),
        (refusing(404, "<html>"), 404, None, None, "HTTP 404"),
        (
            refusing(429, '{"code": "too_many", "message": "too many connects"}', Retry_After="12"),
            429,
            "too_many",
            12.0,
            "try again in 12 s",
        ),
        (refusing(503, "", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), 503, None, None, "HTTP 503"),
        (refusing(503, '{"code": 1}'), 503, None, None, "HTTP 503"),
    ],
)
async def test_an_http_refusal_is_told_in_the_servers_words(
    pki: Pki,
    client: ClientPair,
    gate: Gate,
    status: int,
    code: str | None,
    retry_after_s: float | None,
    words: str,
) -> None:
    async with fake_server(pki, client, silence, gate=gate) as fake:
        error = await refusal(fake.url, fake.tls)
    assert (error.status, error.code, error.retry_after_s) == (status, code, retry_after_s)
    assert words in str(error)


@pytest.mark.parametrize(
    ("bad", "words"),
    [(Bad.FOREIGN_CA, "does not know the authority"), (Bad.EXPIRED, "expired"), (None, "none was sent")],
)
async def test_a_client_refused_by_tls_learns_why_though_tls_1_3_tells_late(
    pki: Pki, bad: Bad | None, words: str
) -> None:
    pair = pki.bad(bad) if bad else None
    context = client_context(pki.ca, pair.cert, pair.key) if pair else client_context(pki.ca)
    with alerting_server(pki) as url:
        error = await refusal(url, context)
    assert words in str(error)


async def test_a_refusal_without_a_reason_says_what_it_may_be(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        error = await refusal(fake.url, client_context(pki.ca))
    assert "may not admit your certificate" in str(error)


async def test_a_server_that_hangs_up_at_once_is_told_as_one(pki: Pki) -> None:
    async with eager_closer() as url:
        error = await refusal(url, client_context(pki.ca))
    assert "127.0.0.1" in str(error)


async def test_a_server_of_another_authority_is_not_trusted(pki: Pki, client: ClientPair) -> None:
    async with fake_server(pki, client, silence) as fake:
        # The client's own certificate is an authority that never signed this server.
        error = await refusal(fake.url, client_context(client.cert, client.cert, client.key))
    assert "authority you trust" in str(error)


async def test_nobody_listening_is_told_with_the_address(pki: Pki, client: ClientPair) -> None:
    port = free_port()
    error = await refusal(f"wss://127.0.0.1:{port}/v1/stream", client_context(pki.ca))
    assert f"nothing answers at 127.0.0.1:{port}" in str(error)
    assert isinstance(error, ClientError)


async def test_an_unknown_name_is_told_as_one(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = await refusal("wss://captions.invalid:8443/v1/stream", client_context(pki.ca))
    assert "captions.invalid:8443 is not known" in str(error)


async def test_a_server_that_never_answers_is_given_up(pki: Pki, client: ClientPair) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        error = await refusal(f"wss://127.0.0.1:{port}/v1/stream", client_context(pki.ca), timeout_s=0.01)
    assert "did not answer in time" in str(error)


@pytest.mark.parametrize(
    ("url", "words"),
    [("ws://127.0.0.1:1/v1/stream", "must begin with wss://"), ("wss://", "not an address")],
)
async def test_an_address_that_cannot_be_one_is_refused_before_connecting(
    pki: Pki, url: str, words: str
) -> None:
    assert words in str(await refusal(url, client_context(pki.ca)))
