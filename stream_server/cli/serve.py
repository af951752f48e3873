"""``stream-server serve``: the server, until it is told to stop."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from stream_server.cli.server_options import ConfigOption
from stream_server.config import Config
from stream_server.config_file import find_config, load_config
from stream_server.errors import ConfigError, ModelError
from stream_server.ops.log import set_up_logging
from stream_server.state_folder import prepare_state, state_dir

if TYPE_CHECKING:
    from stream_server.app import Ready


def serve(
    config: ConfigOption = None,
    state_dir_option: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            help="Folder with certs/ and models/; else $STREAM_SERVER_STATE, "
            "else ~/.local/share/stream-server.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on [default: server.host, 127.0.0.1].")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [default: server.port, 8443].")] = None,
    ops_port: Annotated[
        int | None,
        typer.Option(help="Loopback port of /healthz, /readyz and /metrics without TLS [default: 0, off]."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model folder with manifest.json and model.safetensors, or the name of one in "
            "STATE/models [default: the embedded demo-en]."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda [default: engine.device, auto].")
    ] = None,
    allow_downgrade: Annotated[
        bool | None,
        typer.Option(
            "--allow-downgrade",
            help="On SIGHUP, also take an older version of a model in use.",
            show_default=False,
        ),
    ] = None,
    sessions_per_identity: Annotated[
        int | None, typer.Option(help="Streams that one certificate may have open [default: 4].")
    ] = None,
    connects_per_minute: Annotated[
        int | None, typer.Option(help="Connections that one certificate may open in a minute [default: 10].")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [default: info].")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="json, or text for a person [default: json].")
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Needs certificates in the state folder: make them with `stream-server certs init`, then
    `stream-server certs server NAME` and `stream-server certs client NAME --role source`.
    Flags win over the configuration file. SIGHUP has certificates, policy and models read again. Exit codes:
    0 stopped, 1 wrong configuration, certificates or model, 70 the engine died too often.
    """
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    flags: dict[str, dict[str, object]] = {
        "server": {"host": host, "port": port, "ops_port": ops_port},
        "engine": {"model": model, "device": device, "allow_downgrade": allow_downgrade},
        "limits": {
            "sessions_per_identity": sessions_per_identity,
            "connects_per_minute": connects_per_minute,
        },
        "log": {"level": log_level, "format": log_format},
    }
    try:
        reread = functools.partial(load_config, find_config(config), flags)
        settings = reread()
        set_up_logging(settings.log.level, settings.log.format)
        state = state_dir(state_dir_option)
        prepare_state(state)
        code = _run(settings, state, reread)
    except (ConfigError, ModelError) as exc:
        errors.print("error:", style="red", end=" ")
        # Not as markup: a message that names a [section] would lose it.
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc
    raise typer.Exit(code)


def _run(settings: Config, state: Path, reread: Callable[[], Config]) -> int:
    # torch takes seconds to import: only the command that needs it pays.
    with Console(stderr=True).status("loading the models …"):
        from stream_server import app
    return app.run(settings, state, _show_ready, reread)


def _show_ready(ready: "Ready") -> None:
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for host, port in ready.addresses:
        shown = f"[{host}]" if ":" in host else host
        table.add_row("listening on", f"wss://{shown}:{port}/v1/stream")
    for host, port in ready.guest_addresses:
        shown = f"[{host}]" if ":" in host else host
        table.add_row("guests at", f"https://{shown}:{port}/room/NAME")
    for tier, (name, folder) in ready.models.items():
        table.add_row("model" if len(ready.models) == 1 else f"model, {tier}", f"{name}  ({folder})")
    table.add_row("server certificate", str(ready.tls.cert))
    table.add_row("clients' authority", str(ready.tls.client_ca))
    table.add_row("revocation list", f"{ready.tls.crl}, expires {ready.crl_expires:%Y-%m-%d}")
    console.print(table)
    if any(host in ("0.0.0.0", "::") for host, _ in ready.addresses):  # noqa: S104  a comparison
        console.print("[yellow]listening on every interface; set server.host to one address to narrow it[/]")
    console.print("Ctrl-C stops.")
