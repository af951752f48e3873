"""Writer tokens over real TLS: made by a certificate, used without, and worth no more than their maker."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import websockets
from live_server import FINISH, START, LiveServer, WireClient, live_server, wire
from pki import ClientPair, Pki, make_pki
from typer.testing import CliRunner

from certs.tls import client_context
from stream_server import access
from stream_server.cli import app
from stream_server.client import ConnectFailed, FinalEvent, MintedToken, connect, mint_token, transcribe
from stream_server.core.signed import from_base64, to_base64
from stream_server.engine.fake import numbered_speech, numbers_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode

GUEST = {"enabled": True, "port": 0}
SPEECH = numbered_speech(range(20)).tobytes()
CUT_WITHIN_S = 5.0
POLICY = """
[[rule]]
identities = ["/source/*"]
role = "source"
publish = ["*"]
read = ["*"]

[[rule]]
identities = ["/source/desk"]
rights = ["stream", "mint"]
publish = ["hall", "desk-*"]
sessions = 2
token_networks = ["127.0.0.0/8", "::1"]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority whose policy lets one certificate mint."""
    pki = make_pki(tmp_path_factory.mktemp("state"))
    (pki.store.folder.parent / "policy.toml").write_text(POLICY)
    return pki


@pytest.fixture(scope="module")
def desk(own: Pki) -> ClientPair:
    """The certificate that may."""
    return own.client("desk", "source")


@pytest.fixture(scope="module")
def house(own: Pki) -> Iterator[LiveServer]:
    """A server that takes tokens."""
    with live_server(own, guest=GUEST) as running:
        yield running


def stream_url(server: LiveServer, query: str = "") -> str:
    return f"wss://localhost:{server.ready.guest_addresses[0][1]}/v1/stream{query}"


async def minted(server: LiveServer, pki: Pki, pair: ClientPair, **wanted: Any) -> MintedToken:
    return await mint_token(server.url, tls=client_context(pki.ca, pair.cert, pair.key), **wanted)


@asynccontextmanager
async def shown(
    server: LiveServer, pki: Pki, token: str | None, query: str = "", **options: Any
) -> AsyncIterator[WireClient]:
    """A sender's connection, without a certificate and before its ``start``."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    options = {"subprotocols": ["captions.v1"], "proxy": None, "compression": None, **options}
    url, tls = stream_url(server, query), client_context(pki.ca)
    async with websockets.connect(url, ssl=tls, additional_headers=headers, **options) as socket:
        yield WireClient(socket)


async def refused(server: LiveServer, pki: Pki, token: str | None, **options: Any) -> tuple[int, str]:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with shown(server, pki, token, **options):
            pass
    return caught.value.response.status_code, json.loads(caught.value.response.body)["code"]


def entries(server: LiveServer) -> list[Entry]:
    folder = AuditFolder(Path(server.config.audit.folder or ""))
    return [decode(line) for number in folder.numbers() for line in folder.lines(number)]


