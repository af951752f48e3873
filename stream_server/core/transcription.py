"""What becomes of one stream's audio: frames to score, windows to decode, captions. Pure.

Samples go in and frames to score come out; scores and results go in and *steps* come out, in order: jobs for
the engine, and events for the client. Rules:

1. Every sample is framed, scored and, where there is speech, decoded. Scores come back in order; a flush and
   the end are marks at a frame index and act when the scores have reached it.
2. Every segment that closes gives one job for a final; finals leave in the order of their segments, whatever
   order results come in. With context they are decoded one after the other, see ``core.context``.
3. A partial is asked for when the open segment has grown by ``partial_frames`` and the one before has come
   back, so its cadence follows the engine. Each carries the tokens of the last partial of its segment as a
   draft, which spares the engine work.
4. One model reads all of an utterance, the one that ``Tiers.choose`` names when it begins.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.core.audio_window import AudioWindow
from stream_server.core.captions import SegmentCaption
from stream_server.core.context import Context
from stream_server.core.endpointing import segmenter_config
from stream_server.core.finals import FinalQueue, Mark, PendingFinal
from stream_server.core.hops import FrameTimes, Hops
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
)
from stream_server.core.settings import SessionSettings
from stream_server.errors import UnreadableJob
from vad.audio import FRAME_SAMPLES
from vad.events import Event as SegmentEvent
from vad.events import SegmentClosed, SegmentGrew
from vad.events import SpeechStarted as SpeechOnset
from vad.framing import Framer
from vad.segmenter import Segmenter

Step = DecodeJob | SpeechStarted | Partial | Final | Flushed
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
        self._session = session
        self._start = start
        self._settings = settings
        self._framer = Framer()
        self._segmenter = Segmenter(segmenter_config(settings.segmenter, start.endpointing))
        self._audio = AudioWindow()
        self._frame_times = FrameTimes()
        self._heard_s = now_s
        self._n_scored = 0
        self._marks: deque[tuple[int, Flush | Finish, float]] = deque()
        """Frame, mark, and when it came."""
        self._is_ending = False
        self._finals = FinalQueue()
        wants_context = settings.context if start.context is None else start.context
        self._context = Context() if wants_context and settings.tiers.model_of(start).reads_prompts else None
        self._tier = settings.tiers.asked(start)
        self._caption = SegmentCaption()
        self._draft: tuple[int, ...] = ()
        self._partial_out: bool = False
        self._partial_frame = 0
        self.n_segments = 0
        """Segments that have closed."""

    @property
    def n_samples(self) -> int:
        """Samples received so far."""
        return self._audio.end

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
        return max(0, self._audio.end - decoded)

    @property
    def is_done(self) -> bool:
        """Whether the end was reached and everything before it has left."""
        return self._is_ending and not self._marks and not len(self._finals)

    # ------------------------------------------------------------ inputs

    def append(self, samples: NDArray[np.int16], now_s: float) -> NDArray[np.int16]:
        """Take the stream's next samples, int16 (n,); returns the frames to score, int16 (k, 512)."""
        self._audio.append(samples)
        return self._timed(self._framer.push(samples), now_s)

    def flush(self, now_s: float) -> list[Step]:
        """Close what is open at the last whole frame, and answer when its final has left."""
        return self._mark(Flush(), now_s)

    def end_audio(self, now_s: float) -> NDArray[np.int16]:
        """No more samples come; returns the last frame to score, padded. ``finish`` follows."""
        return self._timed(self._framer.finish(), now_s)

    def finish(self, now_s: float) -> list[Step]:
        """Close what is open when all scores are in; no more partials."""
        self._is_ending = True
        return self._mark(Finish(), now_s)

    def push_scores(self, probabilities: Sequence[float], now_s: float) -> list[Step]:
        """Take the speech probabilities of the next frames, in the order they were given out."""
        n_scores = self._n_scored + len(probabilities)
        assert n_scores <= self._framer.n_frames, "more scores than frames given out"
        steps: list[Step] = []
        for probability in probabilities:
            self._heard_s = self._frame_times.at(self._n_scored)
            self._n_scored += 1
            steps += self._follow(self._segmenter.push(probability), now_s)
            steps += self._pass_marks(now_s)
        keep_from = self._segmenter.keep_from_frame
        self._audio.forget_before(keep_from * FRAME_SAMPLES)
        self._frame_times.forget_before(keep_from)
        return steps

    def take(self, result: DecodeResult) -> list[Step]:
        """Take the text of a job.

        Raises:
            UnreadableJob: The engine could not read it, which is a mistake of ours.
        """
        if result.problem is not None:
            raise UnreadableJob(result.problem)
        if not result.final:
            return self._take_partial(result)
        self._finals.resolve(result)
        further = self._context.take(result) if self._context is not None else []
        return [*further, *self._deliver()]

    # ------------------------------------------------------------ segments

    def _timed(self, frames: NDArray[np.int16], now_s: float) -> NDArray[np.int16]:
        self._frame_times.append(len(frames), now_s)
        return frames

    def _mark(self, mark: Flush | Finish, now_s: float) -> list[Step]:
        self._marks.append((self._framer.n_frames, mark, now_s))
        return self._pass_marks(now_s)

    def _pass_marks(self, now_s: float) -> list[Step]:
        """Act on the flushes and the finish that the scores have reached."""
        steps: list[Step] = []
        while self._marks and self._marks[0][0] <= self._n_scored:
            _, mark, self._heard_s = self._marks.popleft()
            if isinstance(mark, Flush):
                steps += self._follow(self._segmenter.flush(), now_s)
                self._finals.mark(self.n_segments)
            else:
                steps += self._follow(self._segmenter.finish(), now_s)
            steps += self._deliver()
        return steps

    def _follow(self, events: Iterable[SegmentEvent], now_s: float) -> list[Step]:
        steps: list[Step] = []
        for event in events:
            match event:
                case SpeechOnset():
                    self._tier = self._settings.tiers.choose(self._start)
                    steps.append(SpeechStarted(event.frame * FRAME_SAMPLES))
                case SegmentGrew():
                    steps += self._ask_partial(event, now_s)
                case SegmentClosed():
                    steps += self._ask_final(event, now_s)
                case _:
                    assert_never(event)
        return steps

    def _ask_partial(self, event: SegmentGrew, now_s: float) -> list[Step]:
        since = max(self._partial_frame, event.start_frame)
        too_soon = event.end_frame - since < self._settings.partial_frames
        if self._partial_out or too_soon or not self._start.partials or self._is_ending:
            return []
        self._partial_out = True
        self._partial_frame = event.end_frame
        start, end = self._bounds(event.start_frame, event.end_frame)
        return [self._job(event.segment, start, end, now_s, final=False)]

    def _ask_final(self, event: SegmentClosed, now_s: float) -> list[DecodeJob]:
        start, end = self._bounds(event.start_frame, event.end_frame)
        job = self._job(event.segment, start, end, now_s, final=True)
        self._finals.append(PendingFinal(event.segment, start, end, event.utterance_end))
        self.n_segments = event.segment + 1
        self._caption = SegmentCaption()
        self._draft = ()
        self._partial_out = False
        return [job] if self._context is None else self._context.offer(job)

    def _bounds(self, start_frame: int, end_frame: int) -> tuple[int, int]:
        """Frames to samples; the last frame of a stream may be padded beyond what was received."""
        return start_frame * FRAME_SAMPLES, min(end_frame * FRAME_SAMPLES, self._audio.end)

    def _job(self, segment: int, start: int, end: int, now_s: float, *, final: bool) -> DecodeJob:
        return DecodeJob(
            session=self._session,
            segment=segment,
            revision=self._caption.revision + (not final),
            final=final,
            start=start,
            pcm=self._audio.read(start, end),
            language=self._start.language,
            task=self._start.task,
            tier=self._tier,
            hops=Hops(self._frame_times.at((end - 1) // FRAME_SAMPLES), self._heard_s, now_s),
            draft=self._draft,
            word_times=final and self._start.words,
            # What a partial says is soon replaced: not worth the time of several rows.
            beam=self._start.beam if final else None,
            generation=self._settings.tiers.generation,
        )

    # ------------------------------------------------------------ results

    def _take_partial(self, result: DecodeResult) -> list[Step]:
        if result.segment != self.n_segments:
            return []  # its segment closed meanwhile: the final says it all
        self._partial_out = False
        if result.dropped is not None and not result.text:
            return []  # invented text, see ``engine.guard``: what is shown stays until the next partial
        self._draft = result.tokens
        text, stable = self._caption.update(result.text)
        return [
            Partial(
                segment=result.segment,
                revision=self._caption.revision,
                start=result.start,
                end=result.end,
                text=text,
                stable=stable,
                model=self._stand_in(result),
                hops=result.hops,
            )
        ]

    def _deliver(self) -> list[Step]:
        """Finals, in order, and what waited for them."""
        ready = self._finals.pop_ready()
        return [Flushed() if isinstance(one, Mark) else self._final(*one) for one in ready]

    def _final(self, pending: PendingFinal, result: DecodeResult) -> Final:
        return Final(
            segment=pending.segment,
            start=pending.start,
            end=pending.end,
            text=result.text,
            language=result.language,
            utterance_end=pending.utterance_end,
            words=result.words if self._start.words else None,
            model=self._stand_in(result),
            hops=result.hops,
        )

    def _stand_in(self, result: DecodeResult) -> str | None:
        """The name of the model if it is not the one that the client was told of."""
        tiers = self._settings.tiers
        return None if result.tier is tiers.asked(self._start) else tiers.facts[result.tier].name
