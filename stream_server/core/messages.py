"""What a client and a session say to each other, whatever the wire looks like.

Positions are sample indices at 16 kHz counted from the session's first sample; only a dialect turns
them into seconds or milliseconds.
"""

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NewType

from stream_server.audio.decoder import AudioFormat
from stream_server.core.endpointing import Endpointing
from stream_server.core.hops import Hops
from stream_server.errors import StreamError

SessionId = NewType("SessionId", str)

BEAM_SIZE_MAX = 16
PATIENCE_MAX = 4.0


class Tier(StrEnum):
    """What a model is loaded for; the values are the keys of ``[engine.tiers]``."""

    LIVE = "live"
    FALLBACK = "fallback"
    """A lighter one, which stands in for the first while there is too much to do."""
    FILES = "files"
    """For clients that say that nobody waits for their captions."""


class Task(Enum):
    """What Whisper is asked to write."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    """Into English, whatever is spoken."""


@dataclass(frozen=True, slots=True)
class Word:
    """When a word was said; positions in the session, samples."""

    text: str = field(repr=False)
    """With its punctuation, and with the space before it, if there is one: the words joined are the text."""
    start: int
    end: int
    probability: float | None = None
    """How sure the model is of it, 0 to 1; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """How many texts of a window are followed side by side, with whisper's names and meanings.

    Raises:
        ValueError: A value is out of its bounds; says which.
    """

    size: int
    """Texts followed, 1 to ``BEAM_SIZE_MAX``; each takes a row of a batch."""
    patience: float = 1.0
    """A window ends when ``size`` times this many texts have ended, above 0 to ``PATIENCE_MAX``."""
    length_penalty: float | None = None
    """Power by which longer texts are favoured, 0 to 1 (Wu et al. 2016); None: the mean of a token counts."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 1 <= self.size <= BEAM_SIZE_MAX:
            raise ValueError(f"size must be between 1 and {BEAM_SIZE_MAX}, not {self.size}")
        # Written so that NaN is refused too.
        if not 0 < self.patience <= PATIENCE_MAX:
            raise ValueError(f"patience must be above 0 and at most {PATIENCE_MAX:g}, not {self.patience:g}")
        if self.ended_max == 0:
            raise ValueError(
                f"patience {self.patience:g} of size {self.size} lets no text end; it must be above "
                f"{0.5 / self.size:g}"
            )
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise ValueError(f"length_penalty must be between 0 and 1, not {self.length_penalty:g}")

    @property
    def ended_max(self) -> int:
        """Texts that have ended, at which the window ends."""
        return round(self.size * self.patience)


# ---------------------------------------------------------------- client → session


@dataclass(frozen=True, slots=True)
class Start:
    """First message of a client. Followed by Audio*, Flush*, KeepAlive*, then Finish."""

    audio: AudioFormat
    language: str | None = None
    """Whisper's language code such as ``"de"``; None asks the model."""
    task: Task = Task.TRANSCRIBE
    partials: bool = True
    tentative: bool = False
    """Whether partials show more than what is stable."""
    revise: bool = False
    """Whether utterances of several segments are decoded once more, see ``core.second_look``."""
    transcript: bool = False
    """Whether ``Finished`` carries the whole text."""
    trace: bool = False
    """Whether partials and finals tell where the time went."""
    room: str | None = None
    """Publish the captions there as well."""
    speaker: str | None = None
    """Under this name; None leaves it to the owner of the session."""
    endpointing: Endpointing | None = None
    """Where utterances end; None leaves it to the server."""
    words: bool = False
    """Whether finals tell when each word was said."""
    context: bool | None = None
    """Whether each final is read on from those before; None leaves it to the server."""
    beam: BeamSearch | None = None
    """How finals are searched for; None takes the likeliest token after the other."""
    tier: Tier = Tier.LIVE
    """Which of the server's models is wanted, live or files."""


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
"""What a session understands."""


@dataclass(frozen=True, slots=True)
class Resume:
    """First message of a client that goes on with a session after a lost connection; for the hub."""

    session: SessionId
    event: int
    """The number of the last durable event seen, 0 for none."""


# ---------------------------------------------------------------- session → client


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may rely on and must keep to; told in ``Started``."""

    message_bytes: int
    idle_s: float
    ahead_s: float
    """Audio further ahead of decoding than this stops the socket being read."""
    resume_s: float = 0.0
    """How long a session outlives its connection; 0 where it does not."""


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
    model: str | None = None
    """The lighter one that read it; None is the one of ``Started``."""
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
    words: tuple[Word, ...] | None = None
    """Of the text; None unless the client asked."""
    model: str | None = None
    """As in ``Partial``."""
    hops: Hops | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Utterance:
    """The text of consecutive segments of one utterance, decoded once more together: it replaces theirs."""

    first_segment: int
    last_segment: int
    start: int
    end: int
    text: str
    language: str | None
    words: tuple[Word, ...] | None = None
    """Of the text; None unless the client asked."""
    model: str | None = None
    """As in ``Final``."""


@dataclass(frozen=True, slots=True)
class Flushed:
    """All audio before the ``Flush`` is in finals sent earlier."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Decoding is ``behind`` samples behind what was received, and the socket is not being read."""

    behind: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the client should know; the stream goes on."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The samples accepted for good: a lost connection does not lose them.

    Counted at the client's rate, one of every channel once: that is what the client has to keep.
    """

    samples: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Answer to ``Resume``; the durable events that the client has not seen follow."""

    session: SessionId
    samples: int
    """As in ``Ack``: the client sends again from this one on."""
    flushes: int
    """How many ``Flush`` were accepted; the client sends later ones again."""
    closing: bool
    """Nothing more is accepted: ``Finish`` was, or the session ends by an error."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a whole stream."""

    text: str
    """A line for each utterance."""
    first_segment: int
    """Of the text; above 0 where its beginning was left out for its length."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream that ended well."""

    samples: int
    segments: int
    transcript: Transcript | None = None
    """None unless the client asked."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a stream that did not."""

    error: StreamError


Durable = Started | SpeechStarted | Final | Utterance | Flushed | Finished | Failed
"""What is numbered, kept for a client that comes back, and never dropped."""
Transient = Partial | Lag | Warned | Ack | Resumed
"""What is not durable: a client that missed it misses nothing."""
ServerEvent = Durable | Transient


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its durable number: rises by one per session, None for what is not durable."""

    event: ServerEvent
    number: int | None
