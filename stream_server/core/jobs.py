"""What the loop and the engine say to each other.

Values only, so that they can be pickled: the engine is another process. Audio travels as
little-endian int16 bytes at 16 kHz, which is what a session keeps, half the size of float32.
"""

from dataclasses import dataclass, field, replace

from stream_server.core.hops import Hops
from stream_server.core.messages import SessionId, Task


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One window to decode."""

    session: SessionId
    segment: int
    revision: int
    """Of the partial; a final carries the number of partials before it."""
    final: bool
    start: int
    """Position of the first sample in the session."""
    pcm: bytes = field(repr=False)
    """int16 little-endian mono 16 kHz, at least one sample, at most 30 s."""
    language: str | None
    task: Task
    tier: str
    """Which of the loaded models is to read it."""
    hops: Hops
    draft: tuple[int, ...] = field(default=(), repr=False)
    """Tokens of the last hypothesis of the segment: the engine checks them at once instead of finding
    them one by one. They change neither the text nor which jobs share a batch."""

    @property
    def n_samples(self) -> int:
        """Samples in the window."""
        return len(self.pcm) // 2

    def answered(
        self,
        *,
        text: str,
        language: str | None,
        now_s: float,
        avg_logprob: float = 0.0,
        no_speech_prob: float = 0.0,
        tokens: tuple[int, ...] = (),
    ) -> "DecodeResult":
        """The result that says this of the window, decoded at ``now_s``."""
        return DecodeResult(
            session=self.session,
            segment=self.segment,
            revision=self.revision,
            final=self.final,
            start=self.start,
            end=self.start + self.n_samples,
            text=text,
            language=language,
            avg_logprob=avg_logprob,
            no_speech_prob=no_speech_prob,
            tokens=tokens,
            hops=replace(self.hops, decoded_s=now_s),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs decoded in one call; never empty."""

    jobs: tuple[DecodeJob, ...]


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """The text of one job, in the order and number of the batch's jobs."""

    session: SessionId
    segment: int
    revision: int
    final: bool
    start: int
    end: int
    """Positions of the window in the session, samples."""
    text: str = field(repr=False)
    language: str | None
    avg_logprob: float
    no_speech_prob: float
    tokens: tuple[int, ...] = field(repr=False)
    """Of the text, for the next draft."""
    hops: Hops
