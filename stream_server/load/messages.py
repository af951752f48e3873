"""What the commanding process and its workers say to each other, one JSON object a line."""

from dataclasses import field

import msgspec

from stream_server.dialects.schema import TraceObject
from stream_server.load.plan import ClientPlan, Clip


class Order(msgspec.Struct, frozen=True):
    """What a worker is to do."""

    url: str
    ca: str
    cert: str
    key: str
    samples: str
    """File with the samples of all clips, int16 little-endian at 16 kHz."""
    clips: tuple[Clip, ...]
    clients: tuple[ClientPlan, ...]
    language: str | None
    ramp_s: float
    measure_s: float


class Go(msgspec.Struct, frozen=True, tag="go"):
    """Begin; ``time.monotonic()``, which is one clock for all processes of a machine."""

    at_s: float


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Send nothing more, take what comes, and report."""


Command = Go | Stop


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has read its order."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How many clients are where."""

    live: int
    refused: int
    failed: int


class ClientResult(msgspec.Struct, frozen=True, tag="client"):
    """What one client saw. Latencies are those of the time when all clients are live."""

    number: int
    refused: str | None = None
    """Why it was not let in: the server's code, or ``no_connection``."""
    refusal: str = ""
    """The same as a sentence."""
    failed: str | None = None
    """Why it ended before ``finished``: the server's code."""
    sent_s: float = 0.0
    """Audio sent."""
    final_latencies_s: tuple[float, ...] = ()
    settled_latencies_s: tuple[float, ...] = ()
    """From the moment since which the words of the finals were shown."""
    word_latencies_s: tuple[float, ...] = ()
    ages_s: tuple[float, ...] = ()
    """How old the newest audio in each partial was when it came."""
    hangovers_s: tuple[float, ...] = ()
    """What of each final latency the server does not tell of: see ``RunResult.hangover``."""
    hops: tuple[TraceObject, ...] = ()
    """Where the time of each final went, as the server tells."""
    words_changed: int = 0
    words_final: int = 0
    """For flicker."""
    reference: str = ""
    hypothesis: str = ""
    utterances: int = 0
    """Whose end is known."""
    uncaptioned: int = 0
    """Utterances that no final with text covers."""
    lost: int = 0
    """Finals that the server counts and the client has not."""
    doubled: int = 0
    """Finals of a segment or a stretch of time that had its final."""


class WorkerDone(msgspec.Struct, frozen=True, tag="done"):
    """All its clients have ended."""

    results: tuple[ClientResult, ...]
    loop_lags_s: tuple[float, ...] = field(default=())
    """How late the worker's own loop was, looked at every 50 ms."""


Report = Ready | Progress | WorkerDone
