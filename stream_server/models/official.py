"""OpenAI's published checkpoints, as the installed openai-whisper lists them.

Only its tables are read: ``whisper.load_model`` would connect out.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import whisper


@dataclass(frozen=True, slots=True)
class Official:
    """One published checkpoint."""

    name: str
    url: str
    sha256: str
    alignment_heads: str
    """whisper's base85 dump of the heads that align words."""


def official_models() -> dict[str, Official]:
    """All that are published, by every name they have: ``turbo`` is also ``large-v3-turbo``."""
    return {name: _official(name, url) for name, url in whisper._MODELS.items()}


def _official(alias: str, url: str) -> Official:
    # The address is .../SHA256/NAME.pt.
    path = PurePosixPath(urlsplit(url).path)
    return Official(path.stem, url, path.parent.name, whisper._ALIGNMENT_HEADS[alias].decode("ascii"))


def official_by_sha256(sha256: str) -> Official | None:
    """The published checkpoint whose file has this checksum, if any has."""
    found = (model for model in official_models().values() if model.sha256 == sha256)
    return next(found, None)
