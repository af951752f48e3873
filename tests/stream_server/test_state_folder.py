"""Where a server keeps what is its own."""

from pathlib import Path

import pytest

from stream_server.errors import ConfigError
from stream_server.state_folder import prepare_state, state_dir


def test_the_state_is_where_the_option_says_then_the_variable_then_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STREAM_SERVER_STATE", "/elsewhere")
    assert state_dir(Path("/here")) == Path("/here")
    assert state_dir(None) == Path("/elsewhere")
    monkeypatch.setenv("STREAM_SERVER_STATE", "")
    assert state_dir(None) == tmp_path / ".local/share/stream-server"


def test_the_state_folder_is_made_with_its_parts_for_the_owner_only(tmp_path: Path) -> None:
    prepare_state(tmp_path / "state")
    prepare_state(tmp_path / "state")
    made = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert made == ["audit", "certs", "guests", "models"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "state").iterdir())


def test_a_state_folder_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    with pytest.raises(ConfigError, match=r"state.*--state-dir"):
        prepare_state(tmp_path / "state")
