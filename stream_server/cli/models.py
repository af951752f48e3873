"""``stream-server models``: which models are installed, and how they come and go."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from stream_server.cli.evaluate import CommandError, measure_wer
from stream_server.cli.models_view import (
    COLUMNS,
    Bar,
    details_of,
    error_console,
    print_error,
    print_table,
    row_of,
)
from stream_server.cli.recorded import Detail, recorded
from stream_server.config_file import find_config, load_config
from stream_server.core.audit import AuditAction
from stream_server.engine.access import ModelAccess, model_access
from stream_server.engine.manifest import (
    EMBEDDED_NAME,
    embedded_model,
    is_sealed,
    read_manifest,
    read_manifest_text,
    unsealed_pieces,
    verify_files,
)
from stream_server.errors import ConfigError, ModelError
from stream_server.models.store import ModelStore, folder_bytes
from stream_server.sealing.container import SealedFile
from stream_server.sealing.signing import TrustedKey
from stream_server.state_folder import state_dir

if TYPE_CHECKING:
    from stream_server.models.importing import Gate, Wish
    from stream_server.models.official import Official

EXPECTED = (CommandError, ConfigError, ModelError)
"""What ends a command with one line and no traceback."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with models/; else $STREAM_SERVER_STATE, else ~/.local/share/stream-server.",
        show_default=False,
        file_okay=False,
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="Install it under this name.", show_default=False)]
Version = Annotated[
    str | None, typer.Option("--version", help="Version to give it [default: 1].", show_default=False)
]
Context = Annotated[
    str | None,
    typer.Option(
        help="full: windows padded to 30 s, as Whisper was trained [default]. fit: windows of their own "
        "length; only for a model trained so.",
        show_default=False,
    ),
]
Downgrade = Annotated[
    bool, typer.Option("--allow-downgrade", help="Also replace a version that is newer or the same.")
]
GateFile = Annotated[
    Path | None,
    typer.Option(
        "--gate",
        help="Install it only if it reads the recordings of this manifest well enough; the format is that of "
        "`stream-server evaluate`. Needs --max-wer.",
        show_default=False,
    ),
]
MaxWer = Annotated[
    float | None,
    typer.Option(min=0, help="Highest word error rate that --gate lets in; 0.1 is one word in ten."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_models(state_dir: StateDir = None) -> None:
    """List the installed models and the embedded one."""
    with one_line_errors():
        store = model_store(state_dir)
        table = Table(*COLUMNS)
        for name in [EMBEDDED_NAME, *store.names()]:
            table.add_row(*map(Text, row_of(name, store.find(name))))
        print_table(table)
        waiting = sorted(store.downloads.glob("*.pt"))
        if waiting:
            names = ", ".join(path.stem for path in waiting)
            typer.echo(f"Not complete: {names}; `pull` goes on with them, `remove` discards them.")


@app.command("import")
def import_file(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .pt of openai-whisper; a folder with Hugging Face's model.safetensors and config.json, "
            "or that file; or the folder of a model that is installed elsewhere.",
        ),
    ],
    name: Name = None,
    version: Version = None,
    audio_context: Context = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, as SPDX writes it.", show_default=False)
    ] = None,
    allow_downgrade: Downgrade = False,
    gate: GateFile = None,
    max_wer: MaxWer = None,
    state_dir: StateDir = None,
) -> None:
    """Install the model in a file or folder. Connects nowhere.

    The file is checked, converted once, and takes its place only when it is complete: an interrupted import
    leaves nothing. OpenAI's own files are known by their checksums.
    """
    # torch takes seconds to import: only the commands that need it pay.
    from stream_server.models.importing import Wish

    with one_line_errors():
        wish = Wish(name, version, audio_context, licence, allow_downgrade=allow_downgrade)
        let_in = _gate(gate, max_wer)
        with recorded_model(AuditAction.MODEL_INSTALL, name or source.resolve().name, state_dir) as detail:
            detail |= _install(source, model_store(state_dir), wish, let_in)


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="A model that OpenAI published, such as base.en or large-v3-turbo.")
    ],
    url: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Fetch it from here. [default: where OpenAI published it]",
            show_default=False,
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="Of the file, if it is not one that OpenAI published.", show_default=False),
    ] = None,
    version: Version = None,
    allow_downgrade: Downgrade = False,
    gate: GateFile = None,
    max_wer: MaxWer = None,
    yes: Yes = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file; else ./stream-server.toml, else /etc/stream-server/config.toml. "
            "offline = true in it refuses this command.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Fetch a checkpoint over https and install it. Refused where the configuration says offline = true.

    What has arrived is kept: after a break the same command goes on from there.
    """
    from stream_server.models.importing import Wish
    from stream_server.models.official import official_models

    with one_line_errors():
        _check_online(config)
        official = official_models().get(name)
        name = official.name if official else name
        address, checksum = _wanted(name, official, url, sha256)
        store = model_store(state_dir)
        store.check_place(name, version or "1", allow_downgrade=allow_downgrade)
        wish = Wish(name, version, url=address, allow_downgrade=allow_downgrade)
        let_in = _gate(gate, max_wer)
        with recorded_model(AuditAction.MODEL_INSTALL, name, state_dir, config) as detail:
            detail |= {"host": urlsplit(address).hostname or "", "sha256": checksum}
            file = _fetch(name, address, checksum, store, yes=yes)
            detail |= _install(file, store, wish, let_in)
            file.unlink()


def _check_online(config: Path | None) -> None:
    path = find_config(config)
    if load_config(path, {}).offline:
        raise ConfigError(
            f"{path} says offline = true: nothing may be fetched; bring the file from another machine and "
            "run `stream-server models import FILE`"
        )


def _wanted(name: str, official: "Official | None", url: str | None, sha256: str | None) -> tuple[str, str]:
    """The address and the checksum of what is to be fetched."""
    if official is not None:
        if sha256 is not None and sha256.lower() != official.sha256:
            raise CommandError(f"OpenAI's {name} has the sha256 {official.sha256}; leave --sha256 out")
        return url or official.url, official.sha256
    if url is None or sha256 is None:
        from stream_server.models.official import official_models

        raise CommandError(
            f"OpenAI published no {name}, but {', '.join(official_models())}; "
            "another model needs --from URL and --sha256 HEX"
        )
    return url, sha256.lower()


def _fetch(name: str, url: str, sha256: str, store: ModelStore, *, yes: bool) -> Path:
    from stream_server.models.download import ask_size, check_url, download

    check_url(url)
    n_bytes = ask_size(url)
    with store.changing():
        store.downloads.mkdir(mode=0o700, exist_ok=True)
        file = store.downloads / f"{name}.pt"
        n_here = file.stat().st_size if file.exists() else 0
        size = "of unknown size" if n_bytes is None else f"{n_bytes / 1e6:,.1f} MB"
        already = f", of which {n_here / 1e6:,.1f} MB are here" if n_here else ""
        typer.echo(f"{name} from {urlsplit(url).hostname}: {size}{already}.")
        if not yes:
            typer.confirm("Download?", abort=True)
        # The file, and what it is converted to.
        store.check_room(2 * (n_bytes or 0) - n_here)
        with Bar() as bar:
            download(url, file, sha256, lambda n_done: bar.show("fetching", n_done, n_bytes or n_done))
    return file


def _install(source: Path, store: ModelStore, wish: "Wish", gate: "Gate | None") -> Detail:
    """Install, say so, and return what the audit log tells of it."""
    from stream_server.models.importing import import_model

    with Bar() as bar:
        folder = import_model(source, store, wish, progress=bar.show, gate=gate and bar.pausing(gate))
    manifest = read_manifest(folder)
    typer.echo(f"Installed {folder.name}, version {manifest.version}, in {folder}.")
    typer.echo(f"Next: `stream-server serve --model {folder.name}`")
    return {"installed": folder.name, "version": manifest.version}


def _gate(manifest: Path | None, max_wer: float | None) -> "Gate | None":
    if manifest is None and max_wer is None:
        return None
    if manifest is None or max_wer is None:
        raise CommandError("--gate and --max-wer need each other")

    def check(folder: Path) -> None:
        wer = measure_wer(manifest, folder, error_console())
        if wer > max_wer:
            raise ModelError(
                f"its word error rate on {manifest} is {wer:.1%}, more than {max_wer:.1%}; not installed"
            )
        typer.echo(f"Word error rate on {manifest}: {wer:.1%}.")

    return check


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As `list` shows it.")], state_dir: StateDir = None
) -> None:
    """Show all that is known of a model."""
    with one_line_errors():
        folder = model_store(state_dir).find(name)
        manifest = read_manifest(folder)
        grid = Table.grid(padding=(0, 2))
        for key, value in details_of(name, folder, manifest):
            grid.add_row(key, Text(value, overflow="fold"))
        print_table(grid)


@app.command(short_help="Check a model's files and its signature.")
def verify(
    name: Annotated[
        str | None, typer.Argument(help="As `list` shows it. [default: all of them]", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Where the key of a sealed model lies: a file, env:NAME, credential:NAME, vault:MOUNT/KEY, "
            "or a pkcs11: URI. [default: models.key of the configuration]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file whose [models] says who must have signed; else as for `serve`.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Check every file of a model against its checksum, and its signature against [models] trusted_keys.

    The exit code is 1 if one is damaged, or not signed as it must be. A sealed model needs its key.
    """
    n_damaged = 0
    with one_line_errors():
        access = model_access(load_config(find_config(config), {"models": {"key": key}}))
        store = model_store(state_dir)
        for one in [name] if name else [EMBEDDED_NAME, *store.names()]:
            folder = store.find(one)
            try:
                with Bar() as bar:
                    signer = _verify(folder, bar, access)
                by = "" if signer is None else f", signed by {signer.path}"
                typer.echo(f"{one}: as its manifest says{by}")
            except ModelError as exc:
                n_damaged += 1
                print_error(f"{one}: {exc}")
    raise typer.Exit(1 if n_damaged else 0)


