"""``stream-server policy``: the rules of who may do what, and why somebody may or may not."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from certs.identity import IdentityError, parse_uri
from stream_server.cli.server_options import ConfigOption, StateOption
from stream_server.config import Config
from stream_server.config_file import find_config, load_config
from stream_server.core.networks import contains, networks
from stream_server.core.policy import NO_RULE, Denial, Policy, Right, Rule
from stream_server.core.room_messages import ROOM_RULE, is_room_name
from stream_server.errors import ConfigError
from stream_server.policy_file import FILE_NAME, policy_in_force, policy_path
from stream_server.state_folder import state_dir

COLUMNS = ("identities", "rights", "publish", "read", "networks", "quota")
DENIED = 1
UNUSABLE = 2

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Action(Enum):
    """What somebody may want to do."""

    STREAM = "stream"
    READ = "read"
    PUBLISH = "publish"
    ADMINISTER = "administer"
    MINT = "mint"

    @property
    def right(self) -> Right:
        """What it needs."""
        return Right.STREAM if self is Action.PUBLISH else Right(self.value)


_DEEDS = {
    Action.PUBLISH: "publish in room",
    Action.READ: "read room",
    Action.MINT: "mint tokens for room",
}
"""What may be done with a certain room."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a server with this configuration would go by."""

    config: Config
    policy: Policy
    source: str
    """Where the rules stand, for a person."""


