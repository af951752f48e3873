"""The policy file: TOML into the rules of ``core/policy.py``, or an error that says where and what.

::

    [[rule]]
    identities = ["/source/board-*"]    # paths of certificates' names; * only at the end
    role = "source"                     # or rights = ["stream", "read"]; [] locks out
    publish = ["board-*"]               # rooms
    read = ["*"]
    networks = ["10.1.0.0/16"]
    sessions = 2
    connects_per_minute = 20
    audio_seconds_per_day = 36000
    token_networks = ["10.2.0.0/16"]    # with the right "mint"
    programs = false                    # browsers only

A file is taken whole or not at all. Errors name rules by number and never quote what is in them, since they
may be logged and identities are people.
"""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from stream_server.config import Config
from stream_server.core.networks import Network, networks
from stream_server.core.policy import DEFAULT_POLICY, ROLES, Policy, Quota, Right, Rule
from stream_server.core.room_messages import ROOM_RULE, is_room_name
from stream_server.errors import ConfigError

FILE_NAME = "policy.toml"
FILE_BYTES_MAX = 4_194_304
"""Some 20,000 rules."""

_IDENTITIES = re.compile(r"(/[A-Za-z0-9._-]{1,128})+(/?\*)?|/\*")
_WHERE = re.compile(r"\$(?:\.rule\[(\d+)\])?\.?(.*)")


class _RuleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[rule]]``."""

    identities: tuple[str, ...]
    role: str | None = None
    rights: tuple[str, ...] | None = None
    publish: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    sessions: int | None = None
    connects_per_minute: int | None = None
    audio_seconds_per_day: int | None = None
    token_networks: tuple[str, ...] = ()
    programs: bool = True


class _PolicyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    rule: tuple[_RuleTable, ...]


class _Mistake(Exception):
    """What is wrong with one rule: the key, and what is allowed there."""


def policy_path(config: Config, state: Path) -> Path | None:
    """The file whose rules are in force, or None for those built in.

    One that is configured must be there; ``STATE/policy.toml`` may be.
    """
    if config.policy.file is not None:
        return Path(config.policy.file)
    path = state / FILE_NAME
    return path if path.exists() else None


def watched_path(config: Config, state: Path) -> Path:
    """The file to look at for changes: the one in force, or the one that may come."""
    return Path(config.policy.file) if config.policy.file is not None else state / FILE_NAME


def policy_in_force(config: Config, state: Path) -> Policy:
    """The rules of the policy file, or those built in if there is none.

    For the start. Whoever reads a file again calls ``load_policy``: one that was there and is gone is a
    mistake, and must not bring the wider rules that are built in.

    Raises:
        ConfigError: As ``load_policy``.
    """
    path = policy_path(config, state)
    return DEFAULT_POLICY if path is None else load_policy(path)


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: The file cannot be read, anybody may change it, or something in it is not allowed; names
            file, rule and key, and what is allowed.
    """
    try:
        table = msgspec.convert(tomllib.loads(_read(path)), _PolicyTable)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{path}: {_explain(str(exc))}") from exc
    except (ValueError, RecursionError) as exc:
        # ValueError: not TOML, not UTF-8, or a number with more digits than Python reads.
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    if not table.rule:
        raise ConfigError(f"{path}: rule: there is none, so nobody could do anything; write a [[rule]]")
    rules: dict[str, tuple[int, Rule]] = {}
    for number, written in enumerate(table.rule, 1):
        try:
            for rule in _rules_of(written):
                if rule.identities in rules:
                    other = rules[rule.identities][0]
                    raise _Mistake(f"identities: one of them stands in rule {other} already; once is allowed")
                rules[rule.identities] = number, rule
        except _Mistake as mistake:
            raise ConfigError(f"{path}: rule {number}: {mistake}") from mistake
    return Policy(tuple(rule for _, rule in rules.values()))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Whoever may write this file may let himself in.
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ConfigError(f"{path} may be changed by every user of this machine: chmod o-w {path}")
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {FILE_BYTES_MAX} bytes; use prefixes to say it shorter")
    return content.decode("utf-8")


