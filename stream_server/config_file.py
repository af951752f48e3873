"""The configuration as an operator writes it: one TOML file and the command line's flags, read once at start.

The file is ``--config FILE``, else ``./stream-server.toml``, else ``/etc/stream-server/config.toml``,
else nothing. Flags win over the file. Every error names the file and the key.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stream_server.config import Config
from stream_server.errors import ConfigError

CONFIG_PATHS = (Path("stream-server.toml"), Path("/etc/stream-server/config.toml"))


def find_config(option: Path | None) -> Path | None:
    """The configuration file to read: the option, or the first of ``CONFIG_PATHS`` that exists."""
    if option is not None:
        return option
    return next((path for path in CONFIG_PATHS if path.is_file()), None)


def load_config(path: Path | None, flags: Mapping[str, Mapping[str, object]]) -> Config:
    """Read the file and lay the flags over it.

    Args:
        path: TOML file; None for defaults only.
        flags: Section → key → value; None values are flags not given.

    Raises:
        ConfigError: The file cannot be read, or a key or value is not allowed; names file and key.
    """
    values = _read_toml(path) if path is not None else {}
    config = _convert(values, str(path))
    given = {section: _given(keys) for section, keys in flags.items() if _given(keys)}
    if not given:
        return config
    for section, keys in given.items():
        values[section] = {**values.get(section, {}), **keys}
    return _convert(values, "the command line")


def _given(keys: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in keys.items() if value is not None}


def _convert(values: dict[str, Any], source: str) -> Config:  # TOML is any value until it is converted
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{source}: {_explain(str(exc))}") from exc


def _read_toml(path: Path) -> dict[str, Any]:  # TOML is any value until it is converted
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        # ValueError: not TOML, not UTF-8, or a number with more digits than Python reads.
        raise ConfigError(f"{path} is not TOML: {exc}") from exc


def _explain(problem: str) -> str:
    """Turn ``Object contains unknown field `x` - at `$.limits` `` into words that name the key."""
    what, _, where = problem.partition(" - at `$")
    section = where.rstrip("`").lstrip(".").strip()
    if what.startswith("Object contains unknown field"):
        key = what.split("`")[1]
        return f"unknown key {f'{section}.{key}' if section else key}; known here: {_known(section)}"
    return f"{section}: {what[:1].lower()}{what[1:]}" if section else what


def _known(section: str) -> str:
    struct: msgspec.Struct = Config()
    for name in filter(None, section.split(".")):
        struct = getattr(struct, name)
    return ", ".join(struct.__struct_fields__)
