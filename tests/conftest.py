"""Fixtures for all tests: certificates made per run, servers, and what must not be left behind."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from live_server import LiveServer, live_server
from pki import ClientPair, Pki, make_pki

from stream_server.engine.threads import set_torch_threads

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile(
    "no-clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no-clock")


@pytest.fixture(scope="session", autouse=True)
def _one_core_is_left_to_the_servers() -> None:
    """Models that tests run beside a server must not make it wait for its core."""
    set_torch_threads(0)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A state folder's certificates."""
    return make_pki(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def source(pki: Pki) -> ClientPair:
    """A certificate that may stream."""
    return pki.client("demo", "source")


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[LiveServer]:
    """A server with the deterministic engine."""
    with live_server(pki) as running:
        yield running


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The recordings that the package carries."""
    from importlib import resources

    return Path(str(resources.files("stream_server") / "assets" / "recordings"))


@pytest.fixture(autouse=True)
def _asyncio_stays_quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A warning of asyncio (slow callback, lost task) fails the test that caused it."""
    yield
    loud = [
        record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR
    ]
    assert not loud, loud
    assert asyncio._get_running_loop() is None


@pytest.fixture
def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
