"""``stream-server link``: let people without a certificate read one room for a time."""

import re
import time
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stream_server.cli.recorded import recorded
from stream_server.cli.server_options import ConfigOption, StateOption
from stream_server.config import Config
from stream_server.config_file import find_config, load_config
from stream_server.core.audit import AuditAction
from stream_server.core.guests import Link, sign_link
from stream_server.core.room_messages import ROOM_RULE, is_room_name
from stream_server.errors import ConfigError
from stream_server.guest_links import GuestLinks
from stream_server.state_folder import state_dir

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
LIFETIME_S_MAX = 31 * _SECONDS["d"]


def link(
    room: Annotated[
        str | None, typer.Argument(help="Room that may be read, such as board-301.", show_default=False)
    ] = None,
    lifetime: Annotated[
        str, typer.Option("--for", help="How long: 30m, 8h or 2d; 31d at most.", metavar="TIME")
    ] = "8h",
    show: Annotated[bool, typer.Option("--list", help="List the links that are in force.")] = False,
    revoke: Annotated[
        str | None,
        typer.Option(metavar="ID", help="End a link; who reads by it is cut off.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    state_dir_option: StateOption = None,
) -> None:
    """Make a link by which guests, without a certificate, read one room.

    Whoever has the link may read the room until it ends: give it to those only who may. The server needs
    `enabled = true` in the section [guest] of its configuration, and takes links in and out while it runs.
    """
    out = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    now_s = int(time.time())
    try:
        if [room is not None, show, revoke is not None].count(True) != 1:
            raise ConfigError("give a ROOM to make a link, or --list, or --revoke ID")
        settings = load_config(find_config(config), {})
        state = state_dir(state_dir_option)
        links = GuestLinks(state)
        if room is not None:
            _check_room(room)
            lifetime_s = parse_lifetime(lifetime)
            with recorded(AuditAction.LINK_MAKE, f"room:{room}", state, config) as detail:
                made = links.add(room, lifetime_s, now_s)
                detail |= {"link": made.id, "lifetime_s": lifetime_s}
            _show_made(links, made, settings, out, errors)
        elif revoke is not None:
            with recorded(AuditAction.LINK_REVOKE, f"link:{revoke}", state, config):
                ended = links.revoke(revoke)
            out.print(f"link {ended.id} to {ended.room} is revoked; who reads by it is cut off")
        else:
            _list(links, now_s, out)
    except ConfigError as exc:
        errors.print("error:", style="red", end=" ")
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc


def _check_room(room: str) -> None:
    if not is_room_name(room):
        raise ConfigError(f"{room!r} cannot be a room: {ROOM_RULE}")


def _show_made(links: GuestLinks, made: Link, settings: Config, out: Console, errors: Console) -> None:
    out.print(
        f"{guest_url(settings)}/room/{made.room}#link={sign_link(links.keys().current, made)}", markup=False
    )
    errors.print(
        f"Whoever has this address may read the room {made.room} until {_moment(made.expires)}."
        f" To end it before: stream-server link --revoke {made.id}",
        style="dim",
    )
    if not settings.guest.enabled:
        errors.print(
            "The guest listener is off: set enabled = true in the section [guest] of the configuration.",
            style="yellow",
            markup=False,
        )
    elif settings.guest.url is None:
        errors.print(
            "If visitors reach the server under another address, set guest.url in the configuration.",
            style="yellow",
        )


def parse_lifetime(text: str) -> int:
    """Seconds of ``30m``, ``8h`` or ``2d``.

    Raises:
        ConfigError: Another form, or too long.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LIFETIME_S_MAX:
        raise ConfigError(f"--for {text} is no time: give such as 30m, 8h or 2d; 31d at most")
    return seconds


def guest_url(settings: Config) -> str:
    """How visitors reach the guest listener, without a slash at the end."""
    guest = settings.guest
    if guest.url is not None:
        return guest.url.rstrip("/")
    is_local = guest.host in ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104  a comparison
    host = "localhost" if is_local else guest.host
    return f"https://{f'[{host}]' if ':' in host else host}:{guest.port}"


def _list(links: GuestLinks, now_s: int, out: Console) -> None:
    in_force = [one for one in links.links() if one.expires > now_s and not one.revoked]
    if not in_force:
        out.print("no link is in force")
        return
    table = Table("id", "room", "made", "ends", box=None, pad_edge=False)
    for one in sorted(in_force, key=_end):
        table.add_row(one.id, one.room, _moment(one.issued), _moment(one.expires))
    out.print(table)


def _end(one: Link) -> int:
    return one.expires


def _moment(unix_s: int) -> str:
    """Local time, to the minute."""
    return f"{datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M}"
