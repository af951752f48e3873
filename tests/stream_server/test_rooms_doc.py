"""docs/rooms.md names every key of its sections, with its default."""

import json
from pathlib import Path

import msgspec

from stream_server.config import Config

DOCUMENT = (Path(__file__).parents[2] / "docs" / "rooms.md").read_text(encoding="utf-8")


def test_every_key_stands_in_the_table_with_its_default() -> None:
    config = Config()
    for name in ("rooms", "guest"):
        section = getattr(config, name)
        for field in msgspec.structs.fields(section):
            default = getattr(section, field.name)
            if isinstance(default, float):
                default = int(default)
            written = "none" if default is None else json.dumps(default)
            assert f"| `{name}.{field.name}` | {written} |" in DOCUMENT
