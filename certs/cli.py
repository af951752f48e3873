"""The certificate commands: ``python -m certs``, and a part of ``stream-server``.

A program that embeds ``app`` may put a ``CertsFolder`` into a context (``ctx.obj``) to choose the folder that
is used when ``--dir`` is not given, and a ``Recorder`` to be told of every change. Expected trouble is one
line on standard error and exit status 1.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from certs.authority import CA_DAYS, CLIENT_DAYS, CRL_DAYS, SERVER_DAYS, AuthorityError
from certs.identity import DEFAULT_TRUST_DOMAIN, IdentityError, Role
from certs.index import Entry, Kind
from certs.store import COMMAND, Store, StoreError, default_folder, utc_now
from certs.tls import TlsConfigError, crl_expiry

PASSPHRASE_VARIABLE = "STREAM_SERVER_P12_PASSPHRASE"  # noqa: S105 - the name of the variable, not a secret
_DAYS_MAX = 36500
_TOLD = 50
"""Serial numbers that are recorded of one revocation."""

app = typer.Typer(
    help="Make and revoke the certificates of server and clients.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@dataclass(frozen=True, slots=True)
class CertsFolder:
    """Put into ``ctx.obj`` by a program that embeds ``app``."""

    path: Path


class Deed(Enum):
    """What a command changes."""

    MAKE_AUTHORITY = "make authority"
    ISSUE = "issue"
    REVOKE = "revoke"
    RENEW_CRL = "renew crl"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Put into ``ctx.obj`` by a program that keeps a record of changes."""

    record: Callable[[Path, Deed, str], AbstractContextManager[dict[str, str | int]]]
    """Takes the folder, the deed, and to what it is done; its context lasts for as long as the deed, and is
    given numbers and codes to record beside it. May raise ``typer.Exit`` to prevent the deed."""


Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Folder of the certificates. [default: $STREAM_SERVER_STATE/certs,"
        " else ~/.local/share/stream-server/certs]",
        show_default=False,
        file_okay=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
CrlDays = Annotated[int, typer.Option("--days", min=1, max=_DAYS_MAX, help="Days until the CRL expires.")]


def folder_of(ctx: typer.Context, given: Path | None) -> Path:
    """The folder to use: the option, else what the embedding program chose, else the default."""
    chosen = ctx.find_object(CertsFolder)
    return given or (chosen.path if chosen else default_folder())


@app.command()
def init(
    ctx: typer.Context,
    trust_domain: Annotated[
        str, typer.Option(help="Name of this installation; part of every client's identity.")
    ] = DEFAULT_TRUST_DOMAIN,
    days: Annotated[
        int, typer.Option(min=1, max=_DAYS_MAX, help="Days until the authority expires.")
    ] = CA_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Set an existing authority aside and make a new one.")
    ] = False,
    folder: Dir = None,
) -> None:
    """Make an authority and its empty revocation list (CRL). Once per installation."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors(), _recorded(ctx, store, Deed.MAKE_AUTHORITY, f"authority:{trust_domain}"):
        set_aside = store.init(trust_domain, days=days, force=force)
        expiry = crl_expiry(store.crl)
    if set_aside:
        _say(f"The earlier authority was moved to {set_aside}.")
    _say(f"Made the authority of '{trust_domain}' in {store.folder}.")
    _say(f"Keep {store.ca_key} secret and back the folder up. Servers trust its CRL until {_day(expiry)}.")
    _next(f"{COMMAND} server localhost")


@app.command()
def server(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Host names and IP addresses that clients connect to."),
    ],
    days: Annotated[
        int, typer.Option(min=1, max=_DAYS_MAX, help="Days until the certificate expires.")
    ] = SERVER_DAYS,
    force: Force = False,
    folder: Dir = None,
) -> None:
    """Issue the server's certificate, valid for all names given."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors(), _recorded(ctx, store, Deed.ISSUE, "certificate:server") as detail:
        entry = store.issue_server(names, days=days, force=force)
        detail.update(_facts(entry))
    _say(f"Wrote {store.server_cert} and {store.server_key}, valid until {_day(entry.not_after)}.")
    _next(f"{COMMAND} client NAME --role source")


