"""``stream-server token``: let somebody without a certificate send audio for some minutes."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from certs.tls import TlsConfigError
from stream_server.cli.client_files import (
    CaOption,
    CertOption,
    CertsOption,
    KeyOption,
    NoCertificate,
    client_tls,
)
from stream_server.cli.recorded import recorded
from stream_server.cli.server_options import ConfigOption, StateOption
from stream_server.client import ClientError, MintedToken, mint_token
from stream_server.core.audit import AuditAction
from stream_server.errors import ConfigError
from stream_server.guest_links import GuestLinks
from stream_server.state_folder import state_dir

DEFAULT_URL = "https://localhost:8443"


def token(
    room: Annotated[
        str | None,
        typer.Argument(
            help="The one room in which to publish. [default: none, captions for the sender]",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="From where it may be used, such as 10.1.0.0/16. [default: this machine's address]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the sender, for the room's readers and the audit log.", show_default=False),
    ] = None,
    minutes: Annotated[
        int, typer.Option(min=1, max=15, help="How long connections can be opened with it.")
    ] = 15,
    revoke: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Take a token back, on the server's machine; streams by it are cut off.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="The server.")] = DEFAULT_URL,
    certs: CertsOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    state_dir_option: StateOption = None,
) -> None:
    """Have a token made by which somebody without a certificate sends audio in your place.

    Prints the token alone. Your certificate needs the right `mint` in the server's policy, and the server
    `enabled = true` in the section [guest] of its configuration: tokens are good at that listener only. What
    is sent counts as yours, and ends when your certificate does or loses the right.

    With --revoke, on the server's machine and as its user or root, a token is taken back before its time: it
    opens nothing, and streams by it are cut off. That needs neither a restart nor a certificate.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if revoke is not None:
            if room is not None:
                raise ConfigError("give a ROOM to make a token, or --revoke ID")
            _revoke(revoke, state_dir(state_dir_option), config)
            return
        tls = client_tls(certs or state_dir(state_dir_option) / "certs", ca, cert, key)
        asked = mint_token(url, tls=tls, room=room, network=network, name=name, seconds=60 * minutes)
        _show(asyncio.run(asked), errors)
    except (NoCertificate, TlsConfigError, ClientError, ConfigError) as exc:
        errors.print("error:", style="red", end=" ")
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc


def _revoke(token_id: str, state: Path, config: Path | None) -> None:
    with recorded(AuditAction.TOKEN_REVOKE, f"token:{token_id}", state, config):
        GuestLinks(state).revoke_token(token_id, int(time.time()))
    typer.echo(f"token {token_id} is taken back: it opens nothing, and streams by it are cut off")


def _show(minted: MintedToken, errors: Console) -> None:
    typer.echo(minted.token)
    purpose = "that publish nowhere" if minted.room is None else f"in the room {minted.room}"
    errors.print(
        f"Token {minted.id}: opens streams {purpose}, from {minted.network},"
        f" for {minted.expires_in_seconds // 60} min {minted.expires_in_seconds % 60:02} s."
        f" To take it back, on the server: stream-server token --revoke {minted.id}",
        style="dim",
        markup=False,
    )
