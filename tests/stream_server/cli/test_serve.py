"""What the operator reads when the server does not start."""

from pathlib import Path

from typer import Typer
from typer.testing import CliRunner

from stream_server.cli.serve import serve


def test_an_error_that_names_a_section_shows_its_brackets(tmp_path: Path) -> None:
    app = Typer()
    app.command()(serve)
    config = tmp_path / "[engine.tiers].toml"
    config.write_text("[engine.tiers]\nlife = 'small'\n")
    result = CliRunner().invoke(app, ["--config", str(config)])
    assert result.exit_code == 1
    assert f"error: {config}: unknown key engine.tiers.life; known here: live" in result.stderr
