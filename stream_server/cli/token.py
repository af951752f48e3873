"""``stream-server token``: let somebody without a certificate send audio for some minutes."""

import asyncio
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
from stream_server.client import ClientError, mint_token
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
    url: Annotated[str, typer.Option(help="The server.")] = DEFAULT_URL,
    certs: CertsOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Have a token made by which somebody without a certificate sends audio in your place.

    Prints the token alone. Your certificate needs the right `mint` in the server's policy, and the server
    `enabled = true` in the section [guest] of its configuration: tokens are good at that listener only. What
    is sent counts as yours, and ends when your certificate does or loses the right.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        tls = client_tls(certs or state_dir(None) / "certs", ca, cert, key)
        asked = mint_token(url, tls=tls, room=room, network=network, name=name, seconds=60 * minutes)
        minted = asyncio.run(asked)
    except (NoCertificate, TlsConfigError, ClientError) as exc:
        errors.print("error:", style="red", end=" ")
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc
    typer.echo(minted.token)
    purpose = "that publish nowhere" if minted.room is None else f"in the room {minted.room}"
    errors.print(
        f"Token {minted.id}: opens streams {purpose}, from {minted.network},"
        f" for {minted.expires_in_seconds // 60} min {minted.expires_in_seconds % 60:02} s.",
        style="dim",
        markup=False,
    )
