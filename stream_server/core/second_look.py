"""Utterances of several segments, decoded once more as a whole.

Rules:

1. An utterance that ends after several segments is looked at again: one window from the start of its first
   segment to the end of its last. One longer than ``WINDOW_SAMPLES_MAX`` is looked at in parts, each of as
   many segments as a window holds. A part of a single segment is not: its final has heard all of it.
2. A look is asked for when the finals that it may replace have left. So it never comes before them, their
   tokens are its draft, and the prompt of the first is its prompt. Finals that are all empty get none: what
   the guard took away is not asked for again.
3. One look of a session is under way at a time. ``WAITING_MAX`` more may wait; the oldest makes room.
4. One that has not come back ``LOOK_S`` after it was asked for is given up: a line that changes so late
   disturbs more than it helps. Looks are the first thing that a loaded server leaves out.
5. A look that is empty, or from which the guard took text, replaces nothing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream_server.core.finals import PendingFinal
from stream_server.core.jobs import WINDOW_SAMPLES_MAX, DecodeJob, DecodeResult

LOOK_S = 10.0
WAITING_MAX = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive segments of one utterance."""

    first: int
    last: int
    """Numbers of segments."""
    start: int
    end: int
    """Positions in the session, samples."""

    @property
    def n_segments(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is known of a segment whose final has left."""

    start: int
    end: int
    """Positions of its final in the session, samples."""
    has_text: bool
    tokens: tuple[int, ...]
    prompt: str


@dataclass(frozen=True, slots=True)
class _Out:
    """The look under way."""

    job: DecodeJob
    asked_s: float


class SecondLooks:
    """The looks of one session: which are due, which are under way."""

    def __init__(self) -> None:
        self._open: Span | None = None
        self._prompts: dict[int, str] = {}
        self._heard: dict[int, _Heard] = {}
        self._waiting: deque[DecodeJob] = deque()
        self._out: _Out | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a look is under way or waits."""
        return self._out is not None or bool(self._waiting)

    @property
    def keep_from(self) -> int | None:
        """The oldest sample that a look may still need; None if none does."""
        return None if self._open is None else self._open.start

    def close(self, segment: PendingFinal) -> list[Span]:
        """A segment has closed, in their order; returns what is to be looked at, for ``add``."""
        number, whole = segment.segment, self._open
        due: list[Span] = []
        if whole is not None and segment.end - whole.start > WINDOW_SAMPLES_MAX:
            due.append(whole)
            whole = None
        start = segment.start if whole is None else whole.start
        whole = Span(number if whole is None else whole.first, number, start, segment.end)
        if segment.utterance_end:
            due.append(whole)
        self._open = None if segment.utterance_end else whole
        return [span for span in due if span.n_segments > 1]

    def add(self, job: DecodeJob) -> list[DecodeJob]:
        """Keep a look until its finals have left; returns those given up for it."""
        self._waiting.append(job)
        return [self._waiting.popleft()] if len(self._waiting) > WAITING_MAX else []

    def note_prompt(self, job: DecodeJob) -> None:
        """A final is asked for, with this prompt."""
        self._prompts[job.segment] = job.prompt

    def hear(self, result: DecodeResult) -> None:
        """A final has left, in the order of the segments."""
        prompt = self._prompts.pop(result.segment, "")
        self._heard[result.segment] = _Heard(
            result.start, result.end, bool(result.text), result.tokens, prompt
        )
        firsts = [job.first_segment for job in self._waiting]
        if self._open is not None:
            firsts.append(self._open.first)
        oldest = min(firsts, default=result.segment + 1)
        for segment in [segment for segment in self._heard if segment < oldest]:
            del self._heard[segment]

    def next(self, now_s: float) -> list[DecodeJob]:
        """The look to ask for now, if one is due and none is under way."""
        while self._out is None and self._waiting and self._waiting[0].segment in self._heard:
            job = self._waiting.popleft()
            heard = [self._heard.pop(segment) for segment in range(job.first_segment, job.segment + 1)]
            if any(one.has_text for one in heard):
                self._out = _Out(_informed(job, heard, now_s), now_s)
                return [self._out.job]
        return []

    def take(self, result: DecodeResult) -> DecodeResult | None:
        """Take what came back; returns it if it replaces the finals of its segments."""
        if self._out is None or self._out.job.segment != result.segment:
            return None  # It was given up.
        self._out = None
        return result if result.text and result.dropped is None else None

    def give_up_late(self, now_s: float) -> list[DecodeJob]:
        """Give up the look under way if it takes too long."""
        if self._out is None or now_s - self._out.asked_s <= LOOK_S:
            return []
        late, self._out = self._out.job, None
        return [late]

    def give_up(self) -> list[DecodeJob]:
        """Give up all looks, and those to come."""
        given_up = [] if self._out is None else [self._out.job]
        given_up += self._waiting
        self._out = None
        self._waiting.clear()
        return given_up


def _informed(job: DecodeJob, heard: Sequence[_Heard], now_s: float) -> DecodeJob:
    """The job with what its finals have taught, and no more audio than they stand for."""
    draft = tuple(token for one in heard for token in one.tokens)
    hops = replace(job.hops, submitted_s=now_s)
    start, end = heard[0].start, heard[-1].end
    pcm = job.pcm[2 * (start - job.start) : 2 * (end - job.start)]
    return replace(job, start=start, pcm=pcm, draft=draft, prompt=heard[0].prompt, hops=hops)
