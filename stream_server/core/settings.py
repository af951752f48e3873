"""What is the same for all sessions of a server. Values only."""

from dataclasses import dataclass

from stream_server.core.messages import Limits
from vad.config import SegmenterConfig


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a session must know of the model that reads it."""

    name: str
    languages: frozenset[str]
    """Codes it can read."""
    can_translate: bool


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What is the same for all sessions of a server."""

    model: ModelFacts
    limits: Limits
    segmenter: SegmenterConfig
    """For clients that want nothing else; its segment lengths hold for all."""
    features: tuple[str, ...] = ()
    tier: str = "live"
    partial_frames: int = 16
    """Growth of a segment after which a new partial is asked for; 16 frames are 0.512 s."""
    error_drain_s: float = 10.0
    """How long a session that ends by an error waits for its last finals."""
