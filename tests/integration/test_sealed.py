"""A server with a sealed model: it serves with the key, and says what is missing without."""

import logging
import secrets
from pathlib import Path

import pytest
from fake_vault import TOKEN, fake_vault
from live_server import LiveServer
from pki import Pki

from stream_server.engine.manifest import WEIGHTS_NAME, embedded_model, read_manifest_text
from stream_server.errors import ModelError
from stream_server.sealing.container import SealedFile, seal
from stream_server.sealing.external import VaultServer, parse_external
from stream_server.sealing.keys import read_secret_key

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The embedded model, sealed; its key lies beside the folder."""
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    folder = tmp_path / "sealed"
    folder.mkdir()
    text = read_manifest_text(embedded_model()).manifest
    seal(embedded_model(), [WEIGHTS_NAME], text, None, [read_secret_key(key)], folder / "model.sealed")
    return folder


def server_with(pki: Pki, sealed: Path, key: str, vault: dict[str, object] | None = None) -> LiveServer:
    engine = {"fake": False, "model": str(sealed), "device": "cpu", "threads": 1}
    return LiveServer(
        pki.store.folder.parent, {"engine": engine, "models": {"key": key}, "vault": vault or {}}
    )


def test_the_engine_has_its_key_helper_ask_vault_and_tells_nobody(
    pki: Pki, sealed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    with fake_vault() as vault:
        lock = parse_external("vault:transit/models", VaultServer(vault.address, "env:VAULT_TOKEN"))
        with SealedFile(sealed / "model.sealed") as file:
            file.rekeyed(read_secret_key(sealed.parent / "key"), [lock], file.path)
        way: dict[str, object] = {"address": vault.address, "token": "env:VAULT_TOKEN"}
        server = server_with(pki, sealed, "vault:transit/models", way)
        server.start()
        assert server.stop() == 0
        assert vault.asked == ["/v1/transit/encrypt/models", "/v1/transit/decrypt/models"]
    assert TOKEN not in caplog.text


def test_the_server_does_not_start_with_another_key(pki: Pki, sealed: Path) -> None:
    wrong = secrets.token_hex(32)
    (sealed.parent / "key").write_text(wrong)
    server = server_with(pki, sealed, str(sealed.parent / "key"))
    with pytest.raises(ModelError, match=r"model\.sealed is not sealed for this key") as caught:
        server.start()
    assert wrong not in repr(caught.value)
