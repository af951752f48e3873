import asyncio
import os
import ssl
from http import HTTPStatus
from pathlib import Path

import pytest
from fake_caption_server import Gate, fake_server, silence
from pki import ClientPair, Pki
from server_processes import dies, ignores_sigterm_and_has_a_child, stops_politely
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from certs.tls import client_context
from stream_server.cli import demo_server
from stream_server.cli.demo_server import (
    ServerFailed,
    free_port,
    is_healthy,
    running,
    tail,
    wait_until_healthy,
)


def health(status: HTTPStatus) -> Gate:
    def respond(connection: ServerConnection, request: Request) -> Response | None:
        assert request.path == "/healthz"
        return connection.respond(status, "")

    return respond


async def first_line(log: Path) -> str:
    """What a process wrote first; it has no other way to tell that it is up."""
    return await asyncio.to_thread(_first_line, log)


def _first_line(log: Path) -> str:
    while not (text := log.read_text()).endswith("\n"):
        os.sched_yield()
    return text.splitlines()[0]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only waits to be reaped by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("status", "expected"), [(HTTPStatus.OK, True), (HTTPStatus.SERVICE_UNAVAILABLE, False)]
)
async def test_health_is_the_status_of_healthz(
    pki: Pki, client: ClientPair, status: HTTPStatus, expected: bool
) -> None:
    async with fake_server(pki, client, silence, gate=health(status)) as fake:
        assert await is_healthy(fake.port, fake.tls) is expected


async def test_nobody_there_yet_is_not_healthy(pki: Pki) -> None:
    assert not await is_healthy(free_port(), client_context(pki.ca))


async def test_a_server_that_we_do_not_trust_is_an_error_and_not_waited_for(
    pki: Pki, client: ClientPair, tmp_path: Path
) -> None:
    stranger = client_context(client.cert, client.cert, client.key)
    async with fake_server(pki, client, silence) as fake:
        async with running(stops_politely(tmp_path / "mark"), tmp_path / "log") as process:
            with pytest.raises(ssl.SSLError):
                await wait_until_healthy(process, fake.port, stranger, tmp_path / "log", 60)


async def test_a_server_that_dies_is_reported_with_its_last_words(pki: Pki, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running(dies("first", "the model is missing"), log) as process:
        with pytest.raises(ServerFailed, match="ended with code 3") as caught:
            await wait_until_healthy(process, free_port(), client_context(pki.ca), log, 60)
    assert str(caught.value).endswith("\n  first\n  the model is missing")


async def test_a_server_that_never_gets_ready_is_given_up(pki: Pki, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running(stops_politely(tmp_path / "mark"), log) as process:
        with pytest.raises(ServerFailed, match=r"not ready after 0\.01 s"):
            await wait_until_healthy(process, free_port(), client_context(pki.ca), log, 0.01)


async def test_a_server_is_asked_to_stop_and_gets_to_finish(tmp_path: Path) -> None:
    async with running(stops_politely(tmp_path / "mark"), tmp_path / "log") as process:
        assert await first_line(tmp_path / "log") == "up"
    assert (tmp_path / "mark").exists()
    assert process.returncode == 0


async def test_a_server_that_does_not_stop_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_server, "STOP_S", 0.01)
    async with running(ignores_sigterm_and_has_a_child(), tmp_path / "log") as process:
        child = int(await first_line(tmp_path / "log"))
        assert is_alive(child)
    assert process.returncode == -9
    while is_alive(child):  # the kernel has the signal; it ends in its own time
        await asyncio.to_thread(os.sched_yield)


async def test_a_server_is_stopped_when_what_it_ran_for_fails(tmp_path: Path) -> None:
    async def fail() -> None:
        async with running(stops_politely(tmp_path / "mark"), tmp_path / "log"):
            await first_line(tmp_path / "log")
            raise RuntimeError("no captions")

    with pytest.raises(RuntimeError, match="no captions"):
        await fail()
    assert (tmp_path / "mark").exists()


async def test_a_server_is_stopped_when_the_demo_is_cancelled(tmp_path: Path) -> None:
    up = asyncio.Event()

    async def show() -> None:
        async with running(stops_politely(tmp_path / "mark"), tmp_path / "log"):
            await first_line(tmp_path / "log")
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(show())
    await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "mark").exists()


def test_the_log_is_for_its_owner_only_and_its_tail_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(str(number) for number in range(100)))
    assert tail(log).split() == [str(number) for number in range(88, 100)]
    log.write_text("")
    assert "empty" in tail(log)
