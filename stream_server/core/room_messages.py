"""What a reader and a room say to each other, whatever the wire looks like.

Positions are sample indices at 16 kHz in the stream of the source they belong to; ``unix_s`` is wall
clock time, in seconds since 1970, at which the server published.
"""

import re
from dataclasses import dataclass

SPEAKER_LENGTH_MAX = 64
"""Code points."""

_ROOM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ROOM_RULE = "a room's name is 1 to 63 characters from a-z 0-9 -, and does not begin with -"


def is_room_name(name: str) -> bool:
    """Whether a room may have this name; ``ROOM_RULE`` says it in words."""
    return _ROOM.fullmatch(name) is not None


def is_speaker_name(name: str) -> bool:
    """Whether a source may be shown under this name: printable, and nothing that a screen would swallow."""
    return 0 < len(name) <= SPEAKER_LENGTH_MAX and name.isprintable() and name == name.strip()


# ---------------------------------------------------------------- reader → room


@dataclass(frozen=True, slots=True)
class Read:
    """First message of a reader."""

    life: str | None = None
    """Of the room, from an earlier ``Joined``; None for a newcomer."""
    after: int = 0
    """The last event seen in that life."""
    recent: int | None = None
    """A newcomer gets at most so many earlier events; None is all that are kept."""
    token: str | None = None
    """Of a guest."""


@dataclass(frozen=True, slots=True)
class ReaderAlive:
    """A reader shows that it is there; changes nothing."""


ReaderMessage = Read | ReaderAlive


# ---------------------------------------------------------------- room → reader


@dataclass(frozen=True, slots=True)
class Source:
    """One publishing session of a room."""

    id: str
    """Never used twice in a life of the room."""
    speaker: str


@dataclass(frozen=True, slots=True)
class Joined:
    """Answer to ``Read``: what follows, and who is there."""

    room: str
    life: str
    gap: bool
    """Events between what the reader has seen and ``first`` are gone."""
    first: int
    """Number of the next durable event that this reader gets."""
    last: int
    """Number of the room's last durable event; 0 before the first."""
    sources: tuple[Source, ...]
    """Present after event ``last``."""


@dataclass(frozen=True, slots=True)
class SourceJoined:
    """A source publishes from here on."""

    number: int
    source: Source
    unix_s: float


@dataclass(frozen=True, slots=True)
class SourceLeft:
    """A source has ended."""

    number: int
    source: Source
    unix_s: float


@dataclass(frozen=True, slots=True)
class RoomFinal:
    """What a segment of a source said."""

    number: int
    source: Source
    segment: int
    start: int
    end: int
    text: str
    language: str | None
    utterance_end: bool
    unix_s: float
    model: str | None = None
    """As in ``messages.Partial``."""


@dataclass(frozen=True, slots=True)
class RoomUtterance:
    """The text of several segments of a source, which replaces theirs."""

    number: int
    source: Source
    first_segment: int
    last_segment: int
    start: int
    end: int
    text: str
    language: str | None
    unix_s: float
    model: str | None = None
    """As in ``messages.Partial``."""


@dataclass(frozen=True, slots=True)
class RoomPartial:
    """What the open segment of a source says so far."""

    source: Source
    segment: int
    revision: int
    start: int
    end: int
    text: str
    stable: int
    model: str | None = None
    """As in ``messages.Partial``."""


RoomEvent = Joined | SourceJoined | SourceLeft | RoomFinal | RoomUtterance | RoomPartial
