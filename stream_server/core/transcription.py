"""What becomes of one stream's audio: frames to score, windows to decode, captions. Pure.

Samples go in and frames to score come out; scores and results go in and *steps* come out, in order: jobs for
the engine, and events for the client. Rules:

1. Every sample is framed, scored and, where there is speech, decoded. Scores come back in order; a flush and
   the end are marks at a frame index and act when the scores have reached it.
2. Every segment that closes gives one job for a final; finals leave in the order of their segments, whatever
   order results come in. With context they are decoded one after the other, see ``core.context``. Where
   running speech was cut they are joined, see ``core.seams``, if the model can tell when words were said.
3. At the end of an utterance of several segments it is decoded once more as a whole, for clients that asked,
   see ``core.second_look``.
4. When it pauses, a segment is read as if it ended there, see ``core.early``.
5. While a segment is open, partials of it are asked for, see ``core.partials``. One that still waits for the
   engine is replaced by the next, so that nobody is shown what was said long ago, and the cadence follows
   the engine. Behind a cut it begins at the seam, and so waits until the final before has left.
6. One model reads all of an utterance, the one that ``Tiers.choose`` names when it begins.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.core.actions import Abandon, Submit
from stream_server.core.context import Context
from stream_server.core.early import EarlyFinal
from stream_server.core.endpointing import segmenter_config
from stream_server.core.finals import FinalQueue, Mark, PendingFinal
from stream_server.core.hops import Hops
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import (
    Final,
    Finish,
    Flush,
    Flushed,
    Partial,
    SessionId,
    SpeechStarted,
    Start,
    Task,
    Transcript,
    Utterance,
)
from stream_server.core.partials import Partials
from stream_server.core.seams import Joins
from stream_server.core.second_look import SecondLooks
from stream_server.core.settings import SessionSettings
from stream_server.core.stitched import Stitched
from stream_server.core.windows import Windows
from stream_server.errors import UnreadableJob
from vad.audio import FRAME_SAMPLES
from vad.events import CloseReason, SegmentClosed, SegmentGrew
from vad.events import Event as SegmentEvent
from vad.events import SpeechStarted as SpeechOnset
from vad.segmenter import Segmenter

EARLY_BEHIND_FRAMES = 8
"""Received and not yet scored, 256 ms: with more, the end of a pause has mostly been received already."""

Step = Submit | Abandon | SpeechStarted | Partial | Final | Utterance | Flushed
"""A window to decode, or something to tell the client."""


class Transcription:
    """The audio of one session, from its start to its last final.

    Args:
        session: Whose it is.
        start: What the client asked for, which the model can do.
        settings: Of the server.
        now_s: Monotonic seconds, as in every method.
    """

    def __init__(self, session: SessionId, start: Start, settings: SessionSettings, now_s: float) -> None:
        self._start = start
        self._settings = settings
        self._windows = Windows(session, start, settings, now_s)
        self._segmenter = Segmenter(segmenter_config(settings.segmenter, start.endpointing))
        self._n_scored = 0
        self._marks: deque[tuple[int, Flush | Finish, float]] = deque()
        """Frame, mark, and when it came."""
        self._is_ending = False
        self._finals = FinalQueue()
        self._joins = Joins()
        wants_context = settings.context if start.context is None else start.context
        self._context = Context() if wants_context and settings.tiers.model_of(start).reads_prompts else None
        self._looks = SecondLooks() if start.revise else None
        self._stitched = Stitched() if start.transcript else None
        self._partials = Partials(start, settings)
        self._early = EarlyFinal()
        self.n_segments = 0
        """Segments that have closed."""

    @property
    def n_samples(self) -> int:
        """Samples received so far."""
        return self._windows.audio.end

    @property
    def n_marks(self) -> int:
        """Flushes that are not answered, and the end if it has not been reached."""
        return len(self._marks) + self._finals.n_marks

    @property
    def behind_samples(self) -> int:
        """Samples received and not yet decoded."""
        decoded = self._finals.start
        if decoded is None:
            decoded = self._n_scored * FRAME_SAMPLES
        return max(0, self.n_samples - decoded)

    @property
    def is_done(self) -> bool:
        """Whether the end was reached and everything before it has left."""
        is_looking = self._looks is not None and self._looks.is_busy
        return self._is_ending and not self._marks and not len(self._finals) and not is_looking

    @property
    def transcript(self) -> Transcript | None:
        """What was said so far, if the client wants it at the end."""
        return None if self._stitched is None else self._stitched.transcript

    # ------------------------------------------------------------ inputs

    def append(self, samples: NDArray[np.int16], now_s: float) -> NDArray[np.int16]:
        """Take the stream's next samples, int16 (n,); returns the frames to score, int16 (k, 512)."""
        return self._windows.append(samples, now_s)

    def flush(self, now_s: float) -> list[Step]:
        """Close what is open at the last whole frame, and answer when its final has left."""
        return self._mark(Flush(), now_s)

    def end_audio(self, now_s: float) -> NDArray[np.int16]:
        """No more samples come; returns the last frame to score, padded. ``finish`` follows."""
        return self._windows.end_audio(now_s)

    def finish(self, now_s: float) -> list[Step]:
        """Close what is open when all scores are in; no more partials."""
        self._is_ending = True
        return self._mark(Finish(), now_s)

    def push_scores(self, probabilities: Sequence[float], now_s: float) -> list[Step]:
        """Take the speech probabilities of the next frames, in the order they were given out."""
        n_scores = self._n_scored + len(probabilities)
        assert n_scores <= self._windows.n_frames, "more scores than frames given out"
        steps: list[Step] = []
        for probability in probabilities:
            self._windows.hear(self._n_scored)
            self._n_scored += 1
            steps += self._follow(self._segmenter.push(probability), now_s)
            steps += self._pass_marks(now_s)
        steps += self._ask_early(now_s)
        look_from = None if self._looks is None else self._looks.keep_from
        self._windows.forget_before(self._segmenter.keep_from_frame, look_from)
        return steps

    def take(self, result: DecodeResult, now_s: float) -> list[Step]:
        """Take the text of a job.

        Raises:
            UnreadableJob: The engine could not read it, which is a mistake of ours.
        """
        if result.problem is not None:
            raise UnreadableJob(result.problem)
        if not result.final:
            return self._take_partial(result)
        if result.is_look:
            return self._take_look(result, now_s)
        self._finals.resolve(result)
        return self._deliver(now_s)

    def tick(self, now_s: float) -> list[Step]:
        """Look at the clock."""
        if self._looks is None:
            return []
        late = self._looks.give_up_late(now_s)
        return [*map(Abandon, late), *map(Submit, self._looks.next(now_s))]

    def give_up_looks(self) -> list[Step]:
        """Nobody waits for second looks any more, neither these nor later ones."""
        looks, self._looks = self._looks, None
        return [] if looks is None else [*map(Abandon, looks.give_up())]

    # ------------------------------------------------------------ segments

    def _mark(self, mark: Flush | Finish, now_s: float) -> list[Step]:
        self._marks.append((self._windows.n_frames, mark, now_s))
        return self._pass_marks(now_s)

    def _pass_marks(self, now_s: float) -> list[Step]:
        """Act on the flushes and the finish that the scores have reached."""
        steps: list[Step] = []
        while self._marks and self._marks[0][0] <= self._n_scored:
            _, mark, self._windows.heard_s = self._marks.popleft()
            if isinstance(mark, Flush):
                steps += self._follow(self._segmenter.flush(), now_s)
                self._finals.mark(self.n_segments)
            else:
                steps += self._follow(self._segmenter.finish(), now_s)
            steps += self._deliver(now_s)
        return steps

    def _follow(self, events: Iterable[SegmentEvent], now_s: float) -> list[Step]:
        steps: list[Step] = []
        for event in events:
            match event:
                case SpeechOnset():
                    self._begin_utterance()
                    steps.append(SpeechStarted(event.frame * FRAME_SAMPLES))
                case SegmentGrew():
                    steps += self._ask_partial(event, now_s)
                case SegmentClosed():
                    steps += self._ask_final(event, now_s)
                case _:
                    assert_never(event)
        return steps

    def _begin_utterance(self) -> None:
        can_time_words = self._windows.choose_model()
        # Times of a translation's words say nothing of their order in it.
        can_join = can_time_words and self._start.task is Task.TRANSCRIBE
        self._joins.begin_utterance(is_joined=can_join and self._settings.segmenter.overlap_ms > 0)

    def _ask_partial(self, event: SegmentGrew, now_s: float) -> list[Step]:
        if self._is_ending or not self._partials.are_due(event.start_frame, event.end_frame):
            return []
        start, end = self._windows.bounds(event.start_frame, event.end_frame)
        start_said = self._joins.partial_start(start, self._finals)
        if start_said is None:
            return []
        self._partials.note_asked(event.end_frame)
        revision, draft = self._partials.revision + 1, self._partials.draft
        job = self._windows.partial(event.segment, start_said, end, now_s, revision=revision, draft=draft)
        return [Submit(job)]

    def _ask_early(self, now_s: float) -> list[Step]:
        """The final, if a pause has begun that is not long enough to be sure of."""
        n_behind = self._windows.n_frames - self._n_scored
        if not self._settings.early_finals or self._is_ending or n_behind > EARLY_BEHIND_FRAMES:
            return []
        closing = self._segmenter.if_paused()
        if closing is None or self._early.is_asked(closing.segment, closing.end_frame * FRAME_SAMPLES):
            return []
        final = self._final_job(closing, now_s)
        read = final if self._context is None else self._context.preview(final)
        if read is None:
            return []
        self._partials.note_asked(closing.end_frame)
        early = replace(read, final=False, early=True, revision=final.revision + 1)
        self._early.ask(early)
        return [Submit(early)]

    def _ask_final(self, event: SegmentClosed, now_s: float) -> list[Step]:
        job = self._final_job(event, now_s)
        pending = PendingFinal(job.segment, job.start, job.end, event.utterance_end)
        # Behind a cut, the segmenter has opened the next segment already.
        next_start = self._segmenter.keep_from_frame * FRAME_SAMPLES
        self._joins.close(pending, is_cut=event.reason is CloseReason.LENGTH, next_start=next_start)
        self._finals.append(pending)
        self.n_segments = event.segment + 1
        self._partials.begin_segment()
        asked = [job] if self._context is None else self._context.offer(job)
        return [*self._submit(asked), *self._keep_look(pending, job), *self._deliver(now_s)]

    def _submit(self, finals: Iterable[DecodeJob]) -> Iterator[Step]:
        """Have finals read, but for one that was read early: it leaves with the next ``_deliver``."""
        for job in finals:
            if self._looks is not None:
                self._looks.note_prompt(job)
            known = self._early.settle(job)
            if known is None:
                yield Submit(job)
            else:
                self._finals.resolve(known)

    def _keep_look(self, segment: PendingFinal, final: DecodeJob) -> Iterator[Step]:
        """Keep what is to be looked at when its finals have left."""
        if self._looks is None:
            return
        for span in self._looks.close(segment):
            yield from map(Abandon, self._looks.add(self._windows.look(span, final)))

    def _final_job(self, event: SegmentClosed, now_s: float) -> DecodeJob:
        start, _ = self._windows.bounds(event.start_frame, event.end_frame)
        return self._windows.final(
            event,
            self._joins.final_start(start),
            now_s,
            revision=self._partials.revision,
            draft=self._partials.draft,
            needs_times=self._joins.needs_times(is_cut=event.reason is CloseReason.LENGTH),
        )

    # ------------------------------------------------------------ results

    def _take_partial(self, result: DecodeResult) -> list[Step]:
        if result.segment != self.n_segments:
            return []  # its segment closed meanwhile: the final says it all
        if result.early:
            self._early.take(result)
            if not self._is_shown(result):
                return []
        shown = self._partials.take(result)
        return self._partial(shown, result, result.start, result.end, result.hops)

    def _partial(
        self, shown: tuple[str, int] | None, read: DecodeResult, start: int, end: int, hops: Hops | None
    ) -> list[Step]:
        if shown is None:
            return []
        text, stable = shown
        return [
            Partial(
                segment=self.n_segments,
                revision=self._partials.revision,
                start=start,
                end=end,
                text=text,
                stable=stable,
                model=self._windows.stand_in(read),
                hops=hops,
            )
        ]

    def _is_shown(self, early: DecodeResult) -> bool:
        """Whether a partial of the same window is wanted; behind a cut it would begin elsewhere."""
        return self._start.partials and self._joins.partial_start(early.start, self._finals) == early.start

    def _take_look(self, result: DecodeResult, now_s: float) -> list[Step]:
        if self._looks is None:
            return []
        taken = self._looks.take(result)
        further: list[Step] = [*map(Submit, self._looks.next(now_s))]
        if taken is None:
            return further
        utterance = Utterance(
            first_segment=taken.segment - taken.n_segments + 1,
            last_segment=taken.segment,
            start=taken.start,
            end=taken.end,
            text=taken.text,
            language=taken.language,
            words=taken.words if self._start.words else None,
            model=self._windows.stand_in(taken),
        )
        if self._stitched is not None:
            self._stitched.revise(utterance)
        return [*further, utterance]

    def _deliver(self, now_s: float) -> list[Step]:
        """Finals, in order, and what waited for them."""
        steps: list[Step] = []
        for ready in self._finals.pop_ready():
            if isinstance(ready, Mark):
                steps.append(Flushed())
            else:
                steps += self._leave(*ready)
        if self._looks is not None:
            steps += map(Submit, self._looks.next(now_s))
        return steps

    def _leave(self, pending: PendingFinal, result: DecodeResult) -> Iterator[Step]:
        joined = self._joins.join(pending, result)
        final = self._final(pending, joined)
        if self._stitched is not None:
            self._stitched.add(final)
        if self._looks is not None:
            self._looks.hear(joined)
        yield final
        if pending.segment + 1 == self.n_segments and not pending.utterance_end and not self._is_ending:
            shown = self._partials.go_on_behind(final.text)
            heard_until = max(final.end, self._partials.heard_until)
            yield from self._partial(shown, result, final.end, heard_until, None)
        if self._context is not None:
            # One final is under way at a time: this is the one that has just come back.
            seam = self._joins.seam
            yield from self._submit(self._context.take(joined, "" if seam is None else seam.again))

    def _final(self, pending: PendingFinal, result: DecodeResult) -> Final:
        return Final(
            segment=pending.segment,
            start=result.start,
            end=result.end,
            text=result.text,
            language=result.language,
            utterance_end=pending.utterance_end,
            words=result.words if self._start.words else None,
            model=self._windows.stand_in(result),
            hops=result.hops,
        )
