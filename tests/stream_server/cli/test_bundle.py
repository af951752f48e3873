"""``stream-server bundle``, as it is typed, on a folder of tiny wheels."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner
from wheelhouse import write_house, write_wheel

from stream_server.bundle import build
from stream_server.cli import app
from stream_server.errors import BundleError


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return write_house(tmp_path / "house")


def bundle(folder: Path, *words: object) -> Result:
    state = folder / "state"
    command = ["bundle", "-o", str(folder / "out"), "--state-dir", str(state), *map(str, words)]
    return CliRunner().invoke(app, command)


def test_it_prints_what_to_compare_and_to_type(house: Path, tmp_path: Path) -> None:
    done = bundle(tmp_path, "--wheels", house, "--model", "demo-en")
    assert done.exit_code == 0, done.output
    (archive,) = (tmp_path / "out").glob("*.tar")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"SHA-256 of the archive     {digest}" in done.output
    assert f"tar -xf {archive.name}" in done.output
    subprocess.run(["sha256sum", "-c", f"{archive.name}.sha256"], cwd=tmp_path / "out", check=True)
    subprocess.run(["tar", "-xf", archive.name], cwd=tmp_path / "out", check=True)
    # The last line is the command that the operator types, less the prefix and the root's rights.
    command = done.output.strip().splitlines()[-1].replace("sudo ", "").split()
    checked = subprocess.run([*command, "--check"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert (tmp_path / "out" / archive.stem / "models" / "demo-en" / "model.safetensors").exists()


def test_a_wheel_without_licence_is_said(house: Path, tmp_path: Path) -> None:
    write_wheel(house, "helper", "1.3", licence=None, metadata=())
    done = bundle(tmp_path, "--wheels", house)
    assert done.exit_code == 0
    assert "no text of the licence in the wheel of helper (no licence stated)" in done.output


def write_key(path: Path) -> Path:
    key = generate_private_key(SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_what_cannot_be_done_is_said_in_one_line(house: Path, tmp_path: Path) -> None:
    wrong = [
        (("--wheels", tmp_path / "none"), "is not a folder"),
        (("--wheels", house, "--torch", "cuda"), "leave --torch* out"),
        (("--torch", "rocm"), "--torch is cpu or cuda, not rocm"),
        (("--wheels", house, "--model", "absent"), "no model absent is installed"),
        (
            ("--wheels", house, "--sign", tmp_path / "key.pem"),
            "genpkey -algorithm ed25519 -out key.pem",
        ),
        (("--wheels", house, "--sign", house / "helper-1.2-py3-none-any.whl"), "not an unencrypted private"),
        (("--wheels", house, "--sign", write_key(tmp_path / "ec.pem")), "not an Ed25519 key"),
    ]
    for words, told in wrong:
        done = bundle(tmp_path, *words)
        assert done.exit_code == 1
        assert done.output.startswith("error: ")
        assert told in done.output
        assert not (tmp_path / "out").exists()


def test_an_offline_configuration_allows_no_index_but_a_folder(house: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("offline = true\n")
    done = bundle(tmp_path, "--config", config)
    assert done.exit_code == 1
    assert f"{config} says offline = true" in done.output
    assert bundle(tmp_path, "--config", config, "--wheels", house).exit_code == 0


def test_without_sources_it_says_where_wheels_can_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_sources", lambda: None)
    done = bundle(tmp_path)
    assert done.exit_code == 1
    assert "run bundle in a checkout" in done.output
    assert "--wheels DIR" in done.output


def test_a_pip_that_fails_is_told_with_what_may_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = build.find_sources()
    assert sources is not None
    # No index and no folder: pip finds nothing and says so.
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(build, "_SOURCES", ("pyproject.toml", "README.md", "LICENSE", "certs"))
    with pytest.raises(BundleError, match=r"torch==[0-9.]+\+cpu needs --torch-index or --torch cuda"):
        build.collect(tmp_path, sources, "cpu", None)
