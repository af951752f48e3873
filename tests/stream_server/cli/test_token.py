"""What the operator types to take a token back, and what he is told."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.guest_links import GuestLinks
from stream_server.records.command_log import commands_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import decode

TOKEN = "0123456789ab"


def token(state: Path, *arguments: str) -> Result:
    file = state / "config.toml"
    file.write_text(f'[audit]\nfolder = "{state / "audit"}"\n')
    return CliRunner().invoke(app, ["token", *arguments, "--state-dir", str(state), "--config", str(file)])


def test_a_token_is_taken_back_and_who_did_it_is_recorded(tmp_path: Path) -> None:
    result = token(tmp_path, "--revoke", TOKEN)
    assert result.exit_code == 0, result.output
    assert f"{TOKEN} is taken back" in result.stdout
    assert GuestLinks(tmp_path).changed_revoked_tokens() == {TOKEN}
    commands = commands_in(AuditFolder(tmp_path / "audit"))
    begun, done = (decode(line) for number in commands.numbers() for line in commands.lines(number))
    assert (begun.action, begun.object) == ("command.begin", f"token:{TOKEN}")
    assert (done.action, done.object, done.outcome) == ("token.revoke", f"token:{TOKEN}", "success")
    assert done.actor is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["hall", "--revoke", TOKEN], "a ROOM"), (["--revoke", "hall"], "12 of 0-9 a-f")],
)
def test_a_mistake_is_told_with_what_to_do(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = token(tmp_path, *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "guests" / "revoked.json").exists()
