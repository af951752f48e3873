"""What a client and a session say to each other, whatever the wire looks like.

Positions are sample indices at 16 kHz counted from the session's first sample; only a dialect turns
them into seconds or milliseconds.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from stream_server.audio.decoder import AudioFormat
from stream_server.core.hops import Hops
from stream_server.errors import StreamError

SessionId = NewType("SessionId", str)


class Task(Enum):
    """What Whisper is asked to write."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    """Into English, whatever is spoken."""


# ---------------------------------------------------------------- client → session


@dataclass(frozen=True, slots=True)
class Start:
    """First message of a client. Followed by Audio*, Flush*, KeepAlive*, then Finish."""

    audio: AudioFormat
    language: str | None = None
    """Whisper's language code such as ``"de"``; None asks the model."""
    task: Task = Task.TRANSCRIBE
    partials: bool = True
    room: str | None = None
    """Publish the captions there as well."""
    speaker: str | None = None
    """Under this name; None leaves it to the owner of the session."""
    trace: bool = False
    """Whether partials and finals tell where the time went."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Some bytes in the format of ``Start``; a sample may be split over two messages."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """Finalise all audio sent so far, then answer ``Flushed``."""


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes; answered by the last finals and ``Finished``."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Resets the idle timer, nothing else."""


ClientMessage = Start | Audio | Flush | Finish | KeepAlive


# ---------------------------------------------------------------- session → client


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may rely on and must keep to; told in ``Started``."""

    message_bytes: int
    idle_s: float
    ahead_s: float
    """Audio further ahead of decoding than this stops the socket being read."""


@dataclass(frozen=True, slots=True)
class Started:
    """Answer to ``Start``."""

    session: SessionId
    model: str
    limits: Limits
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak at sample ``at``."""

    at: int


@dataclass(frozen=True, slots=True)
class Partial:
    """What the open segment says so far; replaced by the next one."""

    segment: int
    revision: int
    """Rises within the segment."""
    start: int
    end: int
    text: str
    stable: int
    """Leading code points of ``text``, at a word end, that no later partial of the segment changes."""
    hops: Hops | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Final:
    """What a segment said; exactly one for each segment."""

    segment: int
    start: int
    end: int
    text: str
    language: str | None
    utterance_end: bool
    """The speaker paused, or the audio was flushed or finished."""
    hops: Hops | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Flushed:
    """All audio before the ``Flush`` is in finals sent earlier."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Decoding is ``behind`` samples behind what was received, and the socket is not being read."""

    behind: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream that ended well."""

    samples: int
    segments: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a stream that did not."""

    error: StreamError


ServerEvent = Started | SpeechStarted | Partial | Final | Flushed | Lag | Finished | Failed


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its durable number: rises by one per session, None for what is not durable."""

    event: ServerEvent
    number: int | None
