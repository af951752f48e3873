"""Servers that commands start follow the operator's rules for models."""

import subprocess
import tomllib
from pathlib import Path

import models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.cli.bench import OWN_CONFIG as BENCH_CONFIG
from stream_server.cli.demo import CONFIG as DEMO_CONFIG
from stream_server.cli.demo import Place
from stream_server.cli.evaluate import OWN_CONFIG as EVALUATE_CONFIG
from stream_server.cli.model_rules import _value, with_model_rules
from stream_server.config import ModelsSection, VaultSection
from stream_server.config_file import load_config
from stream_server.errors import ConfigError
from stream_server.sealing.signing import sign

TEXT = st.text(st.characters(exclude_categories=("Cs",)))


@given(st.one_of(TEXT, st.booleans(), st.floats(0.1, 120), st.lists(TEXT)))
def test_what_is_written_is_read_again(value: object) -> None:
    assert tomllib.loads(f"key = {_value(value)}") == {"key": value}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.write_model(
        tmp_path / "ours", models.random_whisper(models.shape(64, 2, n_layer=1)), id="ours"
    )


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    """A private key; ``signer.pub`` lies beside it."""
    key = tmp_path / "signer.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", key.with_suffix(".pub")], check=True)
    return key


@pytest.mark.parametrize("own", [BENCH_CONFIG, DEMO_CONFIG.format(audit='"there"'), EVALUATE_CONFIG])
def test_the_rules_are_added_to_the_commands_own(tmp_path: Path, model: Path, signer: Path, own: str) -> None:
    (model / "manifest.sig").write_bytes(sign((model / "manifest.json").read_bytes(), signer))
    operators, written = tmp_path / "config.toml", tmp_path / "own.toml"
    key = 'pkcs11:object="a"?module-path=/lib/x.so'
    operators.write_text(
        f"offline = true\n[server]\nport = 1\n[models]\nkey = '{key}'\n"
        f'trusted_keys = ["{signer.with_suffix(".pub")}"]\nrequire_signature = true\n'
        '[vault]\ntoken = "env:T"\n'
    )
    written.write_text(with_model_rules(own, model, operators))
    loaded = load_config(written, {})
    assert loaded.offline
    assert loaded.models == ModelsSection(key, (str(signer.with_suffix(".pub")),), require_signature=True)
    assert loaded.vault == VaultSection(token="env:T")
    written.write_text(own)
    assert loaded.limits == load_config(written, {}).limits
    assert loaded.server == load_config(written, {}).server


def test_the_embedded_model_needs_no_rule_and_no_configuration(tmp_path: Path, model: Path) -> None:
    (tmp_path / "config.toml").write_text("nonsense")
    assert with_model_rules(BENCH_CONFIG, None, tmp_path / "config.toml") == BENCH_CONFIG
    with pytest.raises(ConfigError, match=r"config\.toml is not TOML"):
        with_model_rules(BENCH_CONFIG, model, tmp_path / "config.toml")


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_a_model_that_is_not_signed_is_refused_before_a_server_starts(
    command: str, tmp_path: Path, model: Path, signer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_SERVER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(Place, "command", lambda *_: pytest.fail("a server was started"))
    config = tmp_path / "config.toml"
    config.write_text(
        f'[models]\ntrusted_keys = ["{signer.with_suffix(".pub")}"]\nrequire_signature = true\n'
    )
    result = CliRunner().invoke(app, [command, "--model", str(model), "--config", str(config)])
    assert result.exit_code == 1, result.output
    told = result.stderr.replace("\n", " ")
    assert f"{model / 'manifest.json'} is not signed, and [models] require_signature is true" in told
