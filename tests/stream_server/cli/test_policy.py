"""What the operator is told about who may do what."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stream_server.cli import app

RULES = """
[[rule]]
identities = ["/source/*"]
role = "source"
publish = ["board-*"]
networks = ["10.1.0.0/16"]
sessions = 2

[[rule]]
identities = ["/source/board-13"]
rights = []
programs = false

[[rule]]
identities = ["/source/desk"]
rights = ["stream", "mint"]
publish = ["hall"]
token_networks = ["10.3.0.0/16"]
"""


def policy(state: Path, *arguments: str, rules: str | None = RULES, config: str = "") -> Result:
    if rules is not None:
        (state / "policy.toml").write_text(rules)
    file = state / "config.toml"
    file.write_text(config)
    return CliRunner().invoke(app, ["policy", *arguments, "--state-dir", str(state), "--config", str(file)])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["/source/a"], 0, ["/source/a may stream", "/source/*, which has the longest prefix", "sessions 2"]),
        (["spiffe://stream-server.local/source/a"], 0, ["may stream"]),
        (["spiffe://elsewhere/source/a"], 1, ["may not stream", "trust domain stream-server.local"]),
        (
            ["/source/board-13"],
            1,
            ["may not stream", "the right stream", "names it exactly", "browsers only"],
        ),
        (["/reader/a", "--action", "read"], 1, ["may not read", "no rule names", '"/reader/a"']),
        (["/source/a", "--from", "10.1.2.3"], 0, ["from 10.1.2.3"]),
        (["/source/a", "--from", "10.2.2.3"], 1, ["this address", "10.1.0.0/16", '"10.2.2.3"']),
        (["/source/a", "--action", "publish", "--room", "board-1"], 0, ["may publish in room board-1"]),
        (["/source/a", "--action", "publish", "--room", "hall"], 1, ["room", '"hall"', "under publish"]),
        (["/source/a", "--action", "read", "--room", "hall"], 1, ["under read"]),
        (["/source/desk", "--action", "mint"], 0, ["may mint", "tokens   10.3.0.0/16"]),
        (["/source/desk", "--action", "mint", "--room", "hall"], 0, ["may mint tokens for room hall"]),
        (["/source/desk", "--action", "mint", "--room", "board-1"], 1, ['"board-1"', "under publish"]),
        (["/source/a", "--action", "mint"], 1, ["the right mint"]),
        (["/source/a", "--action", "administer"], 1, ["the right administer"]),
    ],
)
def test_a_decision_is_explained(
    arguments: list[str], exit_code: int, words: list[str], tmp_path: Path
) -> None:
    result = policy(tmp_path, "check", *arguments)
    assert result.exit_code == exit_code, result.output
    assert not [word for word in words if word not in result.stdout], result.stdout
    assert str(tmp_path / "policy.toml") in result.stdout


def test_an_address_outside_the_servers_networks_does_not_even_get_tls(tmp_path: Path) -> None:
    config = '[server]\nnetworks = ["10.1.2.0/24"]\n'
    result = policy(tmp_path, "check", "/source/a", "--from", "10.1.3.1", config=config)
    assert result.exit_code == 1
    assert "server.networks" in result.stdout
    assert policy(tmp_path, "check", "/source/a", "--from", "10.1.2.1", config=config).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source/a"], ["'source/a' is no identity", "/source/board-301"]),
        (["/source/a", "--action", "publish"], ["needs --room"]),
        (["/source/a", "--room", "hall"], ["--room says nothing"]),
        (["/source/a", "--action", "read", "--room", "Hall"], ["'Hall' cannot be a room"]),
        (["/source/a", "--from", "here"], ["--from 'here'"]),
    ],
)
def test_a_wrong_question_is_told_and_is_no_denial(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    result = policy(tmp_path, "check", *arguments)
    assert result.exit_code == 2
    assert not [word for word in words if word not in result.stderr], result.stderr


def test_a_file_is_checked_without_a_question(tmp_path: Path) -> None:
    result = policy(tmp_path, "check")
    assert (result.exit_code, "3 rules" in result.stdout) == (0, True)
    result = policy(tmp_path, "check", rules=RULES + "x = 1\n")
    assert (result.exit_code, "rule 3: unknown key x" in result.stderr) == (2, True)


def test_the_rules_are_shown_whole(tmp_path: Path) -> None:
    result = policy(tmp_path, "show")
    assert result.exit_code == 0
    for word in ("/source/*", "/source/board-13", "board-*", "10.1.0.0/16", "sessions 2"):
        assert word in result.stdout


def test_built_in_rules_are_shown_and_named_as_such(tmp_path: Path) -> None:
    shown = policy(tmp_path, "show", rules=None)
    assert "built-in rules" in shown.stdout
    assert "/admin/*" in shown.stdout
    assert policy(tmp_path, "check", "/reader/a", "--action", "read", rules=None).exit_code == 0


def test_what_cannot_be_read_ends_show_too(tmp_path: Path) -> None:
    result = policy(tmp_path, "show", config='[policy]\nfile = "/nowhere/rules.toml"')
    assert (result.exit_code, "/nowhere/rules.toml cannot be read" in result.stderr) == (2, True)
