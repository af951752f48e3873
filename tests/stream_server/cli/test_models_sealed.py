"""``stream-server models sign | seal | unseal | rekey | verify``, as they are typed."""

import re
import secrets
import subprocess
from pathlib import Path

import models
import pyrage
import pytest
from click.testing import Result
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
    assert re.search(r"kept +sealed, signed", operator.ok("show", "ours"))
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
    assert "rekey" in operator.refused("seal", sealed, "--key-file", key, "--out", tmp_path / "x")
    assert "models unseal" in operator.refused("sign", sealed, "--key", private)
    for command in ("unseal", "rekey"):
        words = ("--out", tmp_path / "x") if command == "unseal" else ("--key-file", key)
        assert "is not sealed" in operator.refused(command, operator.plain, "--key", key, *words)