def _rules_of(table: _RuleTable) -> Iterator[Rule]:
    """One rule for each pattern.

    Raises:
        _Mistake: A value is not allowed.
    """
    if not table.identities:
        raise _Mistake('identities: there is none; name paths such as "/source/board-301" or "/source/*"')
    _check_texts(
        "identities",
        table.identities,
        lambda text: _IDENTITIES.fullmatch(text) is not None,
        'a path such as "/source/board-301", or a prefix and *',
    )
    rights = _rights_of(table)
    for key, patterns in (("publish", table.publish), ("read", table.read)):
        _check_texts(key, patterns, _is_room_pattern, f"a room, or a prefix and *; {ROOM_RULE}")
    for key, right in (("publish", Right.STREAM), ("read", Right.READ)):
        if getattr(table, key) and right not in rights:
            raise _Mistake(
                f"{key}: is worth nothing without the right {right.value}; add it, or leave {key} out"
            )
    if Right.MINT in rights and Right.STREAM not in rights:
        raise _Mistake("rights: mint is worth nothing without stream, which is what a token lets others do")
    if table.token_networks and Right.MINT not in rights:
        raise _Mistake("token_networks: is worth nothing without the right mint; add it, or leave it out")
    quota = _quota_of(table)
    allowed = _networks_of("networks", table.networks)
    token_networks = _networks_of("token_networks", table.token_networks)
    for pattern in table.identities:
        yield Rule(
            pattern,
            rights,
            table.publish,
            table.read,
            allowed,
            quota,
            token_networks,
            programs=table.programs,
        )


def _networks_of(key: str, texts: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return networks(texts)
    except ValueError as exc:
        raise _Mistake(
            f"{key}: each must be such as 10.1.0.0/16, fd00::/8 or one address,"
            " without bits beyond the prefix"
        ) from exc


def _rights_of(table: _RuleTable) -> frozenset[Right]:
    if (table.role is None) == (table.rights is None):
        raise _Mistake(f"give either role ({', '.join(ROLES)}) or rights; rights = [] locks out")
    if table.role is not None:
        if table.role not in ROLES:
            raise _Mistake(f"role: must be one of {', '.join(ROLES)}")
        return ROLES[table.role]
    known = {right.value: right for right in Right}
    given = table.rights or ()
    for position, name in enumerate(given, 1):
        if name not in known:
            raise _Mistake(f"rights: number {position} must be one of {', '.join(known)}")
    return frozenset(known[name] for name in given)


def _quota_of(table: _RuleTable) -> Quota:
    for key, most in (("sessions", 1_000_000), ("connects_per_minute", 1_000_000)):
        _check_range(key, getattr(table, key), most)
    _check_range("audio_seconds_per_day", table.audio_seconds_per_day, 1_000_000_000)
    return Quota(table.sessions, table.connects_per_minute, table.audio_seconds_per_day)


def _check_range(key: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise _Mistake(f"{key}: must be between 1 and {most}, not {value}; to lock out, set rights = []")


def _is_room_pattern(text: str) -> bool:
    return text == "*" or is_room_name(text.removesuffix("*"))


def _check_texts(key: str, texts: tuple[str, ...], fits: Callable[[str], bool], allowed: str) -> None:
    for position, text in enumerate(texts, 1):
        if not fits(text):
            raise _Mistake(f"{key}: number {position} must be {allowed}")
    if len(set(texts)) < len(texts):
        raise _Mistake(f"{key}: one stands there twice; once is allowed")


def _explain(problem: str) -> str:
    """Turn ``Object contains unknown field `x` - at `$.rule[0]` `` into words that name rule and key."""
    what, _, at = problem.partition(" - at `")
    found = _WHERE.fullmatch(at.rstrip("`") or "$")
    assert found is not None, "msgspec writes paths so"
    number, key = found[1], found[2]
    words = [f"rule {int(number) + 1}"] if number is not None else []
    if "unknown field" in what:
        struct = _PolicyTable if number is None else _RuleTable
        words.append(f"unknown key {what.split('`')[1]}; known here: {', '.join(struct.__struct_fields__)}")
    elif "missing required field" in what:
        name = what.split("`")[1]
        words.append(f"the key {name} is missing" + ("; write a [[rule]]" if name == "rule" else ""))
    else:
        words.append(f"{key}: {what[:1].lower()}{what[1:]}" if key else what)
    return ": ".join(words)
