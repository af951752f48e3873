"""What the engine's process is told when it starts, what it says, and by which code it ends. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from stream_server.core.jobs import DecodeResult
from stream_server.core.messages import Tier
from stream_server.core.settings import ModelFacts
from stream_server.engine.access import NO_ACCESS, ModelAccess
from stream_server.engine.faults import Faults


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which models to load and how."""

    models: Mapping[Tier, Path | None]
    """The model folder of each tier, no two the same; None is the deterministic fake of ``engine.fake``."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int
    """Torch threads of the engine's process; 0 is all cores but one."""
    batch_max: int
    """Most windows decoded at once."""
    access: ModelAccess = NO_ACCESS
    """Whose models it may load, and where the key of sealed ones lies."""
    is_beside: bool = False
    """Other models are loaded already and stay for a while, by another process."""
    faults: tuple[Faults, ...] = ()
    """What goes wrong with the live model in the first, second … process; for tests, no configuration reaches
    it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is loaded and warm."""

    facts: ModelFacts
    batch_max: int
    """Jobs that fit in memory at once, as far as the warm-up tells."""
    n_bytes: int
    """Memory that its weights take."""
    sha256: str = ""
    """Of its manifest; the fake engine has none."""


@dataclass(frozen=True, slots=True)
class Ready:
    """All models are loaded."""

    models: Mapping[Tier, Loaded]


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A model cannot be loaded; the message is for the operator."""

    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The answer to one batch."""

    results: list[DecodeResult]
    """In the order and number of its jobs."""
    batch_max: int
    """Jobs of the same tier to send at once from here on."""
    n_out_of_memory: int
    """Times that memory ran out, since the process started."""


class ExitCode(IntEnum):
    """How the engine's process ends by itself; a signal makes it negative, any other error is 1.

    Apart from those of ``sysexits.h``, which the server ends by.
    """

    STOPPED = 0
    OUT_OF_MEMORY = 3
    """Not even one window fits, or the model does not."""
    ACCELERATOR = 4
    """The device reported an error that lasts until the process ends."""
