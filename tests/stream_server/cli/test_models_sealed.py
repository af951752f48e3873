"""``stream-server models sign | seal | unseal | rekey | verify``, as they are typed."""

import os
import re
import secrets
import subprocess
from itertools import pairwise
from pathlib import Path

import models
import pyrage
import pytest
from click.testing import Result
from fake_vault import TOKEN, fake_vault
from soft_token import PIN, make_soft_token
from typer.testing import CliRunner

from stream_server.cli import app


class Operator:
    """Runs the commands with a state folder of its own, and keeps all they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self.plain = models.write_model(
            folder / "ours", models.random_whisper(models.shape(64, 2, n_layer=1)), id="ours"
        )

    def __call__(self, *words: object) -> Result:
        arguments = ["models", *map(str, words), "--state-dir", str(self.folder / "state")]
        result = CliRunner().invoke(app, arguments)
        self.said += result.output + result.stderr
        return result

    def ok(self, *words: object) -> str:
        result = self(*words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *words: object) -> str:
        result = self(*words)
        assert result.exit_code == 1, result.output
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    def key(self, name: str) -> Path:
        path = self.folder / name
        path.write_text(secrets.token_hex(32))
        path.chmod(0o600)
        return path

    def signer(self) -> tuple[Path, Path]:
        private, public = self.folder / "signer.key", self.folder / "signer.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        return private, public


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_signed_sealed_carried_installed_verified_and_unsealed(operator: Operator, tmp_path: Path) -> None:
    key, (private, public) = operator.key("key"), operator.signer()
    operator.ok("sign", operator.plain, "--key", private)
    operator.ok("seal", operator.plain, "--key-file", key, "--out", tmp_path / "carried")
    assert list(content(tmp_path / "carried")) == ["model.sealed"]
    operator.ok("import", tmp_path / "carried", "--name", "ours")
    (tmp_path / "config.toml").write_text(
        f'[models]\nkey = "{key}"\ntrusted_keys = ["{public}"]\nrequire_signature = true\n'
    )
    assert f"ours: as its manifest says, signed by {public}" in operator.ok(
        "verify", "--config", tmp_path / "config.toml"
    )
    assert re.search(r"kept +sealed for keys of the kind secret, signed", operator.ok("show", "ours"))
    operator.ok("unseal", "ours", "--key", key, "--out", tmp_path / "again")
    assert content(tmp_path / "again") == content(operator.plain)
    assert key.read_text() not in operator.said


def test_sealed_for_an_age_recipient(operator: Operator, tmp_path: Path) -> None:
    pair = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{pair}\n")
    (tmp_path / "identity").chmod(0o600)
    operator.ok("seal", operator.plain, "--recipient", pair.to_public(), "--out", tmp_path / "sealed")
    operator.ok("unseal", tmp_path / "sealed", "--key", tmp_path / "identity", "--out", tmp_path / "again")
    assert content(tmp_path / "again") == content(operator.plain)


def test_another_key_opens_it_after_rekey_and_the_old_one_does_not(
    operator: Operator, tmp_path: Path
) -> None:
    old, new = operator.key("old"), operator.key("new")
    sealed = tmp_path / "sealed"
    operator.ok("seal", operator.plain, "--key-file", old, "--out", sealed)
    operator.ok("rekey", sealed, "--key", old, "--key-file", new)
    assert "not sealed for this key" in operator.refused(
        "unseal", sealed, "--key", old, "--out", tmp_path / "no"
    )
    assert not (tmp_path / "no").exists()
    operator.ok("unseal", sealed, "--key", new, "--out", tmp_path / "yes")


def payload(sealed: Path) -> bytes:
    """The encrypted files, at the end: the header is far shorter than what is left out."""
    return (sealed / "model.sealed").read_bytes()[-100_000:]


def test_rekey_goes_from_each_kind_of_key_to_each_other(operator: Operator, tmp_path: Path) -> None:
    pair = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{pair}\n")
    (tmp_path / "identity").chmod(0o600)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    key = operator.key("key")
    uri = make_soft_token(tmp_path).uri()
    sealed, config = tmp_path / "sealed", tmp_path / "config.toml"
    with fake_vault() as vault:
        config.write_text(f'[vault]\naddress = "{vault.address}"\ntoken = "{tmp_path / "token"}"\n')
        kinds: list[tuple[object, tuple[object, ...]]] = [
            (key, ("--key-file", key)),
            ("vault:transit/models", ("--wrap-with", "vault:transit/models")),
            (uri, ("--wrap-with", uri)),
            (tmp_path / "identity", ("--recipient", pair.to_public())),
            (key, ("--key-file", key)),
        ]
        operator.ok("seal", operator.plain, *kinds[0][1], "--out", sealed)
        before = payload(sealed)
        for (old, _), (new, lock) in pairwise(kinds):
            operator.ok("rekey", sealed, "--key", old, *lock, "--config", config)
            if new != key:
                told = operator.refused("rekey", sealed, "--key", key, *lock, "--config", config)
                assert "is not sealed for this key" in told
        assert payload(sealed) == before
        operator.ok("rekey", sealed, "--key", key, "--wrap-with", "vault:transit/models", "--config", config)
        operator.ok(
            "unseal", sealed, "--key", "vault:transit/models", "--out", tmp_path / "again", "--config", config
        )
        assert content(tmp_path / "again") == content(operator.plain)
        # After a rotation the same command wraps with the newest version.
        vault.rotate("transit/models")
        words = ("--key", "vault:transit/models", "--wrap-with", "vault:transit/models", "--config", config)
        operator.ok("rekey", sealed, *words)
    for secret in (TOKEN, PIN, key.read_text(), str(pair)):
        assert secret not in operator.said


def test_rekey_keeps_owner_and_mode_so_that_the_server_still_reads_it(
    operator: Operator, tmp_path: Path
) -> None:
    key, sealed = operator.key("key"), tmp_path / "sealed"
    operator.ok("seal", operator.plain, "--key-file", key, "--out", sealed)
    path = sealed / "model.sealed"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 5678)
    before = path.stat()
    operator.ok("rekey", sealed, "--key", key, "--key-file", operator.key("new"))
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_rekey_that_fails_leaves_the_file_as_it_was(operator: Operator, tmp_path: Path) -> None:
    key, sealed, config = operator.key("key"), tmp_path / "sealed", tmp_path / "config.toml"
    operator.ok("seal", operator.plain, "--key-file", key, "--out", sealed)
    before = content(sealed)
    config.write_text('[vault]\naddress = "http://127.0.0.1:1"\n')
    words = ("--key", key, "--wrap-with", "vault:transit/models", "--config", config)
    told = operator.refused("rekey", sealed, *words)
    assert "vault:transit/models at http://127.0.0.1:1 cannot be reached: Connection refused" in told
    assert content(sealed) == before


def test_offline_refuses_a_key_in_vault(operator: Operator, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('offline = true\n[vault]\naddress = "http://127.0.0.1:1"\n')
    words = ("--wrap-with", "vault:transit/models", "--out", tmp_path / "sealed", "--config", config)
    assert "offline = true" in operator.refused("seal", operator.plain, *words)
    config.write_text(config.read_text() + '[models]\nkey = "vault:transit/models"\n')
    assert "offline = true" in operator.refused("verify", "--config", config)


def test_verify_opens_with_a_key_in_vault(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with fake_vault() as vault:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[vault]\naddress = "{vault.address}"\ntoken = "{tmp_path / "token"}"\n'
            '[models]\nkey = "vault:transit/models"\n'
        )
        words = ("--wrap-with", "vault:transit/models", "--config", config)
        operator.ok("seal", operator.plain, *words, "--out", tmp_path / "sealed")
        operator.ok("import", tmp_path / "sealed", "--name", "ours")
        assert "ours: as its manifest says" in operator.ok("verify", "--config", config)
        vault.is_sealed = True
        told = operator.refused("verify", "ours", "--config", config)
        assert "model.sealed is not opened: Vault at" in told
        assert "`vault operator unseal`" in told


def test_verify_finds_what_was_altered_and_needs_the_key(operator: Operator, tmp_path: Path) -> None:
    key = operator.key("key")
    operator.ok("seal", operator.plain, "--key-file", key, "--out", tmp_path / "sealed")
    operator.ok("import", tmp_path / "sealed", "--name", "ours")
    assert "no key is configured" in operator.refused("verify", "ours")
    operator.ok("verify", "ours", "--key", key)
    path = tmp_path / "state" / "models" / "ours" / "model.sealed"
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1
    path.write_bytes(whole)
    assert f"{path} is truncated or altered" in operator.refused("verify", "ours", "--key", key)


def test_a_damaged_model_is_neither_signed_nor_sealed(operator: Operator, tmp_path: Path) -> None:
    key, (private, _) = operator.key("key"), operator.signer()
    weights = operator.plain / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "truncated or altered" in operator.refused("sign", operator.plain, "--key", private)
    assert "truncated or altered" in operator.refused(
        "seal", operator.plain, "--key-file", key, "--out", tmp_path / "sealed"
    )
    assert not (tmp_path / "sealed").exists()


def test_what_cannot_be_done_says_what_to_do(operator: Operator, tmp_path: Path) -> None:
    key, (private, _) = operator.key("key"), operator.signer()
    sealed = tmp_path / "sealed"
    assert "--recipient" in operator.refused("seal", operator.plain, "--out", sealed)
    operator.ok("seal", operator.plain, "--key-file", key, "--out", sealed)
    assert "already" in operator.refused("seal", operator.plain, "--key-file", key, "--out", sealed)
    told = operator.refused("seal", operator.plain, "--wrap-with", key, "--out", tmp_path / "x")
    assert "a file is --key-file" in told
    told = operator.refused("unseal", sealed, "--key", "vault:transit/models", "--out", tmp_path / "x")
    assert "needs [vault] in the configuration" in told
    assert "rekey" in operator.refused("seal", sealed, "--key-file", key, "--out", tmp_path / "x")
    assert "models unseal" in operator.refused("sign", sealed, "--key", private)
    for command in ("unseal", "rekey"):
        words = ("--out", tmp_path / "x") if command == "unseal" else ("--key-file", key)
        assert "is not sealed" in operator.refused(command, operator.plain, "--key", key, *words)
