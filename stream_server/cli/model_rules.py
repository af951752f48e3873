"""What the operator's configuration says of models, for the configuration of a command's own server."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stream_server.config_file import find_config, load_config
from stream_server.engine.access import model_access
from stream_server.engine.manifest import read_manifest

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file whose [models] and [vault] say who must have signed --model, and what opens it if it "
        "is sealed; nothing else of it counts. [default: as for `serve`]",
        show_default=False,
    ),
]
_SECTIONS = ("models", "vault")


def with_model_rules(own: str, model: Path | None, option: Path | None = None) -> str:
    """The configuration of a server that a command starts, with the rules for models that are in force here.

    Args:
        own: TOML, without the sections ``models`` and ``vault``.
        model: What is to be served; None is the embedded model, a part of the program that no rule concerns.
        option: The operator's configuration; None: where ``serve`` finds it.

    Returns:
        ``own``, and who must have signed models, what opens sealed ones, whether anything may connect out.

    Raises:
        ConfigError: That file cannot be read, or says something that is not allowed.
        ModelError: The model is not signed as it says; found before seconds are spent on starting a server.
    """
    if model is None:
        return own
    config = load_config(find_config(option), {})
    read_manifest(model, model_access(config).trust)
    lines = []
    for name in _SECTIONS:
        values = msgspec.structs.asdict(getattr(config, name))
        # What JSON writes of these types is TOML as well; keys that are not set have no value there.
        given = [f"{key} = {_value(value)}" for key, value in values.items() if value is not None]
        lines += [f"[{name}]", *given]
    return f"offline = {_value(config.offline)}\n{own}\n" + "\n".join(lines) + "\n"


def _value(value: object) -> str:
    # TOML knows no surrogates, by which JSON would escape emoji, and wants DEL escaped, which JSON does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
