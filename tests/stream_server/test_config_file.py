"""Which configuration file is read, and what the command line's flags change of it."""

from pathlib import Path

import pytest

from stream_server import config_file
from stream_server.config import Config
from stream_server.config_file import find_config, load_config
from stream_server.errors import ConfigError


def load(tmp_path: Path, text: str, **flags: dict[str, object]) -> Config:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, flags)


def test_the_file_sets_what_it_names(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[server]\nport = 9000\n[limits]\nidle_s = 5\n[log]\nformat = "text"\n')
    assert (loaded.server.port, loaded.limits.idle_s, loaded.log.format) == (9000, 5.0, "text")
    assert loaded.server.host == Config().server.host


def test_flags_win_over_the_file_and_those_not_given_do_not_count(tmp_path: Path) -> None:
    text = '[server]\nport = 9000\nhost = "::"\n'
    loaded = load(
        tmp_path, text, server={"port": 9001, "host": None}, engine={"model": "m"}, log={"level": None}
    )
    assert (loaded.server.port, loaded.server.host, loaded.engine.model) == (9001, "::", "m")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"x\.toml is not TOML"):
        load_config(tmp_path / "x.toml", {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load_config(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})


@pytest.mark.parametrize("text", [None, "", "[server]\nport = 1"])
def test_a_mistake_in_a_flag_is_not_blamed_on_the_file(tmp_path: Path, text: str | None) -> None:
    flags: dict[str, dict[str, object]] = {"server": {"port": 99_999}}
    with pytest.raises(ConfigError, match="the command line: server: port must be") as caught:
        load_config(None, flags) if text is None else load(tmp_path, text, **flags)
    assert "my.toml" not in str(caught.value)


def test_the_file_is_the_option_then_the_folders_then_the_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    machine = tmp_path / "etc.toml"
    monkeypatch.setattr(config_file, "CONFIG_PATHS", (Path("stream-server.toml"), machine))
    assert find_config(None) is None
    machine.touch()
    assert find_config(None) == machine
    (tmp_path / "stream-server.toml").touch()
    assert find_config(None) == Path("stream-server.toml")
    assert find_config(Path("mine.toml")) == Path("mine.toml")
