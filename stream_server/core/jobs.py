"""What the loop and the engine say to each other.

Values only, so that they can be pickled: the engine is another process. Audio travels as
little-endian int16 bytes at 16 kHz, which is what a session keeps, half the size of float32. Until then a
job that waits refers to its session's audio, see ``core.audio_window``.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from stream_server.core.audio_window import SharedPcm
from stream_server.core.hops import Hops
from stream_server.core.messages import BeamSearch, SessionId, Task, Tier, Word

WINDOW_SAMPLES_MAX = 30 * 16_000
"""What official checkpoints were trained on, and the longest window of any."""
PROMPT_CHARS_MAX = 2_000
"""Of which a model sees the last 223 tokens, some 900 characters of English."""


class GuardRule(StrEnum):
    """By which text is held to be invented; told in ``engine.guard``."""

    NO_SPEECH = "no_speech"
    PHRASE = "phrase"
    PROMPT = "prompt"
    REPETITION = "repetition"
    COMPRESSION = "compression"
    RATE = "rate"
    LENGTH = "length"
    LOGPROB = "logprob"


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One window to decode."""

    session: SessionId
    segment: int
    """Of a second look: the last one of its segments."""
    revision: int
    """Of the partial; a final carries the number of partials before it."""
    final: bool
    start: int
    """Position of the first sample in the session."""
    pcm: bytes | SharedPcm = field(repr=False)
    """int16 little-endian mono 16 kHz, at least one sample, at most 30 s; ``bytes`` once it was pickled."""
    language: str | None
    task: Task
    tier: Tier
    """Which of the loaded models is to read it."""
    hops: Hops
    draft: tuple[int, ...] = field(default=(), repr=False)
    """Tokens of the last hypothesis of the segment: the engine checks them at once instead of finding
    them one by one. They change neither the text nor which jobs share a batch."""
    prompt: str = field(default="", repr=False)
    """The text before, at most ``PROMPT_CHARS_MAX``, for models that were trained to read on from it.
    Text and not tokens, because the model of the text before may have been another."""
    word_times: bool = False
    """Whether the result is to tell when each word was said; a pass of the decoder more."""
    generation: int = 0
    """Of the models, see ``Tiers``; which engine is to read it."""

    beam: BeamSearch | None = None
    """How the text is searched for; None takes the likeliest token after the other."""

    @property
    def n_rows(self) -> int:
        """Rows of a batch that the job takes: so much memory, and about so much time, in the text decoder."""
        return 1 if self.beam is None else self.beam.size

    n_segments: int = 1
    """How many segments the window holds; more than one is a second look at an utterance, a final, too."""
    early: bool = False
    """Whether it is a partial that is read as the final is, and may become it, see ``core.early``."""

    def foretells(self, final: "DecodeJob") -> bool:
        """Whether this early job's text is that of a final: the same samples, read in the same way."""
        if not self.early or self.n_samples != final.n_samples:
            return False
        return final == replace(
            self,
            final=True,
            early=False,
            revision=final.revision,
            pcm=final.pcm,
            hops=final.hops,
            draft=final.draft,
        )

    def adopt(self, early: "DecodeResult") -> "DecodeResult":
        """The result of this final, given that of an early job that foretells it."""
        hops = replace(
            self.hops,
            batched_s=early.hops.batched_s,
            started_s=early.hops.started_s,
            decoded_s=early.hops.decoded_s,
        )
        return replace(early, final=True, revision=self.revision, hops=hops)

    @property
    def is_look(self) -> bool:
        """Whether it is a second look, see ``core.second_look``."""
        return self.n_segments > 1

    @property
    def first_segment(self) -> int:
        """The first segment in the window."""
        return self.segment - self.n_segments + 1

    @property
    def n_samples(self) -> int:
        """Samples in the window."""
        return len(self.pcm) // 2

    @property
    def end(self) -> int:
        """Position behind the last sample."""
        return self.start + self.n_samples

    def problem(self, languages: Collection[str]) -> str | None:
        """Why a model of these languages cannot read the job; None if it can.

        Sessions ask for nothing of the kind; a job that has a problem is a bug of ours, or was made for
        another model.
        """
        if not self.pcm:
            return "the window is empty"
        if len(self.pcm) % 2:
            return f"{len(self.pcm)} bytes are not whole int16 samples"
        if self.n_samples > WINDOW_SAMPLES_MAX:
            return f"the window of {self.n_samples / 16_000:.1f} s is longer than 30 s"
        if self.language is not None and self.language not in languages:
            return "the model does not read the language asked for"
        if len(self.prompt) > PROMPT_CHARS_MAX:
            return f"the prompt of {len(self.prompt)} characters is longer than {PROMPT_CHARS_MAX}"
        return None

    def answered(
        self,
        *,
        text: str,
        language: str | None,
        now_s: float,
        avg_logprob: float = 0.0,
        no_speech_prob: float = 0.0,
        tokens: tuple[int, ...] = (),
        words: tuple[Word, ...] = (),
        word_probabilities: tuple[float, ...] = (),
        temperature: float = 0.0,
        retried: tuple[GuardRule, ...] = (),
        dropped: GuardRule | None = None,
        problem: str | None = None,
    ) -> "DecodeResult":
        """The result that says this of the window, decoded at ``now_s``."""
        return DecodeResult(
            session=self.session,
            segment=self.segment,
            revision=self.revision,
            final=self.final,
            tier=self.tier,
            start=self.start,
            end=self.end,
            text=text,
            language=language,
            avg_logprob=avg_logprob,
            no_speech_prob=no_speech_prob,
            tokens=tokens,
            hops=replace(self.hops, decoded_s=now_s),
            words=words,
            word_probabilities=word_probabilities,
            temperature=temperature,
            retried=retried,
            dropped=dropped,
            problem=problem,
            n_segments=self.n_segments,
            early=self.early,
        )


def n_fitting(jobs: Iterable[DecodeJob], rows_max: int) -> int:
    """How many of the first of some jobs a batch of so many rows holds; one always, whatever it takes."""
    n_jobs = n_rows = 0
    for job in jobs:
        n_rows += job.n_rows
        if n_jobs and n_rows > rows_max:
            break
        n_jobs += 1
    return n_jobs


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs decoded in one call; never empty."""

    jobs: tuple[DecodeJob, ...]

    @property
    def n_rows(self) -> int:
        """Rows that its jobs take together."""
        return sum(job.n_rows for job in self.jobs)


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """The text of one job, in the order and number of the batch's jobs."""

    session: SessionId
    segment: int
    revision: int
    final: bool
    tier: Tier
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
    words: tuple[Word, ...] = ()
    """Of the text, if they were asked for."""
    word_probabilities: tuple[float, ...] = field(default=(), repr=False)
    """How sure the model is of each ``core.words.TOKEN`` of the text, 0 to 1; empty if nobody knows."""
    temperature: float = 0.0
    """At which the text was sampled; 0 is greedy."""
    retried: tuple[GuardRule, ...] = ()
    """The rule that each earlier attempt broke, at lower temperatures."""
    dropped: GuardRule | None = None
    """The rule by which text was taken away: all of it, or the turns of a loop."""
    problem: str | None = None
    """Why the job could not be read; there is no text then. See ``DecodeJob.problem``."""
    n_segments: int = 1
    """As in the job."""
    early: bool = False
    """As in the job; of a final, whether it was asked for before the pause was long enough."""

    @property
    def is_look(self) -> bool:
        """Whether it is that of a second look."""
        return self.n_segments > 1
