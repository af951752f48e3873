"""``stream-server models sign | seal | unseal | rekey``: models that lie encrypted, and who signed them."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from stream_server.cli.evaluate import CommandError
from stream_server.cli.models import StateDir, model_store, one_line_errors, recorded_model
from stream_server.cli.models_view import Bar
from stream_server.config import Config
from stream_server.config_file import find_config, load_config
from stream_server.core.audit import AuditAction
from stream_server.engine.access import vault_server
from stream_server.engine.manifest import (
    MANIFEST_NAME,
    SEALED_NAME,
    SIGNATURE_NAME,
    is_sealed,
    read_manifest,
    read_manifest_text,
    unsealed_pieces,
    verify_files,
)
from stream_server.errors import ModelError
from stream_server.models.store import is_model_folder
from stream_server.sealing.container import SealedFile, seal
from stream_server.sealing.external import is_external, parse_external
from stream_server.sealing.keys import Key, Lock, parse_recipient, read_key, read_secret_key
from stream_server.sealing.signing import sign

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name that `list` shows, or a model folder anywhere.")
]
KeyPlace = Annotated[
    str,
    typer.Option(
        "--key",
        help="Where the key lies that opens it: a file that only its owner may read, env:NAME, "
        "credential:NAME, vault:MOUNT/KEY, or the pkcs11: URI of a key on a token.",
    ),
]
Recipients = Annotated[
    list[str] | None,
    typer.Option("--recipient", help="Public half of an age key pair, age1…; may be repeated."),
]
KeyFiles = Annotated[
    list[Path] | None,
    typer.Option("--key-file", help="File with a secret key of 64 hexadecimal digits; may be repeated."),
]
External = Annotated[
    list[str] | None,
    typer.Option(
        "--wrap-with",
        help="A key that stays where it is: vault:MOUNT/KEY of Vault's transit engine, or the pkcs11: URI of "
        "an AES key on a token; may be repeated.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file whose [vault] says how Vault is reached; else as for `serve`."),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to ``stream-server models``."""
    app.command("sign", short_help="Vouch for a model by a signature.")(sign_model)
    app.command("seal")(seal_model)
    app.command("unseal")(unseal_model)
    app.command("rekey", short_help="Let other keys than before open a sealed model.")(rekey_model)


def sign_model(
    model: Model,
    key: Annotated[Path, typer.Option("--key", help="PEM of an Ed25519 or P-256 private key.")],
    state_dir: StateDir = None,
) -> None:
    """Vouch for a model: every file is checked, then its manifest is signed.

    Sign before sealing: the signature goes into the sealed file.
    """
    with one_line_errors():
        folder = _folder(model, state_dir)
        if is_sealed(folder):
            raise CommandError(
                f"{folder / SEALED_NAME} is sealed; sign the plain model, then seal it: `models unseal`, "
                "`models sign`, `models seal`"
            )
        with recorded_model(AuditAction.MODEL_SIGN, model, state_dir):
            verify_files(folder, read_manifest(folder))
            signature = sign(read_manifest_text(folder).manifest, key)
            (folder / SIGNATURE_NAME).write_bytes(signature)
    typer.echo(f"Signed {folder}: {SIGNATURE_NAME}.")


