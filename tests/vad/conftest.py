"""Fixtures of the tests that run the real network."""

import importlib.resources
import os
from pathlib import Path

import pytest

from vad.model import SileroVad


@pytest.fixture(scope="session")
def network() -> SileroVad:
    network = SileroVad()
    network.warm_up()
    return network


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of the included recordings."""
    return Path(str(importlib.resources.files("stream_server") / "assets" / "recordings"))


@pytest.fixture(scope="session")
def human_speech() -> Path:
    """A folder of recorded human speech, which is not part of this repository."""
    folder = os.environ.get("STREAM_SERVER_TEST_AUDIO")
    if not folder:
        pytest.skip("STREAM_SERVER_TEST_AUDIO names no folder of recorded human speech")
    return Path(folder)
