"""What the operator types to have other keys sign, and what he is told."""

import os
from pathlib import Path

import pytest
from audit_logs import Log
from click.testing import Result
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.guest_links import GuestLinks
from stream_server.records.command_log import commands_in
from stream_server.records.line import decode
from stream_server.records.verify import Integrity, verify


def keys(state: Path, *arguments: str, config: str = "") -> Result:
    file = state / "config.toml"
    file.write_text(config)
    return CliRunner().invoke(app, ["keys", *arguments, "--state-dir", str(state), "--config", str(file)])


def test_another_key_signs_tokens(tmp_path: Path) -> None:
    before = GuestLinks(tmp_path).keys()
    result = keys(tmp_path, "rotate", "tokens")
    assert result.exit_code == 0, result.output
    assert "16 min more" in result.stdout
    after = GuestLinks(tmp_path).keys()
    assert after.names[0] != before.names[0]
    assert after.names[1][0] == before.names[0][0]


def test_who_had_another_key_sign_is_recorded(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.fill(1)
    config = f'[audit]\nfolder = "{log.folder.path}"\n'
    for signs in ("tokens", "audit"):
        assert keys(tmp_path, "rotate", signs, config=config).exit_code == 0
    assert keys(tmp_path, "rotate", "tokens", "--void", config=config).exit_code == 0
    commands = commands_in(log.folder)
    entries = [decode(line) for number in commands.numbers() for line in commands.lines(number)]
    done = [entry for entry in entries if entry.action == "key.rotate" and entry.actor is not None]
    assert [entry.object for entry in done] == ["key:tokens", "key:audit", "key:tokens"]
    assert len(commands.numbers()) == 2
    assert verify(commands).integrity is Integrity.INTACT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write files for others")
def test_what_root_writes_belongs_to_the_servers_user(tmp_path: Path) -> None:
    folder = tmp_path / "guests"
    folder.mkdir()
    os.chown(folder, 12_345, 12_345)
    assert keys(tmp_path, "rotate", "tokens").exit_code == 0
    assert {path.stat().st_uid for path in folder.iterdir()} == {12_345}


def test_all_that_was_signed_can_be_made_void(tmp_path: Path) -> None:
    GuestLinks(tmp_path).keys()
    assert "void" in keys(tmp_path, "rotate", "tokens", "--void").stdout
    assert len(GuestLinks(tmp_path).keys().names) == 1


def test_another_key_signs_the_audit_log_and_its_second_place_follows(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.fill(2)
    config = f'[audit]\nfolder = "{log.folder.path}"\ncheckpoint_folder = "{log.second.path}"\n'
    result = keys(tmp_path, "rotate", "audit", config=config)
    assert result.exit_code == 0, result.output
    *before, newest = log.folder.numbers()
    assert f"from file {newest:06} on" in result.stdout
    assert verify(log.folder, log.second).integrity is Integrity.INTACT
    assert log.second.note_numbers() == before != []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["audit"], "no audit log here"), (["audit", "--void"], "--void is for tokens")],
)
def test_a_mistake_is_told(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = keys(tmp_path, "rotate", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
