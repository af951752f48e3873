"""One client's life, from ``start`` to the last event.

A session is told what happened and answers with the actions to perform, in order. Rules:

1. States: AWAITING_START → STREAMING → ENDING → CLOSED. What a client message does in which state is
   the table ``_TABLE``; a pair that is not in it is a protocol violation.
2. Every sample received is framed, scored and, where there is speech, decoded. Scores come back in
   order; ``flush`` and ``finish`` are marks at a frame index and act when the scores have reached it.
3. Every segment that closes gives one job for a final; finals leave in the order of their segments,
   whatever order results come in. A partial is asked for when the open segment has grown by
   ``partial_frames`` and the one before has come back, so its cadence follows the engine. Each carries
   the tokens of the last partial of its segment as a draft, which spares the engine work. With context
   the finals are decoded one after the other, see ``core.context``.
4. A session that ends, well or not, first delivers the finals of what it accepted: a client's mistake
   loses nothing. Only a dead engine, a client that does not read and a bug of ours end it at once.
5. Whatever was received is safe from a lost connection: ``Ack`` tells how much that is. A session whose
   connection is lost waits for another; ``resume`` tells from which sample on the client sends again.
   Only whole samples count, and the resampler's history stays, so nothing is heard of the break.
6. Audio more than ``ahead_s`` ahead of decoding turns ``wants_audio`` false: the socket is left
   unread until decoding has caught up. Idle time does not count meanwhile.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import SAMPLE_RATE_HZ, AudioDecoder
from stream_server.core.acks import AckClock
from stream_server.core.actions import Action, Close, Score, Send, Submit
from stream_server.core.audio_window import AudioWindow
from stream_server.core.captions import SegmentCaption
from stream_server.core.context import Context
from stream_server.core.endpointing import segmenter_config
from stream_server.core.finals import FinalQueue, Mark, PendingFinal
from stream_server.core.hops import FrameTimes, Hops
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import (
    Ack,
    Audio,
    ClientMessage,
    Durable,
    Failed,
    Final,
    Finish,
    Finished,
    Flush,
    Flushed,
    KeepAlive,
    Lag,
    Numbered,
    Partial,
    Resumed,
    SessionId,
    SpeechStarted,
    Start,
    Started,
    Transient,
    Warned,
)
from stream_server.core.settings import SessionSettings
from stream_server.errors import (
    BadMessage,
    IdleTimeout,
    NotSupported,
    ProtocolViolation,
    StreamError,
    UnreadableJob,
)
from vad.audio import FRAME_SAMPLES
from vad.events import Event as SegmentEvent
from vad.events import SegmentClosed, SegmentGrew
from vad.events import SpeechStarted as SpeechOnset
from vad.framing import Framer
from vad.segmenter import Segmenter

FLUSHES_MAX = 64
"""Unanswered flushes after which the socket is left unread: they carry no audio that would bound them."""
LAG_INTERVAL_S = 1.0
"""A client that sends faster than real time would otherwise get one lag event per segment."""


class State(Enum):
    """Where in its life a session is."""

    AWAITING_START = auto()
    STREAMING = auto()
    ENDING = auto()
    """Nothing more is accepted; the last finals are on their way."""
    CLOSED = auto()


_TABLE: dict[type[ClientMessage], frozenset[State]] = {
    Start: frozenset({State.AWAITING_START}),
    Audio: frozenset({State.STREAMING}),
    Flush: frozenset({State.STREAMING}),
    Finish: frozenset({State.STREAMING}),
    KeepAlive: frozenset({State.STREAMING, State.ENDING}),
}
"""In which states a client may send what."""

_COMPLAINT = {
    State.AWAITING_START: "send start before anything else",
    State.STREAMING: "start was sent already; open another connection for another stream",
    State.ENDING: "nothing but keepalive may follow finish",
}


class Session:
    """One client's stream.

    Args:
        session_id: 128 random bits; a session cannot be guessed.
        settings: Of the server.
        now_s: Monotonic seconds, as in every method.
    """

    def __init__(self, session_id: SessionId, settings: SessionSettings, now_s: float) -> None:
        self.id = session_id
        self.state = State.AWAITING_START
        self._settings = settings
        self._start: Start | None = None
        self._decoder: AudioDecoder | None = None
        self._framer = Framer()
        self._segmenter = Segmenter(settings.segmenter)
        self._audio = AudioWindow()
        self._frame_times = FrameTimes()
        self._heard_s = now_s
        self._n_scored = 0
        self._marks: deque[tuple[int, Flush | Finish, float]] = deque()
        """Frame, mark, and when it came."""
        self._finals = FinalQueue()
        self._context: Context | None = None
        self._caption = SegmentCaption()
        self._draft: tuple[int, ...] = ()
        self._n_segments = 0
        self._partial_out: bool = False
        self._partial_frame = 0
        self._error: StreamError | None = None
        self._n_durable = 0
        self._last_input_s = now_s
        self._lag_s = -LAG_INTERVAL_S
        self._acks = AckClock(now_s)
        self._n_flushes = 0
        self._is_detached = False
        self._ending_s: float | None = None

    # ------------------------------------------------------------ what the owner asks

    @property
    def has_started(self) -> bool:
        """Whether ``Started`` was said; only then is there something to resume."""
        return self._decoder is not None

    @property
    def wants_audio(self) -> bool:
        """Whether the socket should be read; False is back-pressure."""
        has_caught_up = self.behind_samples <= self._settings.limits.ahead_s * SAMPLE_RATE_HZ
        return has_caught_up and len(self._marks) + self._finals.n_marks < FLUSHES_MAX

    @property
    def behind_samples(self) -> int:
        """Samples received and not yet decoded, at 16 kHz."""
        decoded = self._finals.start
        if decoded is None:
            decoded = self._n_scored * FRAME_SAMPLES
        return max(0, self._audio.end - decoded)

    @property
    def n_samples(self) -> int:
        """Samples received so far, at 16 kHz."""
        return self._audio.end

    @property
    def wants_trace(self) -> bool:
        """Whether the client asked where the time goes."""
        return self._start is not None and self._start.trace

    # ------------------------------------------------------------ inputs

    def receive(self, message: ClientMessage, now_s: float) -> list[Action]:
        """Take one message of the client."""
        if self.state is State.CLOSED or self._error is not None:
            return []
        if self.state not in _TABLE[type(message)]:
            return self.end(ProtocolViolation(_COMPLAINT[self.state]), now_s)
        self._last_input_s = now_s
        match message:
            case Start():
                return self._receive_start(message, now_s)
            case Audio():
                return self._receive_audio(message, now_s)
            case Flush():
                self._n_flushes += 1
                self._marks.append((self._framer.n_frames, message, now_s))
                return self._pass_marks(now_s)
            case Finish():
                return self._receive_finish(message, now_s)
            case KeepAlive():
                return []
            case _:
                assert_never(message)

    def receive_scores(self, probabilities: Sequence[float], now_s: float) -> list[Action]:
        """Take the speech probabilities of the next frames, in the order they were given out."""
        if self.state is State.CLOSED:
            return []
        n_scores = self._n_scored + len(probabilities)
        assert n_scores <= self._framer.n_frames, "more scores than frames given out"
        actions: list[Action] = []
        for probability in probabilities:
            self._heard_s = self._frame_times.at(self._n_scored)
            self._n_scored += 1
            actions += self._follow(self._segmenter.push(probability), now_s)
            actions += self._pass_marks(now_s)
        if not self._is_closed:
            keep_from = self._segmenter.keep_from_frame
            self._audio.forget_before(keep_from * FRAME_SAMPLES)
            self._frame_times.forget_before(keep_from)
        return actions

    def receive_result(self, result: DecodeResult, now_s: float) -> list[Action]:
        """Take the text of a job of this session."""
        if self.state is State.CLOSED:
            return []
        if result.problem is not None:
            raise UnreadableJob(result.problem)
        if not result.final:
            return self._receive_partial(result)
        self._finals.resolve(result)
        further = self._context.take(result) if self._context is not None else []
        return [*map(Submit, further), *self._deliver()]

    def receive_undecodable(self, job: DecodeJob, now_s: float) -> list[Action]:
        """Take note that a final has no text: the client is warned, and the stream goes on."""
        if self._is_closed:
            return []
        warning = Warned("segment_undecodable", f"segment {job.segment} could not be decoded; it is empty")
        empty = job.answered(text="", language=None, now_s=now_s)
        return [self._send(warning), *self.receive_result(empty, now_s)]

    def tick(self, now_s: float) -> list[Action]:
        """Look at the clock; called about once a second."""
        if self.state is State.ENDING:
            assert self._ending_s is not None
            waited_s = now_s - self._ending_s
            if self._error is not None and waited_s > self._settings.error_drain_s:
                return self.fail(self._error)
        elif self.state is not State.CLOSED:
            if self._is_detached or not self.wants_audio:
                self._last_input_s = now_s
            elif now_s - self._last_input_s > self._settings.limits.idle_s:
                idle_s = self._settings.limits.idle_s
                return self.end(IdleTimeout(f"neither audio nor keepalive for {idle_s:g} s"), now_s)
            return self._acknowledge(now_s)
        return []

    def end(self, error: StreamError, now_s: float) -> list[Action]:
        """End by an error, after the finals of what was accepted."""
        if self.state is State.CLOSED or self._error is not None:
            return []
        self._error = error
        if self.state is State.AWAITING_START:
            return self.fail(error)
        if self.state is State.ENDING:
            self._ending_s = now_s
            return self._close_if_done()
        return self._begin_end(now_s)

    def fail(self, error: StreamError) -> list[Action]:
        """End by an error at once."""
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        return [self._durable(Failed(error)), Close(error.close_code)]

    def detach(self) -> None:
        """The connection is lost: until ``resume`` nothing can be received, and that is not idleness."""
        self._is_detached = True

    def resume(self, now_s: float) -> list[Action]:
        """Another connection takes over; the first thing it is told is where it stands."""
        assert self._decoder is not None, "only a session that has started can be resumed"
        self._is_detached = False
        self._last_input_s = now_s
        self._decoder.drop_split()
        n_samples = self._decoder.n_samples
        self._acks.note(n_samples, now_s)
        closing = self.state is not State.STREAMING
        return [self._send(Resumed(self.id, n_samples, self._n_flushes, closing))]

    def disconnect(self) -> None:
        """The connection is gone for good: nothing more can be delivered."""
        self.state = State.CLOSED

    # ------------------------------------------------------------ messages

    def _receive_start(self, message: Start, now_s: float) -> list[Action]:
        refusal = self._settings.model.refusal(message)
        if refusal is not None:
            return self.end(NotSupported(refusal), now_s)
        self._start = message
        self._segmenter = Segmenter(segmenter_config(self._settings.segmenter, message.endpointing))
        self._decoder = AudioDecoder(message.audio)
        wants_context = self._settings.context if message.context is None else message.context
        self._context = Context() if wants_context and self._settings.model.reads_prompts else None
        self.state = State.STREAMING
        settings = self._settings
        return [self._durable(Started(self.id, settings.model.name, settings.limits, settings.features))]

    def _receive_audio(self, message: Audio, now_s: float) -> list[Action]:
        assert self._decoder is not None
        try:
            samples = self._decoder.push(message.data)
        except StreamError as error:
            return self.end(error, now_s)
        actions = self._take_samples(samples, now_s) + self._acknowledge(now_s)
        if not self.wants_audio and now_s - self._lag_s >= LAG_INTERVAL_S:
            self._lag_s = now_s
            actions.append(self._send(Lag(self.behind_samples)))
        return actions

    def _acknowledge(self, now_s: float) -> list[Action]:
        """Tell what was accepted, where that is of use and it is time."""
        if self._decoder is None or self._is_detached or not self._settings.limits.resume_s:
            return []
        assert self._start is not None
        n_samples = self._decoder.n_samples
        if not self._acks.is_due(n_samples, self._start.audio.sample_rate_hz, now_s):
            return []
        self._acks.note(n_samples, now_s)
        return [self._send(Ack(n_samples))]

    def _take_samples(self, samples: NDArray[np.int16], now_s: float) -> list[Action]:
        self._audio.append(samples)
        frames = self._framer.push(samples)
        self._frame_times.append(len(frames), now_s)
        return [Score(frames)] if len(frames) else []

    def _receive_finish(self, message: Finish, now_s: float) -> list[Action]:
        assert self._decoder is not None
        stray = self._decoder.n_stray_bytes
        if stray:
            self._error = BadMessage(
                f"{stray} stray byte(s) at the end are not a whole sample; all samples before were read"
            )
        return self._begin_end(now_s)

    def _begin_end(self, now_s: float) -> list[Action]:
        """Take in what the resampler and the framer hold back, and mark the end."""
        assert self._decoder is not None
        self.state = State.ENDING
        self._ending_s = now_s
        actions = self._take_samples(self._decoder.finish(), now_s)
        tail = self._framer.finish()
        self._frame_times.append(len(tail), now_s)
        if len(tail):
            actions.append(Score(tail))
        self._marks.append((self._framer.n_frames, Finish(), now_s))
        return actions + self._pass_marks(now_s)

    @property
    def _is_closed(self) -> bool:
        return self.state is State.CLOSED

    # ------------------------------------------------------------ segments

    def _pass_marks(self, now_s: float) -> list[Action]:
        """Act on the flushes and the finish that the scores have reached."""
        actions: list[Action] = []
        while self._marks and self._marks[0][0] <= self._n_scored:
            _, mark, self._heard_s = self._marks.popleft()
            if isinstance(mark, Flush):
                actions += self._follow(self._segmenter.flush(), now_s)
                self._finals.mark(self._n_segments)
            else:
                actions += self._follow(self._segmenter.finish(), now_s)
            actions += self._deliver()
        return actions

    def _follow(self, events: Sequence[SegmentEvent], now_s: float) -> list[Action]:
        actions: list[Action] = []
        for event in events:
            match event:
                case SpeechOnset():
                    actions.append(self._durable(SpeechStarted(event.frame * FRAME_SAMPLES)))
                case SegmentGrew():
                    actions += self._ask_partial(event, now_s)
                case SegmentClosed():
                    actions += self._ask_final(event, now_s)
                case _:
                    assert_never(event)
        return actions

    def _ask_partial(self, event: SegmentGrew, now_s: float) -> list[Action]:
        assert self._start is not None
        since = max(self._partial_frame, event.start_frame)
        too_soon = event.end_frame - since < self._settings.partial_frames
        if self._partial_out or too_soon or not self._start.partials or self.state is not State.STREAMING:
            return []
        self._partial_out = True
        self._partial_frame = event.end_frame
        start, end = self._bounds(event.start_frame, event.end_frame)
        return [Submit(self._job(event.segment, start, end, now_s, final=False))]

    def _ask_final(self, event: SegmentClosed, now_s: float) -> list[Action]:
        start, end = self._bounds(event.start_frame, event.end_frame)
        job = self._job(event.segment, start, end, now_s, final=True)
        self._finals.append(PendingFinal(event.segment, start, end, event.utterance_end))
        self._n_segments = event.segment + 1
        self._caption = SegmentCaption()
        self._draft = ()
        self._partial_out = False
        return list(map(Submit, [job] if self._context is None else self._context.offer(job)))

    def _bounds(self, start_frame: int, end_frame: int) -> tuple[int, int]:
        """Frames to samples; the last frame of a stream may be padded beyond what was received."""
        return start_frame * FRAME_SAMPLES, min(end_frame * FRAME_SAMPLES, self._audio.end)

    def _job(self, segment: int, start: int, end: int, now_s: float, *, final: bool) -> DecodeJob:
        assert self._start is not None
        return DecodeJob(
            session=self.id,
            segment=segment,
            revision=self._caption.revision + (not final),
            final=final,
            start=start,
            pcm=self._audio.read(start, end),
            language=self._start.language,
            task=self._start.task,
            tier=self._settings.tier,
            hops=Hops(self._frame_times.at((end - 1) // FRAME_SAMPLES), self._heard_s, now_s),
            draft=self._draft,
            word_times=final and self._start.words,
        )

    # ------------------------------------------------------------ results

    def _receive_partial(self, result: DecodeResult) -> list[Action]:
        if result.segment != self._n_segments:
            return []  # its segment closed meanwhile: the final says it all
        self._partial_out = False
        if result.dropped is not None and not result.text:
            return []  # invented text, see ``engine.guard``: what is shown stays until the next partial
        self._draft = result.tokens
        text, stable = self._caption.update(result.text)
        revision = self._caption.revision
        partial = Partial(result.segment, revision, result.start, result.end, text, stable, result.hops)
        return [self._send(partial)]

    def _deliver(self) -> list[Action]:
        """Send finals, in order, and what waited for them."""
        actions: list[Action] = []
        for ready in self._finals.pop_ready():
            if isinstance(ready, Mark):
                actions.append(self._durable(Flushed()))
            else:
                actions.append(self._final(*ready))
        return actions + self._close_if_done()

    def _final(self, pending: PendingFinal, result: DecodeResult) -> Action:
        assert self._start is not None
        return self._durable(
            Final(
                segment=pending.segment,
                start=pending.start,
                end=pending.end,
                text=result.text,
                language=result.language,
                utterance_end=pending.utterance_end,
                hops=result.hops,
                words=result.words if self._start.words else None,
            )
        )

    def _close_if_done(self) -> list[Action]:
        if self.state is not State.ENDING or len(self._finals) or self._marks:
            return []
        if self._error is not None:
            return self.fail(self._error)
        self.state = State.CLOSED
        return [self._durable(Finished(self._audio.end, self._n_segments)), Close(1000)]

    # ------------------------------------------------------------ events

    def _durable(self, event: Durable) -> Send:
        self._n_durable += 1
        return Send(Numbered(event, self._n_durable))

    def _send(self, event: Transient) -> Send:
        return Send(Numbered(event, None))
