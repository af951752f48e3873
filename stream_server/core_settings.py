"""What the configuration says, in the terms of ``core``."""

from stream_server.config import Config
from stream_server.core.admission import AdmissionLimits
from stream_server.core.messages import Limits
from stream_server.core.room_log import RoomLimits
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.dialects.schema import MESSAGE_BYTES_MAX
from vad.audio import FRAME_MS


def session_settings(config: Config, tiers: Tiers) -> SessionSettings:
    """What is the same for all sessions."""
    limits, engine = config.limits, config.engine
    beam_size_max = min(limits.beam_size, engine.batch)
    offered = {"resume": limits.resume_s > 0, "beam": beam_size_max > 1}
    optional = tuple(name for name, is_offered in offered.items() if is_offered)
    return SessionSettings(
        tiers=tiers,
        limits=Limits(MESSAGE_BYTES_MAX, limits.idle_s, limits.ahead_s, limits.resume_s),
        features=("rooms", "revise", "transcript", *optional),
        beam_size_max=beam_size_max,
        segmenter=config.segments.segmenter(),
        context=engine.context,
        early_finals=engine.early_finals,
        sure_word=engine.sure_word,
        partial_frames=round(engine.partial_ms / FRAME_MS),
    )


def source_limits(config: Config) -> AdmissionLimits:
    """How many streams there may be."""
    limits = config.limits
    return AdmissionLimits(
        limits.sessions, limits.sessions_per_identity, limits.connects_per_minute, limits.resumes_per_minute
    )


def room_limits(config: Config) -> RoomLimits:
    """What rooms may hold."""
    rooms = config.rooms
    return RoomLimits(
        rooms=rooms.rooms,
        sources_per_room=rooms.sources_per_room,
        readers_per_room=rooms.readers_per_room,
        history_events=rooms.history_events,
        history_bytes=rooms.history_bytes,
        history_s=rooms.history_s,
        grace_s=rooms.grace_s,
        unread_s=config.limits.unread_s,
    )
