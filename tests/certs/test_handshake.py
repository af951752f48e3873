"""Who gets in: real handshakes over localhost, each judged by what both ends saw."""

import asyncio
import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from handshake import GREETING, LoopFactory, Outcome, attempt
from pki import (
    GOOD_URI,
    REFUSED_BY_IDENTITY,
    REFUSED_BY_TLS,
    Bad,
    ClientPair,
    Pki,
    foreign_ca,
    make_pki,
)

from certs import authority
from certs.identity import DEFAULT_TRUST_DOMAIN, IdentityError, identity_from_der
from certs.refusal import REFUSAL_REASONS
from certs.tls import client_context, explain_refusal, server_context

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]

EXPECTED = {
    Bad.FOREIGN_CA: ("unknown_ca", "does not know the authority"),
    Bad.SAME_NAME_CA: ("unknown_ca", "does not know the authority"),
    Bad.EXPIRED: ("expired", "has expired"),
    Bad.NOT_YET_VALID: ("not_yet_valid", "check the clocks"),
    Bad.SERVER_ONLY: ("wrong_purpose", "not a client certificate"),
    Bad.REVOKED: ("revoked", "was revoked"),
    Bad.CA_AS_LEAF: ("wrong_purpose", "not a client certificate"),
    Bad.SELF_SIGNED: ("unknown_ca", "does not know the authority"),
    Bad.BROKEN_SIGNATURE: ("bad_signature", "could not check the signature"),
    Bad.SIGNED_BY_CLIENT: ("bad_chain", "does not know the authority"),
    Bad.SUB_AUTHORITY: ("bad_chain", "does not know the authority"),
    Bad.UNKNOWN_CRITICAL_EXTENSION: ("unknown_extension", "client certificate"),
    Bad.EMAIL_ONLY: ("wrong_purpose", "not a client certificate"),
    Bad.MAY_SIGN: ("wrong_purpose", "client certificate"),
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def bad(pki: Pki) -> dict[Bad, ClientPair]:
    return {kind: pki.bad(kind) for kind in Bad}


@pytest.fixture(scope="module")
def good(pki: Pki) -> ClientPair:
    return pki.client()


@pytest.fixture(scope="module")
def server(pki: Pki, bad: dict[Bad, ClientPair]) -> ssl.SSLContext:
    """Built after all bad certificates, so its CRL holds the revoked one."""
    return server_context(*pki.server_files)


def explanation(outcome: Outcome) -> str | None:
    assert isinstance(outcome.read, Exception), outcome
    return explain_refusal(outcome.read)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_good_client_is_admitted_and_named(
    pki: Pki, good: ClientPair, server: ssl.SSLContext, loop: LoopFactory
) -> None:
    outcome = attempt(server, client_context(pki.ca, good.cert, good.key), loop_factory=loop)
    assert outcome.admitted
    assert outcome.peer == good.der
    assert identity_from_der(good.der).uri == GOOD_URI


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_server_is_reached_by_each_of_its_names(
    pki: Pki, good: ClientPair, server: ssl.SSLContext, name: str
) -> None:
    assert attempt(server, client_context(pki.ca, good.cert, good.key), hostname=name).admitted


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", REFUSED_BY_TLS)
def test_a_bad_certificate_is_refused_and_both_ends_can_say_why(
    pki: Pki, bad: dict[Bad, ClientPair], server: ssl.SSLContext, kind: Bad, loop: LoopFactory
) -> None:
    outcome = attempt(server, client_context(pki.ca, bad[kind].cert, bad[kind].key), loop_factory=loop)
    reason, sentence = EXPECTED[kind]
    assert outcome.reason == reason
    assert sentence in (explanation(outcome) or "")


@pytest.mark.parametrize("loop", LOOPS)
def test_no_certificate_is_refused_and_both_ends_can_say_why(
    pki: Pki, server: ssl.SSLContext, loop: LoopFactory
) -> None:
    outcome = attempt(server, client_context(pki.ca), loop_factory=loop)
    assert outcome.reason == "no_certificate"
    assert "none was sent" in (explanation(outcome) or "")


@pytest.mark.parametrize("loop", LOOPS)
def test_without_the_alert_the_client_sees_an_end_of_file(
    pki: Pki, server: ssl.SSLContext, loop: LoopFactory
) -> None:
    outcome = attempt(server, client_context(pki.ca), loop_factory=loop, sends_alert=False)
    assert outcome == Outcome("no_certificate", b"")


@pytest.mark.parametrize("kind", REFUSED_BY_IDENTITY)
def test_what_tls_lets_through_the_identity_rule_refuses(
    pki: Pki, bad: dict[Bad, ClientPair], server: ssl.SSLContext, kind: Bad
) -> None:
    outcome = attempt(server, client_context(pki.ca, bad[kind].cert, bad[kind].key))
    assert outcome.admitted
    assert outcome.peer
    with pytest.raises(IdentityError):
        identity_from_der(outcome.peer)


@pytest.mark.parametrize("loop", LOOPS)
def test_tls_1_2_is_refused(pki: Pki, good: ClientPair, server: ssl.SSLContext, loop: LoopFactory) -> None:
    client = client_context(pki.ca, good.cert, good.key)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = attempt(server, client, loop_factory=loop)
    assert outcome.reason == "old_tls"
    assert "only TLS 1.3" in (explanation(outcome) or "")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_does_not_speak_tls_is_counted_by_what_it_does(
    server: ssl.SSLContext, loop: LoopFactory
) -> None:
    def reason(raw: bytes | None = None, *, reset: bool = False) -> str:
        timeout_s = 0.05 if raw is None and not reset else 5.0
        return attempt(server, None, raw=raw, reset=reset, timeout_s=timeout_s, loop_factory=loop).reason

    assert reason(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == "not_tls"
    assert reason(b"CONNECT x:1 HTTP/1.1\r\n\r\n") == "not_tls"
    assert reason(b"SSH-2.0-OpenSSH_9.2\r\n") == "not_tls"
    assert reason(b"\x00" * 64) == "not_tls"
    assert reason(reset=True) == "reset"
    assert reason() == "timeout"


def at(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_a_crl_that_expires_while_the_server_runs_refuses_everybody(tmp_path: Path) -> None:
    pki = make_pki(tmp_path, made_at=at(-2))
    good = pki.client()
    pki.store.issue_crl(days=1)
    server = server_context(*pki.server_files, now=at(-1.5))
    assert attempt(server, client_context(pki.ca, good.cert, good.key)).reason == "crl_expired"


def test_a_crl_of_another_authority_counts_as_missing(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    good = pki.client()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.store.server_cert, pki.store.server_key)
    server.load_verify_locations(pki.ca)
    pki.store.crl.write_bytes(authority.new_crl(foreign_ca(DEFAULT_TRUST_DOMAIN), [], now=at(0)))
    server.load_verify_locations(pki.store.crl)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    client = client_context(pki.ca, good.cert, good.key)
    assert attempt(server, client).reason == "crl_missing"


class TwiceServer:
    """Greets two connections with blocking sockets: asyncio's client cannot offer an old session."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "TwiceServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for _ in range(2):
            accepted, _ = self._listener.accept()
            # What goes wrong here, the client's read reports.
            with accepted, contextlib.suppress(OSError):
                with self._context.wrap_socket(accepted, server_side=True) as secured:
                    secured.sendall(GREETING)

    def greeting(
        self, client: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> tuple[bytes, ssl.SSLSession | None]:
        raw = socket.create_connection(self._listener.getsockname(), timeout=5)
        with client.wrap_socket(raw, server_hostname="localhost", session=session) as secured:
            return secured.recv(100), secured.session


@pytest.mark.parametrize("num_tickets", [0, 2])
def test_a_revoked_client_resumes_no_old_session_because_there_are_no_tickets(
    tmp_path: Path, num_tickets: int
) -> None:
    pki = make_pki(tmp_path)
    pair = pki.client()
    context = server_context(*pki.server_files)
    client = client_context(pki.ca, pair.cert, pair.key)
    context.num_tickets = num_tickets or context.num_tickets
    with TwiceServer(context) as server:
        read, session = server.greeting(client)
        assert read == GREETING
        pki.revoke(pair)
        # In place, as the product never does: a new context has new ticket keys and would prove nothing.
        context.load_verify_locations(cafile=pki.store.crl)
        if num_tickets:
            # The counter-proof: with tickets the revoked client gets in.
            assert server.greeting(client, session)[0] == GREETING
        else:
            with pytest.raises(ssl.SSLError, match="REVOKED"):
                server.greeting(client, session)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_refuses_a_server_of_another_authority(
    pki: Pki, good: ClientPair, server: ssl.SSLContext, tmp_path: Path, loop: LoopFactory
) -> None:
    other = make_pki(tmp_path)
    outcome = attempt(server, client_context(other.ca, good.cert, good.key), loop_factory=loop)
    assert outcome.reason in ("server_not_trusted", "reset")
    assert "the authority you trust" in (explanation(outcome) or "")


@pytest.mark.parametrize(
    ("hostname", "sentence"), [("other.test", "another host name"), ("::2", "IP address")]
)
def test_a_client_refuses_a_server_of_another_name(
    pki: Pki, good: ClientPair, server: ssl.SSLContext, hostname: str, sentence: str
) -> None:
    outcome = attempt(server, client_context(pki.ca, good.cert, good.key), hostname=hostname)
    assert sentence in (explanation(outcome) or "")


def test_a_client_refuses_a_server_whose_certificate_expires_while_it_runs(tmp_path: Path) -> None:
    pki = make_pki(tmp_path, made_at=at(-2))
    good = pki.client()
    pki.store.issue_server(["localhost"], days=1, force=True)
    server = server_context(*pki.server_files, now=at(-1.5))
    outcome = attempt(server, client_context(pki.ca, good.cert, good.key))
    assert outcome.reason in ("server_not_trusted", "reset")
    assert "server's certificate has expired" in (explanation(outcome) or "")


def test_every_token_seen_is_in_the_closed_set() -> None:
    assert {reason for reason, _ in EXPECTED.values()} <= REFUSAL_REASONS
