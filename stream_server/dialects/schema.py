"""The native protocol ``captions.v1``: every message and field of streams; those of rooms, ``room_schema``.

The server, the Python client, ``docs/protocol.md`` (checked by a test) and the golden vectors in
``tests/vectors`` all read these files. Text frames are JSON objects tagged by ``type``; binary frames
are audio. Times are seconds from the session's first sample, rounded to three decimals.

The server refuses fields it does not know. Clients must ignore events and fields they do not know:
the event structs here, which the Python client decodes with, do.
"""

import msgspec

SUBPROTOCOL = "captions.v1"
BEARER_PREFIX = "bearer."
"""Before a writer token that a browser offers among the subprotocols."""
PATH = "/v1/stream"
RESUME_QUERY = "resume"
"""A client that will send ``resume`` opens ``/v1/stream?resume``: its session has a place already."""

MESSAGE_BYTES_MAX = 64 * 1024
"""One message, text or binary."""


# ---------------------------------------------------------------- client → server


class ClientStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what a client sends as text."""


class EndpointingObject(ClientStruct, frozen=True):
    """Where utterances end. What is not given is the preset's, and without a preset the server's."""

    preset: str | None = None
    """`captions`, `dictation`, `telephone` or `conference-room`."""
    silence_ms: float | None = None
    """Silence that ends an utterance of up to 2 s, 64 to 5000 ms."""
    silence_ms_min: float | None = None
    """Silence that ends an utterance of 5 s or more, 64 to `silence_ms`; in between it shrinks evenly."""
    speech_threshold: float | None = None
    """Probability of speech from which an utterance begins, 0.05 to 0.95."""


class BeamObject(ClientStruct, frozen=True):
    """How finals are searched for."""

    size: int
    """Texts followed side by side, 1 to 16, and at most what the server allows."""
    patience: float = 1.0
    """A window ends when `size` times so many texts have ended, above 0 to 4."""
    length_penalty: float | None = None
    """Power by which longer texts are favoured, 0 to 1; null compares the means of their tokens."""


class StartMessage(ClientStruct, frozen=True, tag="start"):
    """First message: what the audio is, and what is wanted of it."""

    encoding: str = "pcm_s16le"
    """`pcm_s16le`, `pcm_f32le`, `mulaw` or `alaw`."""
    sample_rate: int = 16000
    """Hz, 8000 to 48000."""
    channels: int = 1
    """1, or 2 interleaved, which are mixed down."""
    language: str | None = None
    """Language code such as `"de"`; null lets the model decide."""
    task: str = "transcribe"
    """`transcribe`, or `translate` into English."""
    partials: bool = True
    """Whether `partial` events are wanted."""
    tentative: bool = False
    """Whether `partial` shows words, too, that a later one may change."""
    trace: bool = False
    """Whether `partial` and `final` tell where the time went."""
    words: bool = False
    """Whether `final` tells when each word was said; offered where `started.features` has `words`."""
    context: bool | None = None
    """Whether each `final` is read on from the text of those before; null leaves it to the server."""
    beam: BeamObject | None = None
    """Beam search for finals, see below; offered where `started.features` has `beam`."""
    tier: str = "live"
    """`live`, or `files` for recordings that nobody waits for: a server may have another model for them."""
    revise: bool = False
    """Whether utterances of several segments are read once more as a whole, see `utterance`."""
    transcript: bool = False
    """Whether `finished` carries the text of the whole stream."""
    room: str | None = None
    """Publish the captions in the room of this name."""
    speaker: str | None = None
    """Name shown to the room's readers; null takes the certificate's. Only with `room`."""
    endpointing: EndpointingObject | None = None
    """Where utterances end, see below; null leaves it to the server."""
    hotwords: list[str] | None = None
    """Reserved: names and terms to prefer."""
    prompt: str | None = None
    """Reserved: text that came before."""


class FlushMessage(ClientStruct, frozen=True, tag="flush"):
    """Finalise all audio sent so far; answered by `flushed` after the finals."""


class FinishMessage(ClientStruct, frozen=True, tag="finish"):
    """No more audio; answered by the last finals, `finished` and close 1000."""


class KeepAliveMessage(ClientStruct, frozen=True, tag="keepalive"):
    """Resets the idle timer while there is no audio to send."""


class ResumeMessage(ClientStruct, frozen=True, tag="resume"):
    """First message instead of `start`: go on with a session after a lost connection."""

    session: str
    """The session of `started`."""
    event: int
    """The last `event` number seen; 0 if none was."""


ClientText = StartMessage | FlushMessage | FinishMessage | KeepAliveMessage | ResumeMessage


# ---------------------------------------------------------------- server → client


class ServerStruct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every event."""

    seq: int
    """Rises by one with each event of the connection."""


class DurableStruct(ServerStruct, frozen=True, kw_only=True):
    """Base of events that are never dropped."""

    event: int
    """Rises by one with each durable event of the session, without gaps."""


class LimitsObject(msgspec.Struct, frozen=True, kw_only=True):
    """What the client must keep to."""

    message_bytes: int
    """Largest message, text or binary."""
    idle_seconds: float
    """Send audio or `keepalive` at least this often."""
    ahead_seconds: float
    """Audio further ahead of decoding than this stops the socket being read."""
    resume_seconds: float = 0.0
    """How long the session waits for `resume` after its connection broke; 0 where that is not offered."""


class StartedEvent(DurableStruct, frozen=True, kw_only=True, tag="started"):
    """Answer to `start`: audio may flow."""

    session: str
    """128 random bits in hexadecimal."""
    model: str
    """The model that decodes."""
    limits: LimitsObject
    """What the client must keep to; see below."""
    features: list[str]
    """Names of optional parts of the protocol that this server offers."""


