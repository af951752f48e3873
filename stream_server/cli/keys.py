"""``stream-server keys``: have other keys sign, while the server runs."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream_server.cli.recorded import command_log, recorded
from stream_server.cli.server_options import ConfigOption, StateOption
from stream_server.config_file import find_config, load_config
from stream_server.core.audit import AuditAction
from stream_server.core.signed import OVERLAP_S
from stream_server.errors import ConfigError
from stream_server.guest_links import GuestLinks
from stream_server.records.errors import AuditError
from stream_server.records.folder import AuditFolder
from stream_server.records.rotation import RotationTimeout, rotate_audit_key
from stream_server.records.second_place import SecondPlace
from stream_server.state_folder import audit_folders, state_dir

app = typer.Typer(
    help="Change the keys that sign tokens and the audit log, while the server runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Signs(StrEnum):
    """What a key signs."""

    TOKENS = "tokens"
    AUDIT = "audit"


@app.callback()
def _keys() -> None:
    """Change the keys that sign tokens and the audit log, while the server runs."""


@app.command(short_help="Make a new key sign from now on.")
def rotate(
    signs: Annotated[
        Signs, typer.Argument(help="tokens: links and tokens of guests and writers; audit: the audit log.")
    ],
    void: Annotated[
        bool,
        typer.Option(
            "--void", help="tokens only: all links and tokens given so far open nothing any more, at once."
        ),
    ] = False,
    config: ConfigOption = None,
    state_dir_option: StateOption = None,
) -> None:
    """Make a new key sign from now on; the old one's private half is erased.

    What the old key has signed stays good for as long as it would have been. No restart is needed: a server
    that runs takes note within a second. Run it as the server's user, or as root.
    """
    out = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        settings, state = load_config(find_config(config), {}), state_dir(state_dir_option)
        if void and signs is not Signs.TOKENS:
            raise ConfigError("--void is for tokens: what the audit log's old keys signed must stay readable")
        with recorded(AuditAction.KEY_ROTATE, f"key:{signs.value}", state, config) as detail:
            if signs is Signs.TOKENS:
                detail["void"] = int(void)
                _rotate_tokens(state, out, void=void)
            else:
                _rotate_audit(*audit_folders(settings, state), out)
                command_log(state, config).rotate()
    except (ConfigError, AuditError, RotationTimeout) as exc:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print("error:", style="red", end=" ")
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc


def _rotate_tokens(state: Path, out: Console, *, void: bool) -> None:
    keys = GuestLinks(state).rotate(int(time.time()), void=void)
    out.print("another key signs links and tokens")
    if void:
        out.print("all links and tokens given so far are void; streams that are open by writer tokens go on")
    else:
        out.print(
            f"tokens by the key before are good for {OVERLAP_S // 60} min more at most, links until they end;"
            f" {len(keys.retired)} earlier keys still count"
        )


def _rotate_audit(folder: Path, copies: Path | None, out: Console) -> None:
    number = rotate_audit_key(AuditFolder(folder), SecondPlace(copies, _nothing).publish, time.sleep)
    out.print(f"another key signs the audit log, from file {number:06d} on; audit verify follows the change")


def _nothing() -> None:
    """Nobody counts failed copies here; ``SecondPlace`` logs them."""
