"""What the engine's process is told when it starts, and what it says when it is ready. Values only."""

from dataclasses import dataclass
from pathlib import Path

from stream_server.core.settings import ModelFacts


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which model to load and how."""

    model: Path | None
    """Model folder; None is the deterministic fake of ``engine.fake``."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int
    """Torch threads of the engine's process; 0 is all cores but one."""
    batch_max: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warm."""

    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded; the message is for the operator."""

    message: str
