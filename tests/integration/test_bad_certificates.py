"""No bad certificate gets in: each class over a real WebSocket, and the audit log says why."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets
from live_server import LiveServer, live_server, wire
from pki import REFUSED_BY_IDENTITY, REFUSED_BY_POLICY, REFUSED_BY_TLS, Bad, ClientPair, Pki

from certs.identity import IDENTITY_PROBLEMS
from certs.refusal import REFUSAL_REASONS
from certs.tls import client_context
from stream_server.client import ConnectFailed, connect
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode

REASONS = {
    Bad.FOREIGN_CA: "unknown_ca",
    Bad.SAME_NAME_CA: "unknown_ca",
    Bad.EXPIRED: "expired",
    Bad.NOT_YET_VALID: "not_yet_valid",
    Bad.SERVER_ONLY: "wrong_purpose",
    Bad.REVOKED: "revoked",
    Bad.CA_AS_LEAF: "wrong_purpose",
    Bad.SELF_SIGNED: "unknown_ca",
    Bad.BROKEN_SIGNATURE: "bad_signature",
    Bad.SIGNED_BY_CLIENT: "bad_chain",
    Bad.SUB_AUTHORITY: "bad_chain",
    Bad.UNKNOWN_CRITICAL_EXTENSION: "unknown_extension",
    Bad.EMAIL_ONLY: "wrong_purpose",
    Bad.MAY_SIGN: "wrong_purpose",
    Bad.NO_USAGE: "not_for_clients",
    Bad.TWO_URIS: "not_one_uri",
    Bad.NO_URI: "not_one_uri",
    Bad.BAD_PATTERN: "bad_uri",
    Bad.PERCENT_ENCODED: "bad_uri",
    Bad.CONTROL_CHARACTER_IN_URI: "bad_uri",
    Bad.CONTROL_CHARACTER_IN_SUBJECT: "unprintable_subject",
    Bad.FOREIGN_TRUST_DOMAIN: "foreign_trust_domain",
    Bad.ESCAPE_IN_SUBJECT: "unprintable_subject",
    Bad.NUL_IN_SUBJECT: "unprintable_subject",
    Bad.DOT_SEGMENT: "bad_uri",
    Bad.EMPTY_PATH: "bad_uri",
    Bad.TRAILING_SLASH: "bad_uri",
    Bad.QUERY_IN_URI: "bad_uri",
    Bad.PORT_IN_URI: "bad_uri",
    Bad.CAPITALS_IN_TRUST_DOMAIN: "bad_uri",
    Bad.URI_TOO_LONG: "bad_uri",
    Bad.UNKNOWN_ROLE: "not_allowed",
}
"""What the audit log says of each class."""


@pytest.fixture(scope="module")
def pairs(pki: Pki) -> dict[Bad, ClientPair]:
    return {kind: pki.bad(kind) for kind in Bad}


@pytest.fixture(scope="module")
def strict(pki: Pki, pairs: dict[Bad, ClientPair]) -> Iterator[LiveServer]:
    """A server whose certificates were all made, revocations included, before it started."""
    with live_server(pki) as running:
        yield running


def entries(server: LiveServer) -> list[Entry]:
    """The audit log's entries about who was let in, or not."""
    assert server.config.audit.folder is not None
    folder = AuditFolder(Path(server.config.audit.folder))
    lines = (decode(line) for number in folder.numbers() for line in folder.lines(number))
    return [entry for entry in lines if entry.action in ("client.authenticate", "client.authorize")]


async def recorded_reason(server: LiveServer, before: list[Entry], address: str = "127.0.0.1") -> str:
    """Why the audit log says that it refused; the client may know before it is on record."""
    await server.until(lambda: len(entries(server)) > len(before))
    [entry] = entries(server)[len(before) :]
    assert (entry.outcome, entry.src) == ("denied", address)
    assert entry.reason is not None
    return entry.reason


def test_there_are_at_least_25_classes() -> None:
    assert len(Bad) >= 25
    assert {*REFUSED_BY_TLS, *REFUSED_BY_IDENTITY, *REFUSED_BY_POLICY} == set(Bad) == set(REASONS)
    assert {REASONS[kind] for kind in REFUSED_BY_TLS} <= REFUSAL_REASONS - {"other"}
    assert {REASONS[kind] for kind in REFUSED_BY_IDENTITY} <= IDENTITY_PROBLEMS


@pytest.mark.parametrize("kind", REFUSED_BY_TLS)
async def test_tls_lets_it_not_through_and_both_ends_know_why(
    kind: Bad, strict: LiveServer, pki: Pki, pairs: dict[Bad, ClientPair]
) -> None:
    before = entries(strict)
    with pytest.raises(ConnectFailed) as caught:
        async with connect(strict.url, tls=client_context(pki.ca, pairs[kind].cert, pairs[kind].key)):
            pass
    assert len(str(caught.value)) > 20
    assert await recorded_reason(strict, before) == REASONS[kind]


@pytest.mark.parametrize("kind", [*REFUSED_BY_IDENTITY, *REFUSED_BY_POLICY])
async def test_what_tls_lets_through_gets_403_and_is_told_why(
    kind: Bad, strict: LiveServer, pki: Pki, pairs: dict[Bad, ClientPair]
) -> None:
    before = entries(strict)
    # Each from an address of its own: of one address, the sixth equal refusal is counted, not written.
    address = f"127.0.1.{tuple(Bad).index(kind)}"
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with wire(
            strict.url.replace("localhost", "127.0.0.1"), pki, pairs[kind], local_addr=(address, 0)
        ):
            pass
    assert caught.value.response.status_code == 403
    assert len(caught.value.response.body) > 40
    assert await recorded_reason(strict, before, address) == REASONS[kind]


async def test_no_certificate_and_old_tls_are_no_way_in(
    strict: LiveServer, pki: Pki, source: ClientPair
) -> None:
    old = client_context(pki.ca, source.cert, source.key)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context, reason in ((client_context(pki.ca), "no_certificate"), (old, "old_tls")):
        before = entries(strict)
        with pytest.raises(ConnectFailed):
            async with connect(strict.url, tls=context):
                pass
        assert await recorded_reason(strict, before) == reason


def test_the_audit_log_knows_of_nobody_who_was_let_in(strict: LiveServer) -> None:
    """After the classes above."""
    assert [entry for entry in entries(strict) if entry.outcome == "success"] == []