@app.command()
def client(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A-Z a-z 0-9 . _ - only; one name per person or device.")],
    role: Annotated[
        Role,
        typer.Option(help="source sends speech, reader reads captions, admin runs the server."),
    ],
    days: Annotated[
        int, typer.Option(min=1, max=_DAYS_MAX, help="Days until the certificate expires.")
    ] = CLIENT_DAYS,
    p12: Annotated[
        bool,
        typer.Option(
            "--p12",
            help="Also write a .p12 file for browsers and key chains. Its passphrase is generated and printed"
            f" once, unless --passphrase-file or ${PASSPHRASE_VARIABLE} gives one.",
        ),
    ] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="First line: passphrase of the .p12 file, 12 characters or more.", dir_okay=False),
    ] = None,
    force: Force = False,
    folder: Dir = None,
) -> None:
    """Issue a client's certificate."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors(), _recorded(ctx, store, Deed.ISSUE, f"certificate:{role}-{name}") as detail:
        # Not an option of its own: command lines are seen by every user of the machine and kept in histories.
        given = _first_line(passphrase_file) if passphrase_file else os.environ.get(PASSPHRASE_VARIABLE)
        wanted = (given or _new_passphrase()) if p12 or passphrase_file else None
        files = store.issue_client(role, name, days=days, passphrase=wanted, force=force)
        detail.update(_facts(files.entry))
    _say(f"Wrote {files.cert} and {files.key}, valid until {_day(files.entry.not_after)}.")
    _say(f"Identity: {files.entry.subject}")
    for earlier in files.replaced:
        _say(
            f"An earlier certificate is still valid; revoke it with `{COMMAND} revoke {earlier.serial_hex}`."
        )
    if files.p12:
        _say(f"Wrote {files.p12}; import it into the browser, with {store.ca_cert} as a trusted authority.")
        _say("Its passphrase is the one you gave." if given else f"Its passphrase, shown only now: {wanted}")
    _say(f"Give the client its files and {store.ca_cert}, over a safe channel.")
    _next("stream-server serve")


@app.command(short_help="Revoke certificates, and write the CRL anew.")
def revoke(
    ctx: typer.Context,
    name_or_serial: Annotated[
        str, typer.Argument(metavar="NAME_OR_SERIAL", help="As `show` lists it, e.g. source-demo.")
    ],
    days: CrlDays = CRL_DAYS,
    folder: Dir = None,
) -> None:
    """Revoke every certificate of a client, or the one with a serial number, and write the CRL anew."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors(), _recorded(ctx, store, Deed.REVOKE, f"certificate:{name_or_serial}") as detail:
        revoked = store.revoke(name_or_serial, crl_days=days)
        detail["revoked"] = len(revoked)
        detail["serials"] = " ".join(entry.serial_hex for entry in revoked[:_TOLD])
    for entry in revoked:
        _say(f"Revoked {entry.short_name}, serial {entry.serial_hex}.")
    if not revoked:
        _say(f"{name_or_serial} was revoked before.")
    _say(f"Wrote {store.crl}; servers refuse the client once they have loaded it.")
    _next(f"copy {store.crl} to servers on other machines, then `{COMMAND} show`", is_command=False)


@app.command()
def crl(ctx: typer.Context, days: CrlDays = CRL_DAYS, folder: Dir = None) -> None:
    """Write the CRL anew. Do so before it expires: servers then refuse every client."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors(), _recorded(ctx, store, Deed.RENEW_CRL, "crl") as detail:
        info = store.issue_crl(days=days)
        detail["number"] = info.number
    _say(f"Wrote {store.crl}, number {info.number}, valid until {_day(info.next_update)}.")
    _next(f"copy {store.crl} to servers on other machines, then `{COMMAND} show`", is_command=False)


@app.command()
def show(ctx: typer.Context, folder: Dir = None) -> None:
    """List the authority, its CRL and every certificate it has issued."""
    store = Store(folder_of(ctx, folder))
    with _one_line_errors():
        index = store.read_index()
        ca_not_after, crl_not_after = store.ca_not_after(), crl_expiry(store.crl)
    now = utc_now()
    table = Table("what", "serial", "identity", "expires (UTC)", "state")
    table.add_row("authority", "", index.trust_domain, _day(ca_not_after), _validity(ca_not_after, now))
    table.add_row("crl", str(index.crl.number), "", _day(crl_not_after), _validity(crl_not_after, now))
    for entry in index.entries:
        table.add_row(
            entry.short_name, entry.serial_hex, entry.subject, _day(entry.not_after), _state(entry, now)
        )
    # When not on a terminal rich would cut the columns at 80 characters, and scripts could not read them.
    console = Console()
    console.print(table) if console.is_terminal else Console(width=400).print(table)
    has_server = any(entry.kind is Kind.SERVER for entry in index.entries)
    _next(f"{COMMAND} client NAME --role source" if has_server else f"{COMMAND} server localhost")


@contextmanager
def _recorded(ctx: typer.Context, store: Store, deed: Deed, what: str) -> Iterator[dict[str, str | int]]:
    """Tell the embedding program's recorder, if there is one, what the block does."""
    recorder = ctx.find_object(Recorder)
    if recorder is None:
        yield {}
        return
    with recorder.record(store.folder, deed, what) as detail:
        yield detail


def _facts(entry: Entry) -> dict[str, str | int]:
    return {"serial": entry.serial_hex, "not_after": entry.not_after.isoformat(timespec="seconds")}


def _state(entry: Entry, now: datetime) -> str:
    return f"revoked {_day(entry.revoked_at)}" if entry.revoked_at else _validity(entry.not_after, now)


def _validity(not_after: datetime, now: datetime) -> str:
    return "valid" if not_after > now else "expired"


def _new_passphrase() -> str:
    # 20 of 32 characters are 100 bits, out of reach for guessing even with the weak key derivation of .p12;
    # none of the letters is easily misread.
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read; give a text file with the passphrase") from error
    if not lines:
        raise StoreError(f"{path} is empty; its first line must be the passphrase")
    return lines[0]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _say(line: str) -> None:
    typer.echo(line)


def _next(step: str, *, is_command: bool = True) -> None:
    typer.echo(f"Next: `{step}`" if is_command else f"Next: {step}")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (StoreError, AuthorityError, IdentityError, TlsConfigError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
