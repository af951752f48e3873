"""``stream-server bundle``: everything that a machine without network needs, as one file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.console import Console

from stream_server.bundle import archive, build
from stream_server.bundle.contents import Contents, contents
from stream_server.bundle.wheels import Wheel, read_folder
from stream_server.cli.models_view import Bar, error_console, print_error
from stream_server.config_file import find_config, load_config
from stream_server.errors import BundleError, ConfigError, ModelError
from stream_server.models.store import ModelStore
from stream_server.state_folder import state_dir


def bundle(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the archive.", file_okay=False)
    ] = Path(),
    wheels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Take wheels from this folder: the server's, all that it requires, and pip's. Asks no "
            "index. [default: pip fetches and builds them, which needs a checkout of the sources]",
            show_default=False,
        ),
    ] = None,
    torch: Annotated[
        str | None,
        typer.Option(
            help="Build of torch: cpu, or cuda, which is the index's default and some GB larger.",
            show_default="cpu",
        ),
    ] = None,
    torch_index: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Further package index that has the CPU build of torch, where the usual one has not.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Put this installed model in; may be repeated. demo-en is always there.",
            show_default=False,
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="Sign with this Ed25519 private key (PEM, unencrypted).", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file; else ./stream-server.toml, else /etc/stream-server/config.toml. "
            "offline = true in it refuses to ask an index.",
            show_default=False,
        ),
    ] = None,
    state_dir_option: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            help="Folder with models/; else $STREAM_SERVER_STATE, else ~/.local/share/stream-server.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Write one archive that installs the server on a machine without network.

    It fits machines with the minor version of Python that runs this command and with the same kind of
    processor: run it with the Python of the target. What to do with the archive is printed at the end, and
    stands in its README.txt.
    """
    with _one_line_errors():
        key = None if sign is None else _signing_key(sign)
        store = ModelStore(state_dir(state_dir_option) / "models")
        models = {name: store.find(name) for name in model or []}
        sources = build.find_sources()
        units = None if sources is None else sources / "deploy"
        with TemporaryDirectory(prefix="stream-server-wheels-") as folder:
            if wheels is None:
                _check_online(config)
                _collect(Path(folder), sources, torch or "cpu", torch_index)
            elif torch is not None or torch_index is not None:
                raise BundleError("--wheels takes the torch that lies in its folder: leave --torch* out")
            there = read_folder(wheels or Path(folder))
            _write(output, there, models, units if units is not None and units.is_dir() else None, key)


def _check_online(config: Path | None) -> None:
    path = find_config(config)
    if load_config(path, {}).offline:
        raise ConfigError(
            f"{path} says offline = true: no index may be asked; give a folder with wheels, --wheels DIR"
        )


def _collect(into: Path, sources: Path | None, torch: str, torch_index: str | None) -> None:
    if torch not in ("cpu", "cuda"):
        raise BundleError(f"--torch is cpu or cuda, not {torch}")
    if sources is None:
        raise BundleError(
            "this program was installed without its sources, from which its wheel is built: run bundle in a "
            "checkout (.venv/bin/stream-server bundle), or give a folder with all wheels by --wheels DIR"
        )
    build.collect(into, sources, torch, torch_index)


def _write(
    output: Path,
    wheels: list[Wheel],
    models: dict[str, Path],
    units: Path | None,
    key: Ed25519PrivateKey | None,
) -> None:
    console = error_console()
    with console.status("hashing …"):
        made = contents(wheels, models, units, key)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{made.folder}.tar"
    with Bar() as bar:
        digest = archive.write(
            path, made.folder, made.members, lambda n_done, n_total: bar.show("writing", n_done, n_total)
        )
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    _show(path, digest, made)


def _show(path: Path, digest: str, made: Contents) -> None:
    for wheel in made.unlicensed:
        error_console().print(f"[yellow]no text of the licence in the wheel of[/] {wheel}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{path}  {path.stat().st_size / 1e6:,.0f} MB, {len(made.members)} files", markup=False)
    console.print(f"SHA-256 of the archive     {digest}", markup=False)
    console.print(f"SHA-256 of its SHA256SUMS  {made.sums_sha256()}", markup=False)
    console.print(
        f"\nOn the machine without network, after comparing the first with `sha256sum {path.name}`:\n"
        f"  tar -xf {path.name}\n"
        f"  sudo {made.folder}/install.sh --sums {made.sums_sha256()}",
        markup=False,
    )


def _signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the key.

    Raises:
        BundleError: It is none that can sign; says how to make one.
    """
    advice = f"make one with `openssl genpkey -algorithm ed25519 -out {path.name}`"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as exc:
        raise BundleError(f"--sign {path}: no such file; {advice}") from exc
    except (ValueError, TypeError) as exc:
        raise BundleError(f"--sign {path}: not an unencrypted private key in PEM; {advice}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"--sign {path}: not an Ed25519 key; {advice}")
    return key


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        error_console().print("interrupted; no archive was written")
        raise typer.Exit(130) from None
    except OSError as exc:
        print_error(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))
        raise typer.Exit(1) from exc
    except (BundleError, ConfigError, ModelError) as exc:
        print_error(str(exc))
        raise typer.Exit(1) from exc