async def test_a_token_streams_into_its_room_under_its_makers_name(
    house: LiveServer, own: Pki, desk: ClientPair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await minted(house, own, desk, room="hall", name="Softphone 7", seconds=600)
    assert (token.room, token.network, token.name) == ("hall", "127.0.0.1/32", "Softphone 7")
    assert token.expires_in_seconds == 600
    tls = client_context(own.ca)
    reader_pair = own.client("screen", "source")
    async with wire(house.url.replace("stream", "rooms/hall"), own, reader_pair) as reader:
        await reader.send({"type": "read"})
        await reader.receive("joined")
        async with connect(stream_url(house), tls=tls, room="hall", token=token.token) as stream:
            events = [event async for event in transcribe(stream, [SPEECH])]
        finals = [event for event in events if isinstance(event, FinalEvent)]
        assert [n for final in finals for n in numbers_in(final.text)] == list(range(20))
        left = await reader.receive("source_left")
        assert left["speaker"] == "Softphone 7"
    await house.until(lambda: any(entry.action == "session.end" for entry in entries(house)))
    ours = [entry for entry in entries(house) if token.id in (entry.detail.get("token"), entry.reason)]
    assert [entry.action for entry in ours] == [
        "token.mint", "client.authorize", "session.start", "session.end",
    ]  # fmt: skip
    assert {entry.actor.id for entry in ours if entry.actor} == {"spiffe://stream-server.local/source/desk"}
    assert ours[0].detail["network"] == "127.0.0.1/32"
    assert [entry.object for entry in ours[:2]] == ["room:hall", "room:hall"]
    logged = [record for record in caplog.records if record.name.startswith("stream_server")]
    for record in logged:
        said = record.getMessage() + repr(getattr(record, "stream_server_fields", None))
        assert token.token not in said
        assert "Softphone" not in said
        assert "source/desk" not in said


async def test_a_browser_shows_its_token_among_the_subprotocols(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    token = (await minted(house, own, desk)).token
    async with shown(house, own, None, subprotocols=["captions.v1", f"bearer.{token}"]) as client:
        assert client.socket.subprotocol == "captions.v1"
        await client.send(START, SPEECH, FINISH)
        assert (await client.rest())[-1]["type"] == "finished"


async def test_a_stream_goes_on_with_another_token_after_a_lost_connection(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    given: list[str] = []

    async def token() -> str:
        given.append((await minted(house, own, desk, name="anna")).token)
        return given[-1]

    tls = client_context(own.ca)
    async with connect(stream_url(house), tls=tls, token=token) as stream:
        await stream.send(SPEECH[:32_000])
        stream._link.websocket.transport.abort()
        events = [event async for event in transcribe(stream, [SPEECH[32_000:]])]
    finals = [event.text for event in events if isinstance(event, FinalEvent)]
    assert [n for text in finals for n in numbers_in(text)] == list(range(20))
    assert len(set(given)) == 2


@pytest.mark.parametrize("room", [None, "desk-1"])
async def test_a_token_is_for_one_room_or_for_none(
    room: str | None, house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    token = (await minted(house, own, desk, room=room)).token
    for other in {None, "desk-1", "desk-2"} - {room}:
        async with shown(house, own, token) as client:
            await client.send({**START, "room": other})
            [error] = await client.rest_or_error()
            assert (error["code"], client.socket.close_code) == ("not_allowed", 1008)
            assert "this token is for" in error["message"]


def altered(token: str) -> str:
    """The same token for another room."""
    header, payload, signature = token.split(".")
    claims = json.loads(from_base64(payload))
    return f"{header}.{to_base64(json.dumps({**claims, 'room': 'board'}).encode())}.{signature}"


async def test_what_is_no_good_token_is_refused_with_its_reason(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    token = (await minted(house, own, desk)).token
    assert await refused(house, own, None) == (401, "token_required")
    assert await refused(house, own, "x") == (401, "token_invalid")
    assert await refused(house, own, altered(token)) == (401, "token_invalid")
    both = ["captions.v1", f"bearer.{token}"]
    assert await refused(house, own, token, subprotocols=both) == (401, "token_required")
    elsewhere = (await minted(house, own, desk, network="127.1.0.0/16")).token
    assert await refused(house, own, elsewhere) == (403, "token_address_not_allowed")
    expected = {"token_required", "token_invalid", "token_address_not_allowed"}
    await house.until(lambda: expected <= {entry.reason for entry in entries(house)})


async def test_a_token_in_the_query_is_refused_whatever_it_is(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    token = (await minted(house, own, desk)).token
    for query in (f"?token={token}", f"?access_token={token}", f"?{token}", "?resume=1"):
        assert await refused(house, own, token, query=query) == (400, "query_not_allowed")


async def test_a_token_opens_no_room_and_a_link_no_stream(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    token = (await minted(house, own, desk, room="hall")).token
    result = CliRunner().invoke(app, ["link", "hall", "--state-dir", str(own.store.folder.parent)])
    link = result.stdout.split()[0].partition("#link=")[2]
    assert await refused(house, own, link) == (401, "token_invalid")
    url, tls = stream_url(house).replace("stream", "rooms/hall"), client_context(own.ca)
    async with websockets.connect(url, ssl=tls, subprotocols=["captions.v1"], proxy=None) as socket:
        reader = WireClient(socket)
        await reader.send({"type": "read", "token": token})
        [error] = await reader.rest_or_error()
        assert error["code"] == "not_allowed"


async def test_only_the_holder_of_the_same_name_resumes_a_stream(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    anna = await minted(house, own, desk, name="anna")
    async with shown(house, own, anna.token) as client:
        await client.send(START)
        session = (await client.receive("started"))["session"]
        client.socket.transport.abort()
    await house.until(lambda: house.app._hub.n_detached == 1)
    resume = {"type": "resume", "session": session, "event": 0}
    bob = await minted(house, own, desk, name="bob")
    async with shown(house, own, bob.token, query="?resume") as thief:
        await thief.send(resume)
        assert (await thief.rest_or_error())[-1]["code"] == "unknown_session"
    again = await minted(house, own, desk, name="anna")
    async with shown(house, own, again.token, query="?resume") as client:
        await client.send(resume)
        await client.receive("resumed")
        await client.send(FINISH)
        assert (await client.rest())[-1]["type"] == "finished"


async def test_streams_by_tokens_count_as_their_makers(house: LiveServer, own: Pki, desk: ClientPair) -> None:
    token = (await minted(house, own, desk)).token
    await house.until(lambda: not len(house.app._hub))
    async with shown(house, own, token), shown(house, own, token):
        assert await refused(house, own, token) == (429, "too_many")


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"room": "board"}, 403, "not_allowed"),
        ({"network": "10.0.0.0/8"}, 403, "not_allowed"),
        ({"room": "Hall"}, 400, "bad_request"),
        ({"network": "0.0.0.0/0"}, 400, "bad_request"),
        ({"network": "127.0.0.1/8"}, 400, "bad_request"),
        ({"seconds": 901}, 400, "bad_request"),
        ({"name": "\n"}, 400, "bad_request"),
    ],
)
async def test_what_a_token_must_not_be_is_refused_when_it_is_made(
    wanted: dict[str, Any], status: int, code: str, house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await minted(house, own, desk, **wanted)
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_who_has_not_the_right_makes_none(house: LiveServer, own: Pki) -> None:
    with pytest.raises(ConnectFailed, match="right") as caught:
        await minted(house, own, own.client("plain", "source"))
    assert caught.value.status == 403


def post(server: LiveServer, pki: Pki, pair: ClientPair, method: str, headers: dict[str, str]) -> int:
    context = client_context(pki.ca, pair.cert, pair.key)
    connection = HTTPSConnection("localhost", server.ready.addresses[0][1], context=context, timeout=10)
    connection.request(method, "/v1/tokens", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_neither_a_foreign_page_nor_a_mere_address_makes_a_token(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    assert post(house, own, desk, "GET", {}) == 405
    assert post(house, own, desk, "POST", {"Origin": "https://evil.example"}) == 403
    assert post(house, own, desk, "POST", {}) == 200


async def test_a_server_without_guests_makes_none(server: LiveServer, pki: Pki, source: ClientPair) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await minted(server, pki, source)
    assert (caught.value.status, caught.value.code) == (404, "not_found")


async def test_tokens_and_senders_have_limits(own: Pki, desk: ClientPair) -> None:
    guest = {**GUEST, "tokens_per_minute": 1, "writers_per_address": 1}
    with live_server(own, guest=guest) as server:
        token = (await minted(server, own, desk)).token
        with pytest.raises(ConnectFailed) as caught:
            await minted(server, own, desk)
        assert caught.value.status == 429
        async with shown(server, own, token):
            assert await refused(server, own, token) == (429, "too_many")


async def test_a_stream_ends_with_its_makers_right_and_its_token_cannot_be_used_again(
    tmp_path: Path,
) -> None:
    pki = make_pki(tmp_path)
    policy = tmp_path / "policy.toml"
    rules = POLICY + POLICY[POLICY.index("[[rule]]", 10) :].replace("/desk", "/booth")
    policy.write_text(rules)
    desk, booth = pki.client("desk", "source"), pki.client("booth", "source")
    with live_server(pki, guest=GUEST) as server:
        of_desk = (await minted(server, pki, desk, room="hall")).token
        of_booth = (await minted(server, pki, booth, room="hall")).token
        async with shown(server, pki, of_desk) as by_desk, shown(server, pki, of_booth) as by_booth:
            for client in (by_desk, by_booth):
                await client.send({**START, "room": "hall"}, SPEECH)
                await client.receive("started")
            began_s = time.monotonic()
            pki.revoke(desk)
            policy.write_text(rules.replace('"/source/booth"', '"/source/elsewhere"'))
            for client in (by_desk, by_booth):
                events = await client.rest_or_error()
                assert time.monotonic() - began_s < CUT_WITHIN_S
                assert [event["type"] for event in events][-2:] == ["final", "error"]
                assert (events[-1]["code"], client.socket.close_code) == ("not_allowed", 1008)
        assert await refused(server, pki, of_desk) == (403, "token_revoked")
        assert await refused(server, pki, of_booth) == (403, "token_policy")
        for who, reason in (("desk", "revoked"), ("booth", "policy")):
            await server.until(lambda: any(entry.reason == reason for entry in entries(server)))  # noqa: B023  called in this round only
            [cut] = [entry for entry in entries(server) if entry.reason == reason]
            assert cut.actor is not None
            assert cut.actor.id == f"spiffe://stream-server.local/source/{who}"
            assert "token" in cut.detail


async def test_a_single_token_is_taken_back_with_its_streams_and_without_a_restart(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    lost, kept = [await minted(house, own, desk, room="hall", name=name) for name in ("lost", "kept")]
    async with shown(house, own, lost.token) as by_lost, shown(house, own, kept.token) as by_kept:
        for client in (by_lost, by_kept):
            await client.send({**START, "room": "hall"}, SPEECH)
            await client.receive("started")
        began_s = time.monotonic()
        take_back(own, lost.id)
        events = await by_lost.rest_or_error()
        assert time.monotonic() - began_s < CUT_WITHIN_S
        assert [event["type"] for event in events][-2:] == ["final", "error"]
        assert (events[-1]["code"], by_lost.socket.close_code) == ("not_allowed", 1008)
        assert "taken back" in events[-1]["message"]
        await by_kept.send(FINISH)
        assert (await by_kept.rest())[-1]["type"] == "finished"
    assert await refused(house, own, lost.token) == (403, "token_taken_back")
    async with shown(house, own, kept.token):
        pass
    told = [entry for entry in entries(house) if entry.reason == "taken_back"]
    assert [entry.detail["token"] for entry in told] == [lost.id]
    assert f"token:{lost.id}" in {entry.object for entry in entries(house) if entry.action == "token.revoke"}


async def test_a_damaged_list_of_tokens_taken_back_revives_none(
    house: LiveServer, own: Pki, desk: ClientPair, caplog: pytest.LogCaptureFixture
) -> None:
    token = await minted(house, own, desk)
    take_back(own, token.id)
    known = house.app._revoked_tokens
    await house.until(lambda: token.id in known.ids)
    file = own.store.folder.parent / "guests" / "revoked.json"
    whole = file.read_bytes()
    file.write_text("{")
    await house.until(lambda: "revoked_tokens_unreadable" in caplog.text)
    assert await refused(house, own, token.token) == (403, "token_taken_back")
    file.write_bytes(whole)


def take_back(pki: Pki, token_id: str) -> None:
    state = str(pki.store.folder.parent)
    result = CliRunner().invoke(app, ["token", "--revoke", token_id, "--state-dir", state])
    assert result.exit_code == 0, result.output


async def test_a_stream_does_not_outlast_its_tokens_time(
    house: LiveServer, own: Pki, desk: ClientPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await minted(house, own, desk)).token
    async with shown(house, own, token) as client:
        await client.send(START, SPEECH)
        await client.receive("started")
        later = datetime.now(UTC) + timedelta(seconds=house.config.guest.stream_s)
        monkeypatch.setattr(access, "utc_now", lambda: later)
        async with asyncio.timeout(CUT_WITHIN_S):
            events = await client.rest_or_error()
        assert [event["type"] for event in events][-2:] == ["final", "error"]
        assert events[-1]["code"] == "token_expired"
        assert await refused(house, own, token) == (403, "token_over")


async def test_a_change_of_keys_spoils_nothing_and_needs_no_restart(
    house: LiveServer, own: Pki, desk: ClientPair
) -> None:
    before = (await minted(house, own, desk)).token
    rotate(own, "tokens")
    await house.until(lambda: any(entry.object == "key:tokens" for entry in entries(house)))
    after = (await minted(house, own, desk)).token
    for token in (before, after):
        async with shown(house, own, token) as client:
            await client.send(START, FINISH)
            assert (await client.rest())[-1]["type"] == "finished"
    rotate(own, "tokens", "--void")
    await house.until(lambda: sum(entry.object == "key:tokens" for entry in entries(house)) == 2)
    for token in (before, after):
        assert await refused(house, own, token) == (401, "token_invalid")


def rotate(pki: Pki, *arguments: str) -> None:
    state = str(pki.store.folder.parent)
    result = CliRunner().invoke(app, ["keys", "rotate", *arguments, "--state-dir", state])
    assert result.exit_code == 0, result.output


async def test_the_commands_make_a_token_and_stream_by_it(
    house: LiveServer, own: Pki, desk: ClientPair, tmp_path: Path, recordings: Path
) -> None:
    made = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["token", "hall", "--name", "Kiosk", "--minutes", "5", "--url", house.url,
         "--ca", str(own.ca), "--cert", str(desk.cert), "--key", str(desk.key)],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "in the room hall" in made.stderr
    file = tmp_path / "token"
    file.write_text(made.stdout)
    spoken = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["transcribe", str(recordings / "01.flac"), "--fast", "--json", "--room", "hall",
         "--url", stream_url(house), "--ca", str(own.ca), "--token-file", str(file)],
    )  # fmt: skip
    assert spoken.exit_code == 0, spoken.output
    file.write_text("two words")
    spoken = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["transcribe", str(recordings / "01.flac"), "--url", stream_url(house), "--ca", str(own.ca),
         "--token-file", str(file)],
    )  # fmt: skip
    assert spoken.exit_code == 1
    assert "does not hold one token" in spoken.stderr