class TraceObject(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went between a caption's last sound and its text, seconds at each hop."""

    pause: float
    """Waiting, behind the last speech, for enough silence to be sure that the speaker paused."""
    vad: float
    """Waiting for the tick of the speech detector, and its work."""
    queue: float
    """Waiting for a place in a batch."""
    batch: float
    """On the way to the engine."""
    decode: float
    """Being decoded, with all of its batch."""
    send: float
    """Back from the engine, behind the segments before it, and to the socket."""


class SpeechStartedEvent(DurableStruct, frozen=True, kw_only=True, tag="speech_started"):
    """Somebody began to speak."""

    at: float
    """Where, in seconds."""


class PartialEvent(ServerStruct, frozen=True, kw_only=True, tag="partial"):
    """What the open segment says so far; replaces the one before and, unless `tentative`, only adds to it."""

    segment: int
    """Number of the segment, from 0."""
    revision: int
    """Rises within the segment."""
    start: float
    """Where the segment begins, in seconds."""
    end: float
    """Where what was decoded ends, in seconds."""
    text: str
    """What it says so far."""
    stable: int
    """Leading Unicode code points of `text`, at a word end, that no later partial of this segment changes."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""
    trace: TraceObject | msgspec.UnsetType = msgspec.UNSET
    """Where the time went; only when `start` asked for it."""


class WordObject(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a final. The `text` of all of them joined is the final's."""

    text: str
    """With its punctuation, and with the space before it, if there is one."""
    start: float
    """Where it begins, in seconds."""
    end: float
    """Where it ends, in seconds."""


class FinalEvent(DurableStruct, frozen=True, kw_only=True, tag="final"):
    """What a segment said: exactly one for each segment; its text may be empty."""

    segment: int
    """Number of the segment, from 0."""
    start: float
    """Where the segment begins, in seconds."""
    end: float
    """Where it ends, in seconds."""
    text: str
    """What it says."""
    language: str | None
    """Language the text is in, when the model tells."""
    words: list[WordObject] | None = None
    """When each word of the text was said; null unless `start` asked for it."""
    utterance_end: bool
    """True when the speaker paused after it; false when running speech was cut."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""
    trace: TraceObject | msgspec.UnsetType = msgspec.UNSET
    """Where the time went; only when `start` asked for it."""


class UtteranceEvent(DurableStruct, frozen=True, kw_only=True, tag="utterance"):
    """The segments of an utterance read once more, together: the text replaces that of their finals."""

    first_segment: int
    """Number of the first segment that it replaces."""
    last_segment: int
    """Number of the last one."""
    start: float
    """Where the first segment begins, in seconds."""
    end: float
    """Where the last one ends, in seconds."""
    text: str
    """What they say; never empty."""
    language: str | None
    """Language the text is in, when the model tells."""
    words: list[WordObject] | None = None
    """When each word of the text was said; null unless `start` asked for it."""
    model: str | msgspec.UnsetType = msgspec.UNSET
    """The lighter model that read it, while the server has too much to do; else left out."""


class FlushedEvent(DurableStruct, frozen=True, kw_only=True, tag="flushed"):
    """All audio before the `flush` is in the finals sent before this."""


class LagEvent(ServerStruct, frozen=True, kw_only=True, tag="lag"):
    """Decoding is behind, and the socket is not read until it has caught up."""

    behind: float
    """Seconds of audio received and not yet decoded."""


class TranscriptObject(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a whole stream."""

    text: str
    """A line for each utterance, read once more where there was an `utterance`; `[…]` first if cut off."""
    first_segment: int
    """Number of the first segment in it: 0 unless the beginning was left out for its length."""


class FinishedEvent(DurableStruct, frozen=True, kw_only=True, tag="finished"):
    """The last event of a stream that ended well; the server closes with 1000."""

    audio_seconds: float
    """Length of all audio received."""
    segments: int
    """How many finals there were."""
    transcript: TranscriptObject | msgspec.UnsetType = msgspec.UNSET
    """What was said; only when `start` asked for it."""


class ErrorEvent(DurableStruct, frozen=True, kw_only=True, tag="error"):
    """The last event of a stream that did not; the close code is in the table of errors."""

    code: str
    """One of the table of errors."""
    message: str
    """What went wrong and what to do, for a person."""


class AckEvent(ServerStruct, frozen=True, kw_only=True, tag="ack"):
    """Samples accepted for good: a lost connection does not lose them, and they need not be kept."""

    samples: int
    """How many from the session's first, at the rate of `start`; one of every channel counts once."""


class ResumedEvent(ServerStruct, frozen=True, kw_only=True, tag="resumed"):
    """Answer to `resume`: the durable events after the one named follow, and audio may flow."""

    session: str
    """The session that goes on."""
    samples: int
    """Samples accepted, counted as in `ack`: send again from this one on."""
    flushes: int
    """How many `flush` were accepted: send later ones again, at their places."""
    closing: bool
    """True when nothing more is accepted, because `finish` was or the stream ends by an error."""


class WarningEvent(ServerStruct, frozen=True, kw_only=True, tag="warning"):
    """Something the client should know and may ignore; the stream goes on."""

    code: str
    """`segment_undecodable`: the engine cannot decode a segment, whose final is empty."""
    message: str
    """For a person."""


ServerText = (
    StartedEvent
    | SpeechStartedEvent
    | PartialEvent
    | FinalEvent
    | UtteranceEvent
    | FlushedEvent
    | LagEvent
    | FinishedEvent
    | ErrorEvent
    | AckEvent
    | ResumedEvent
    | WarningEvent
)
