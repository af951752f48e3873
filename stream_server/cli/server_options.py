"""The options by which commands find a server's configuration and folder."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(help="TOML file; else ./stream-server.toml, else /etc/stream-server/config.toml."),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        help="Folder of the server; else $STREAM_SERVER_STATE, else ~/.local/share/stream-server.",
    ),
]
