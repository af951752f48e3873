"""The native protocol ``captions.v1``: every message and field between rooms and their readers.

What ``schema`` says of text frames and unknown fields holds here, too.
"""

import msgspec

from stream_server.dialects.schema import ClientStruct, KeepAliveMessage

ROOMS_PATH = "/v1/rooms"


# ---------------------------------------------------------------- reader → room


class ReadMessage(ClientStruct, frozen=True, tag="read"):
    """First message: from where to read."""

    life: str | None = None
    """Of `joined`, to go on after a lost connection; null for a newcomer."""
    after: int | None = None
    """The last `event` seen in that life, 0 if none; given exactly when `life` is."""
    recent: int | None = None
    """A newcomer gets at most so many earlier events; null is all that are kept."""
    token: str | None = None
    """Of a guest, from `/v1/guest/token`; for guests only."""


ReaderText = ReadMessage | KeepAliveMessage


# ---------------------------------------------------------------- room → reader


class RoomStruct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what readers get; the same bytes for all of them, hence no `seq`."""


class RoomDurableStruct(RoomStruct, frozen=True, kw_only=True):
    """Base of a room's events that are never dropped."""

    event: int
    """Rises by one with each durable event of the room's life, without gaps."""


class SourceObject(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who publishes."""

    source: str
    """Tells sources apart; never used twice in a life of the room."""
    speaker: str
    """Name to show; two sources may have the same."""


class JoinedEvent(RoomStruct, frozen=True, kw_only=True, tag="joined"):
    """Answer to `read`: the first event, once."""

    room: str
    """Its name."""
    life: str
    """Of the room, 16 hexadecimal digits; another one after the room had vanished."""
    gap: bool
    """True when events between what you have seen and `first` are gone."""
    first: int
    """Number of the next durable event that comes."""
    last: int
    """Number of the room's last durable event; 0 before the first."""
    sources: list[SourceObject]
    """Who is there after event `last`."""


class SourceJoinedEvent(RoomDurableStruct, frozen=True, kw_only=True, tag="source_joined"):
    """Somebody begins to publish."""

    source: str
    """As in `joined.sources`."""
    speaker: str
    """Name to show."""
    time: float
    """When it was published, in seconds since 1970."""


class SourceLeftEvent(RoomDurableStruct, frozen=True, kw_only=True, tag="source_left"):
    """A source has ended; its open `partial` is void."""

    source: str
    """As in `joined.sources`."""
    speaker: str
    """Name to show."""
    time: float
    """When it was published, in seconds since 1970."""


class RoomPartialEvent(RoomStruct, frozen=True, kw_only=True, tag="partial"):
    """What the open segment of a source says so far; each replaces the one before of that source."""

    source: str
    """Who speaks."""
    segment: int
    """Number of the segment in the source's stream."""
    revision: int
    """Rises within the segment; numbers may be left out."""
    start: float
    """Where the segment begins, in seconds of the source's stream."""
    end: float
    """Where what was decoded ends."""
    text: str
    """What it says so far."""
    stable: int
    """Leading Unicode code points of `text`, at a word end, that no later partial of this segment changes."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""


class RoomFinalEvent(RoomDurableStruct, frozen=True, kw_only=True, tag="final"):
    """What a segment of a source said; its text may be empty. The source's open `partial` is void."""

    source: str
    """Who spoke."""
    speaker: str
    """Name to show."""
    segment: int
    """Number of the segment in the source's stream, from 0."""
    start: float
    """Where the segment begins, in seconds of the source's stream."""
    end: float
    """Where it ends."""
    text: str
    """What it says."""
    language: str | None
    """Language the text is in, when the model tells."""
    utterance_end: bool
    """True when the speaker paused after it; false when running speech was cut."""
    time: float
    """When it was published, in seconds since 1970."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""


class RoomUtteranceEvent(RoomDurableStruct, frozen=True, kw_only=True, tag="utterance"):
    """The segments of a source's utterance read once more: the text replaces that of their finals."""

    source: str
    """Who spoke."""
    speaker: str
    """Name to show."""
    first_segment: int
    """Number of the first segment that it replaces."""
    last_segment: int
    """Number of the last one."""
    start: float
    """Where the first segment begins, in seconds of the source's stream."""
    end: float
    """Where the last one ends."""
    text: str
    """What they say; never empty."""
    language: str | None
    """Language the text is in, when the model tells."""
    time: float
    """When it was published, in seconds since 1970."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""


class RoomErrorEvent(RoomStruct, frozen=True, kw_only=True, tag="error"):
    """The last event of a reader that the server turns away."""

    code: str
    """One of the table of errors."""
    message: str
    """What went wrong and what to do, for a person."""


RoomText = (
    JoinedEvent
    | SourceJoinedEvent
    | SourceLeftEvent
    | RoomPartialEvent
    | RoomFinalEvent
    | RoomUtteranceEvent
    | RoomErrorEvent
)
