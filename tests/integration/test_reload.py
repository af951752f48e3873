"""Certificates change while the server runs: it notices, checks, and cuts whom it no longer knows."""

import asyncio
import logging
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from live_server import PAUSE, START, LiveServer, live_server, wire
from pki import Pki, make_pki

from certs.tls import client_context
from stream_server import access
from stream_server.client import ConnectFailed, connect
from stream_server.engine.fake import numbered_speech

SPEECH = numbered_speech(range(20)).tobytes()
CUT_WITHIN_S = 5.0


@pytest.fixture
def own(tmp_path: Path) -> Pki:
    """An authority of the test's own: what is revoked here is nobody else's."""
    return make_pki(tmp_path / "certs")


async def test_a_revoked_client_is_cut_with_its_finals_and_not_let_in_again(own: Pki) -> None:
    anna, bob = own.client("anna", "source"), own.client("bob", "source")
    with live_server(own) as server:
        async with wire(server.url, own, anna) as cut, wire(server.url, own, bob) as stays:
            for client in (cut, stays):
                await client.send(START, SPEECH)
                await client.receive("started")
            began_s = time.monotonic()
            own.revoke(anna)
            events = await cut.rest_or_error()
            assert time.monotonic() - began_s < CUT_WITHIN_S
            assert [event["type"] for event in events][-2:] == ["final", "error"]
            assert events[-1]["code"] == "not_allowed"
            assert "revoked" in events[-1]["message"]
            await stays.send(PAUSE)
            await stays.receive("final")
        with pytest.raises(ConnectFailed, match="revoked"):
            async with connect(server.url, tls=client_context(own.ca, anna.cert, anna.key)):
                pass
        async with wire(server.url, own, bob):
            pass


async def test_a_revoked_reader_is_cut(own: Pki) -> None:
    screen = own.client("screen", "reader")
    with live_server(own) as server:
        async with wire(server.url.replace("stream", "rooms/board"), own, screen) as reader:
            await reader.send({"type": "read"})
            await reader.receive("joined")
            own.revoke(screen)
            async with asyncio.timeout(CUT_WITHIN_S):
                assert (await reader.rest_or_error())[-1]["code"] == "not_allowed"


async def test_a_certificate_that_ends_ends_its_session(own: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = own.client("anna", "source")
    with live_server(own) as server:
        async with wire(server.url, own, anna) as client:
            await client.send(START, SPEECH)
            await client.receive("started")
            monkeypatch.setattr(access, "utc_now", lambda: datetime.now(UTC) + timedelta(days=4_000))
            async with asyncio.timeout(CUT_WITHIN_S):
                events = await client.rest_or_error()
            assert [event["type"] for event in events][-2:] == ["final", "error"]
            assert "has ended" in events[-1]["message"]


async def test_a_bad_file_keeps_the_old_ones_and_is_told(own: Pki, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    anna = own.client("anna", "source")
    crl = own.store.crl
    good = crl.read_bytes()
    with live_server(own) as server:
        crl.write_text("not a revocation list")
        await server.until(lambda: failures(server) == 1)
        async with wire(server.url, own, anna):
            pass
        crl.write_bytes(good)
        own.revoke(own.client("other", "source"))
        await server.until(lambda: "tls_reloaded" in caplog.messages)
        assert failures(server) == 1
        async with wire(server.url, own, anna):
            pass


def failures(server: LiveServer) -> float:
    return server.app._metrics.reload_failures.labels(what="tls")._value.get()


async def test_a_new_server_certificate_is_shown_to_the_next_client(own: Pki) -> None:
    anna = own.client("anna", "source")
    context = client_context(own.ca, anna.cert, anna.key)
    with live_server(own) as server:
        before, credentials = await shown(server, context), server.app._access._live.current
        own.store.issue_server(["localhost", "127.0.0.1"], force=True)
        # The server may look between the key and the certificate being written, and once more afterwards.
        while await shown(server, context) == before:
            await server.until(lambda seen=credentials: server.app._access._live.current is not seen)
            credentials = server.app._access._live.current


async def shown(server: LiveServer, context: ssl.SSLContext) -> bytes:
    port = server.ready.addresses[0][1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(der, bytes)
    return der


async def test_a_policy_that_changes_cuts_whom_it_no_longer_names(own: Pki) -> None:
    anna, bob = own.client("anna", "source"), own.client("bob", "source")
    policy = own.store.folder.parent / "policy.toml"
    with live_server(own) as server:
        async with wire(server.url, own, anna) as cut, wire(server.url, own, bob) as stays:
            for client in (cut, stays):
                await client.send({**START, "room": "board-301"}, SPEECH)
                await client.receive("started")
            policy.write_text('[[rule]]\nidentities = ["/source/bob"]\nrole = "source"\npublish = ["*"]\n')
            async with asyncio.timeout(CUT_WITHIN_S):
                events = await cut.rest_or_error()
            assert [event["type"] for event in events][-2:] == ["final", "error"]
            assert "policy has changed" in events[-1]["message"]
            await stays.send(PAUSE)
            await stays.receive("final")
            policy.write_text("[[rule]]\nidentities = 7\n")
            await server.until(lambda: failed_policies(server) == 1)
            policy.unlink()
            await server.until(lambda: failed_policies(server) == 2)
            await stays.send(SPEECH, PAUSE)
            await stays.receive("final")


async def test_a_room_taken_from_a_source_ends_its_publishing(own: Pki) -> None:
    anna = own.client("anna", "source")
    policy = own.store.folder.parent / "policy.toml"
    rule = '[[rule]]\nidentities = ["/source/*"]\nrole = "source"\npublish = ["{}"]\n'
    policy.write_text(rule.format("board-*"))
    with live_server(own) as server:
        async with wire(server.url, own, anna) as client:
            await client.send({**START, "room": "board-301"}, SPEECH)
            await client.receive("started")
            policy.write_text(rule.format("lab"))
            async with asyncio.timeout(CUT_WITHIN_S):
                assert (await client.rest_or_error())[-1]["code"] == "not_allowed"


def failed_policies(server: LiveServer) -> float:
    return server.app._metrics.reload_failures.labels(what="policy")._value.get()