@app.command(short_help="Tell whether an identity may do something, and why.")
def check(
    identity: Annotated[
        str | None,
        typer.Argument(
            help="Path of a certificate's name such as /source/board-301, or the whole name, spiffe://…;"
            " none only checks the file.",
            show_default=False,
        ),
    ] = None,
    action: Annotated[Action, typer.Option(help="What it wants to do.")] = Action.STREAM,
    room: Annotated[
        str | None, typer.Option(help="Room to publish in, to read, or for tokens.", show_default=False)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS", help="IP address it connects from.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    state_dir_option: StateOption = None,
) -> None:
    """Tell whether the policy lets an identity do something, by which rule, and what it would need.

    Exit codes: 0 allowed, 1 denied, 2 the policy, the configuration or an option cannot be used. Whether a
    certificate is valid, and how much of a quota is used, is known to the server alone.
    """
    out = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        rules = _load(config, state_dir_option)
        if identity is None:
            out.print(f"{rules.source}: {len(rules.policy.rules)} rules, all of them usable")
            return
        path, is_ours = _path_of(identity, rules.config.tls.trust_domain)
        _check_options(action, room, address)
    except ConfigError as exc:
        _fail(exc)
    if address is not None and not contains(networks(rules.config.server.networks), address):
        why = "server.networks in the configuration does not hold the address; it is cut off before TLS"
        needed = "add its network to server.networks"
        rule = None
    elif not is_ours:
        why = "the name is of another trust domain"
        needed = f"a certificate of the trust domain {rules.config.tls.trust_domain}"
        rule = None
    else:
        found = rules.policy.rule_for(path)
        rule = None if found is NO_RULE else found
        denial = rules.policy.denial(
            path,
            action.right,
            publish=room if action is Action.PUBLISH else None,
            read=room if action is Action.READ else None,
            address=address,
        )
        if denial is None and action is Action.MINT:
            denial = rules.policy.token_denial(path, room=room)
        why = "" if denial is None else denial.value
        needed = "" if denial is None else _needed(denial, action, path, room, address)
    out.print(f"{identity} {'may not' if why else 'may'} {_deed(action, room, address)}")
    _print_grounds(out, rules, path, rule, why, needed)
    raise typer.Exit(DENIED if why else 0)


@app.command()
def show(config: ConfigOption = None, state_dir_option: StateOption = None) -> None:
    """List the rules in force.

    Of the rules that name an identity the one counts that names it exactly, else the one of the longest
    prefix. An identity that no rule names may do nothing.
    """
    out = Console(highlight=False, markup=False)
    try:
        rules = _load(config, state_dir_option)
    except ConfigError as exc:
        _fail(exc)
    out.print(f"{rules.source}:", soft_wrap=True)
    # What does not fit goes on in the next line: cut off, it would hide what a rule opens.
    columns = [Column(name, overflow="fold") for name in COLUMNS]
    table = Table(*columns, box=None, pad_edge=False)
    for rule in sorted(rules.policy.rules, key=lambda rule: rule.identities):
        table.add_row(
            rule.identities,
            _listed(sorted(right.value for right in rule.rights)),
            _listed(rule.publish),
            _listed(rule.read),
            ", ".join(map(str, rule.networks)) or "every",
            _quota(rule) or "the server's limits",
        )
    out.print(table)


def _load(config: Path | None, state_option: Path | None) -> _Rules:
    settings, state = load_config(find_config(config), {}), state_dir(state_option)
    path = policy_path(settings, state)
    source = f"built-in rules ({state / FILE_NAME} is not there)" if path is None else str(path)
    return _Rules(settings, policy_in_force(settings, state), source)


def _path_of(identity: str, trust_domain: str) -> tuple[str, bool]:
    """An identity's path, and whether it is of this server's trust domain."""
    uri = f"spiffe://{trust_domain}{identity}" if identity.startswith("/") else identity
    try:
        domain, path = parse_uri(uri)
    except IdentityError as exc:
        raise ConfigError(
            f"{identity!r} is no identity: give a path such as /source/board-301, or spiffe://…"
        ) from exc
    return path, domain == trust_domain


def _check_options(action: Action, room: str | None, address: str | None) -> None:
    if room is not None and not is_room_name(room):
        raise ConfigError(f"--room {room!r} cannot be a room: {ROOM_RULE}")
    if room is None and action is Action.PUBLISH:
        raise ConfigError("--action publish needs --room: a right to publish is one for certain rooms")
    if room is not None and action not in _DEEDS:
        raise ConfigError(f"--room says nothing for --action {action.value}; did you mean publish or read?")
    if address is not None:
        try:
            ip_address(address)
        except ValueError as exc:
            raise ConfigError(f"--from {address!r} is no IP address") from exc


def _deed(action: Action, room: str | None, address: str | None) -> str:
    deed = action.value if room is None else f"{_DEEDS[action]} {room}"
    return f"{deed}{'' if address is None else f' from {address}'}"


def _needed(denial: Denial, action: Action, path: str, room: str | None, address: str | None) -> str:
    """What to write into the rule."""
    match denial:
        case Denial.UNKNOWN:
            return f'a rule whose identities hold "{path}" or a prefix of it'
        case Denial.ADDRESS:
            return f'"{address}" or a network around it in the networks of the rule'
        case Denial.RIGHT:
            return f"the right {action.right.value} in the rule"
        case Denial.ROOM:
            key = "read" if action is Action.READ else "publish"
            return f'"{room}" or a prefix of it under {key} in the rule'
        case Denial.NETWORK:
            return "a network around that of the token in the token_networks of the rule"


def _print_grounds(out: Console, rules: _Rules, path: str, rule: Rule | None, why: str, needed: str) -> None:
    if why:
        out.print(f"  why      {why}")
        out.print(f"  needed   {needed}")
    if rule is not None:
        how = "names it exactly" if rule.identities == path else "has the longest prefix of it"
        out.print(f"  rule     {rule.identities}, which {how}")
        out.print(f"  rights   {_listed(sorted(right.value for right in rule.rights))}")
        out.print(f"  publish  {_listed(rule.publish)}")
        out.print(f"  read     {_listed(rule.read)}")
        out.print(f"  networks {', '.join(map(str, rule.networks)) or 'every'}")
        if Right.MINT in rule.rights:
            out.print(f"  tokens   {', '.join(map(str, rule.token_networks)) or 'good in every network'}")
        if not rule.programs:
            out.print("  programs none: browsers only")
        out.print(f"  quota    {_quota(rule) or 'none; limits of the server count'}")
    out.print(f"  source   {rules.source}")


def _quota(rule: Rule) -> str:
    quota = rule.quota
    parts = [
        f"{name} {value}"
        for name, value in (
            ("sessions", quota.sessions),
            ("connects/min", quota.connects_per_minute),
            ("audio s/day", quota.audio_s_per_day),
        )
        if value is not None
    ]
    return ", ".join(parts)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return " ".join(names) or "none"


def _fail(exc: ConfigError) -> NoReturn:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="red", end=" ")
    errors.print(str(exc), markup=False)
    raise typer.Exit(UNUSABLE) from exc
