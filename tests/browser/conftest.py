"""Browsers, their certificates, and recordings for their microphones."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import readings
import soundfile
from devtools import Chromium, Open, chromium, found, temporary_home, trust
from pki import Pki, make_pki

from certs.identity import Role

PASSPHRASE = "only-for-tests-1234"
POLICIES = Path("/etc/chromium/policies/managed")
RATE = 16_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a browser: `make test-browser` runs it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority of these tests' own."""
    return make_pki(tmp_path_factory.mktemp("browser-state"))


@pytest.fixture(scope="session")
def p12(browser_pki: Pki) -> Callable[[str, str], Path]:
    """Makes a client's file for browsers, as ``certs client NAME --p12`` does."""
    made: dict[tuple[str, str], Path] = {}

    def make(role: str, name: str) -> Path:
        if (role, name) not in made:
            bundle = browser_pki.store.issue_client(Role(role), name, passphrase=PASSPHRASE).p12
            assert bundle is not None
            made[role, name] = bundle
        return made[role, name]

    return make


@pytest.fixture(scope="session")
def chromium_binary() -> Iterator[str]:
    """Chromium, told to send its client certificate unasked: there is nobody to answer its question."""
    binary = found("chromium", "chromium-browser")
    if binary is None:
        pytest.skip("no chromium here; make test-browser installs it, or says how")
    if found("certutil", "pk12util") is None:
        pytest.skip("no certutil and pk12util here: install the Debian package libnss3-tools")
    if os.geteuid() != 0:
        pytest.skip(f"only root may write {POLICIES}, by which Chromium chooses its certificate unasked")
    policy = POLICIES / "stream-server-tests.json"
    POLICIES.mkdir(parents=True, exist_ok=True)
    choice = json.dumps({"pattern": "https://localhost:*", "filter": {}})
    policy.write_text(json.dumps({"AutoSelectCertificateForUrls": [choice]}))
    try:
        yield binary
    finally:
        policy.unlink()


@pytest.fixture(scope="module")
def browser(chromium_binary: str, browser_pki: Pki, p12: Callable[[str, str], Path]) -> Iterator[Open]:
    """Starts a Chromium with a profile of its own; see ``Open``."""
    with ExitStack() as stack:

        def start(role: str = "", name: str = "", *flags: str) -> Chromium:
            home = stack.enter_context(temporary_home())
            trust(home, browser_pki.ca, p12(role, name) if role else None, PASSPHRASE)
            return stack.enter_context(chromium(chromium_binary, home, *flags))

        yield start


@pytest.fixture(scope="session")
def speech(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Four sentences for a microphone that repeats them, and what the embedded model reads of each."""
    chosen = list(readings.read_as_one(recordings).items())[:4]
    assert len(chosen) == 4
    parts = [readings.PAUSE]
    for name, _ in chosen:
        parts += [readings.load(recordings / name), readings.PAUSE]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate(parts), RATE, subtype="PCM_16")
    return path, [caption for _, caption in chosen]