def seal_model(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to make, with the sealed model alone in it.")],
    recipient: Recipients = None,
    key_file: KeyFiles = None,
    wrap_with: External = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Encrypt a model for one or more keys. The plain one stays where it is.

    All that it has goes into one file: weights, dimensions, alignment heads, and its signature if it has one.
    The manifest stays readable.
    """
    with one_line_errors():
        locks = _locks(recipient, key_file, wrap_with, load_config(find_config(config), {}))
        folder = _folder(model, state_dir)
        if is_sealed(folder):
            raise CommandError(f"{folder} is sealed already; `models rekey` changes who can open it")
        text = read_manifest_text(folder)
        manifest = read_manifest(folder)
        n_bytes = sum((folder / name).stat().st_size for name in manifest.files if (folder / name).exists())
        with recorded_model(AuditAction.MODEL_SEAL, model, state_dir, config) as detail, Bar() as bar:
            detail["keys"] = len(locks)
            verify_files(folder, manifest, lambda n_done: bar.show("checking the files", n_done, n_bytes))
            _make(out)
            try:
                seal(
                    folder,
                    list(manifest.files),
                    text.manifest,
                    None if text.signature is None else text.signature.decode(),
                    locks,
                    out / SEALED_NAME,
                    lambda n_done: bar.show("sealing", n_done, n_bytes),
                )
            except BaseException:
                out.rmdir()
                raise
    typer.echo(f"Sealed in {out / SEALED_NAME}, {'signed' if text.signature else 'not signed'}.")
    typer.echo(
        f"Next, on the server: `stream-server models import {out}`, and key = … in [models] of its "
        "configuration"
    )


def unseal_model(
    model: Model,
    key: KeyPlace,
    out: Annotated[Path, typer.Option(help="Folder to make, with the plain model.")],
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Decrypt a sealed model to a folder. To serve it, no plain copy is needed."""
    with one_line_errors():
        folder = _sealed(model, state_dir)
        text, manifest = read_manifest_text(folder), read_manifest(folder)
        opener = _key(key, load_config(find_config(config), {}))
        with recorded_model(AuditAction.MODEL_UNSEAL, model, state_dir, config):
            _make(out)
            try:
                _write_plain(folder, opener, out)
            except BaseException:
                shutil.rmtree(out)  # What is there is not known to be whole.
                raise
            if text.signature is not None:
                (out / SIGNATURE_NAME).write_bytes(text.signature)
            # Last: without it the folder is no model.
            (out / MANIFEST_NAME).write_bytes(text.manifest)
    typer.echo(f"Unsealed {manifest.id} in {out}; anyone who can read that folder has the model.")


def rekey_model(
    model: Model,
    key: KeyPlace,
    recipient: Recipients = None,
    key_file: KeyFiles = None,
    wrap_with: External = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Let other keys than before open a sealed model; nothing is encrypted again.

    Old copies of the file still open with the old keys.
    """
    with one_line_errors():
        settings = load_config(find_config(config), {})
        locks = _locks(recipient, key_file, wrap_with, settings)
        folder = _sealed(model, state_dir)
        with (
            recorded_model(AuditAction.MODEL_REKEY, model, state_dir, config) as detail,
            SealedFile(folder / SEALED_NAME) as sealed,
        ):
            detail["keys"] = len(locks)
            sealed.rekeyed(_key(key, settings), locks, sealed.path)
    typer.echo(f"{folder / SEALED_NAME} opens with the given keys, and with no others.")


def _write_plain(folder: Path, key: Key, out: Path) -> None:
    manifest = read_manifest(folder)
    n_bytes, n_done = (folder / SEALED_NAME).stat().st_size, 0
    descriptors: dict[str, int] = {}
    try:
        with Bar() as bar, SealedFile(folder / SEALED_NAME) as sealed:
            for name, piece in unsealed_pieces(sealed, manifest, key):
                if name not in descriptors:
                    if Path(name).name != name or name in (MANIFEST_NAME, SIGNATURE_NAME, SEALED_NAME):
                        raise ModelError(f"{folder / SEALED_NAME} names {name!r}, which no file may have")
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    descriptors[name] = os.open(out / name, flags, 0o600)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(descriptors[name], rest) :]
                n_done += len(piece)
                bar.show("unsealing", n_done, n_bytes)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _locks(
    recipients: list[str] | None, key_files: list[Path] | None, external: list[str] | None, config: Config
) -> list[Lock]:
    locks: list[Lock] = [*map(parse_recipient, recipients or [])]
    locks += map(read_secret_key, key_files or [])
    for reference in external or []:
        if not is_external(reference):
            raise CommandError(
                f"--wrap-with takes vault:MOUNT/KEY or a pkcs11: URI, not {reference}; a file is --key-file"
            )
        locks.append(parse_external(reference, vault_server(config, reference)))
    if not locks:
        raise CommandError(
            "give --key-file FILE (`openssl rand -hex 32 > FILE`), --recipient age1…, or --wrap-with "
            "vault:MOUNT/KEY or pkcs11:…"
        )
    return locks


def _key(reference: str, config: Config) -> Key:
    return read_key(reference, vault_server(config, reference))


def _folder(model: str, state_dir: Path | None) -> Path:
    folder = Path(model)
    return folder if is_model_folder(folder) else model_store(state_dir).find(model)


def _sealed(model: str, state_dir: Path | None) -> Path:
    folder = _folder(model, state_dir)
    if not is_sealed(folder):
        raise CommandError(f"{folder} is not sealed; `models seal` makes a sealed copy of it")
    return folder


def _make(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True)
    except FileExistsError as exc:
        raise CommandError(f"{out} is there already; --out must name a folder to make") from exc
