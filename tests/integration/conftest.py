"""Servers that several files of whole-server tests share."""

from collections.abc import Iterator

import pytest
from live_server import LiveServer, live_server
from pki import Pki


@pytest.fixture(scope="module")
def real(pki: Pki) -> Iterator[LiveServer]:
    """A server with the embedded model."""
    with live_server(pki, engine={"fake": False}) as running:
        yield running
