"""What the operator types to let guests in, and what he is told."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.cli.link import guest_url, parse_lifetime
from stream_server.config_file import load_config
from stream_server.errors import ConfigError
from stream_server.guest_links import GuestLinks


def link(state: Path, *arguments: str, config: str = "") -> Result:
    file = state / "config.toml"
    file.write_text(config)
    return CliRunner().invoke(app, ["link", *arguments, "--state-dir", str(state), "--config", str(file)])


def test_a_link_is_an_address_alone_on_standard_output(tmp_path: Path) -> None:
    config = '[guest]\nenabled = true\nurl = "https://captions.example:8444/"\n'
    result = link(tmp_path, "board-301", "--for", "30m", config=config)
    assert result.exit_code == 0
    [address] = result.stdout.split()
    assert address.startswith("https://captions.example:8444/room/board-301#link=eyJ")
    [made] = GuestLinks(tmp_path).links()
    assert (made.room, made.expires - made.issued) == ("board-301", 1_800)
    assert f"stream-server link --revoke {made.id}" in result.stderr
    assert "off" not in result.stderr


def test_who_has_not_opened_the_listener_is_told(tmp_path: Path) -> None:
    assert "set enabled = true" in link(tmp_path, "hall").stderr


def test_links_are_listed_until_they_are_revoked(tmp_path: Path) -> None:
    assert "no link" in link(tmp_path, "--list").stdout
    link(tmp_path, "hall")
    [made] = GuestLinks(tmp_path).links()
    assert made.id in link(tmp_path, "--list").stdout
    assert "revoked" in link(tmp_path, "--revoke", made.id).stdout
    assert made.id not in link(tmp_path, "--list").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a ROOM"),
        (["hall", "--list"], "give a ROOM"),
        (["Hall"], "a-z 0-9 -"),
        (["hall", "--for", "soon"], "--for soon"),
        (["--revoke", "abc"], "no link abc"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = link(tmp_path, *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert GuestLinks(tmp_path).links() == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("90m", 5_400), ("8h", 28_800), ("31d", 2_678_400)]
)
def test_a_time_is_minutes_hours_or_days(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "0h", "8", "h", "-1h", "1.5h", "32d", "8 h", "1w", "9999999m", "٣h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_lifetime(text)


@pytest.mark.parametrize(
    ("guest", "url"),
    [
        ({}, "https://localhost:8444"),
        ({"host": "0.0.0.0", "port": 9000}, "https://localhost:9000"),
        ({"host": "captions.example"}, "https://captions.example:8444"),
        ({"host": "2001:db8::1"}, "https://[2001:db8::1]:8444"),
        ({"url": "https://c.example/"}, "https://c.example"),
    ],
)
def test_the_address_is_what_visitors_reach(guest: dict[str, object], url: str) -> None:
    assert guest_url(load_config(None, {"guest": guest})) == url