def _verify(folder: Path, bar: Bar, access: ModelAccess) -> TrustedKey | None:
    """Check all of a model; returns who signed it, if that is known."""
    text, n_bytes = read_manifest_text(folder), folder_bytes(folder)
    manifest = read_manifest(folder, access.trust)
    signer = (
        None if folder == embedded_model() else access.trust.check(text.manifest, text.signature, text.path)
    )
    if is_sealed(folder):
        n_done = 0
        with SealedFile(text.path) as sealed:
            for _, piece in unsealed_pieces(sealed, manifest, access.read_key(text.path)):
                n_done += len(piece)
                bar.show("checking the files", n_done, n_bytes)
        return signer
    verify_files(folder, manifest, lambda n_done: bar.show("checking the files", n_done, n_bytes))
    return signer


@app.command(short_help="Remove an installed model.")
def remove(
    name: Annotated[str, typer.Argument(help="As `list` shows it.")],
    yes: Yes = False,
    state_dir: StateDir = None,
) -> None:
    """Remove an installed model, or what has arrived of one that `pull` did not complete.

    A server that has loaded the model keeps running with it, and does not start again without it.
    """
    with one_line_errors():
        store = model_store(state_dir)
        download = store.downloads / f"{name}.pt"
        place = download if name not in store.names() and download.is_file() else store.find(name)
        if name != EMBEDDED_NAME and not yes:
            typer.confirm(f"Remove {place}?", abort=True)
        with recorded_model(AuditAction.MODEL_REMOVE, name, state_dir), store.changing():
            download.unlink() if place == download else store.remove(name)
    typer.echo(f"Removed {place}.")


def model_store(given: Path | None) -> ModelStore:
    """The installed models of a state folder: the option, the variable, or the user's own."""
    return ModelStore(state_dir(given) / "models")


def recorded_model(
    action: AuditAction, model: str, given: Path | None, config: Path | None = None
) -> AbstractContextManager[Detail]:
    """Record what a command does to a model; see ``recorded``."""
    return recorded(action, f"model:{model}", state_dir(given), config)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the command with one line and exit code 1 where something expected went wrong."""
    try:
        yield
    except KeyboardInterrupt:
        error_console().print("interrupted; nothing was installed or removed")
        raise typer.Exit(130) from None
    except OSError as exc:
        print_error(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))
        raise typer.Exit(1) from exc
    except EXPECTED as exc:
        print_error(str(exc))
        raise typer.Exit(1) from exc
