"""One client's life, from ``start`` to the last event.

A session is told what happened and answers with the actions to perform, in order. What becomes of the audio
is ``core.transcription``'s; this module keeps the rules between client and server:

1. States: AWAITING_START → STREAMING → ENDING → CLOSED. What a client message does in which state is
   the table ``_TABLE``; a pair that is not in it is a protocol violation.
2. A session that ends, well or not, first delivers the finals of what it accepted: a client's mistake
   loses nothing. Only a dead engine, a client that does not read and a bug of ours end it at once.
3. Whatever was received is safe from a lost connection: ``Ack`` tells how much that is. A session whose
   connection is lost waits for another; ``resume`` tells from which sample on the client sends again.
   Only whole samples count, and the resampler's history stays, so nothing is heard of the break.
4. Audio more than ``ahead_s`` ahead of decoding turns ``wants_audio`` false: the socket is left
   unread until decoding has caught up. Idle time does not count meanwhile.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import SAMPLE_RATE_HZ, AudioDecoder
from stream_server.core.acks import AckClock
from stream_server.core.actions import Abandon, Action, Close, Score, Send, Submit
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import (
    Ack,
    Audio,
    ClientMessage,
    Durable,
    Failed,
    Finish,
    Finished,
    Flush,
    KeepAlive,
    Lag,
    Numbered,
    Partial,
    Resumed,
    SessionId,
    Start,
    Started,
    Transient,
    Warned,
)
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.core.transcription import Step, Transcription
from stream_server.errors import (
    BadMessage,
    IdleTimeout,
    NotSupported,
    ProtocolViolation,
    StreamError,
)

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
        self._transcription: Transcription | None = None
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
    def tiers(self) -> Tiers:
        """The models that read it."""
        return self._settings.tiers

    @property
    def has_started(self) -> bool:
        """Whether ``Started`` was said; only then is there something to resume."""
        return self._decoder is not None

    @property
    def wants_audio(self) -> bool:
        """Whether the socket should be read; False is back-pressure."""
        if self._transcription is None:
            return True
        has_caught_up = self.behind_samples <= self._settings.limits.ahead_s * SAMPLE_RATE_HZ
        return has_caught_up and self._transcription.n_marks < FLUSHES_MAX

    @property
    def behind_samples(self) -> int:
        """Samples received and not yet decoded, at 16 kHz."""
        return 0 if self._transcription is None else self._transcription.behind_samples

    @property
    def n_samples(self) -> int:
        """Samples received so far, at 16 kHz."""
        return 0 if self._transcription is None else self._transcription.n_samples

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
                return self._perform(self._streaming.flush(now_s))
            case Finish():
                return self._receive_finish(now_s)
            case KeepAlive():
                return []
            case _:
                assert_never(message)

    def receive_scores(self, probabilities: Sequence[float], now_s: float) -> list[Action]:
        """Take the speech probabilities of the next frames, in the order they were given out."""
        if self.state is State.CLOSED:
            return []
        return self._perform(self._streaming.push_scores(probabilities, now_s)) + self._close_if_done()

    def receive_result(self, result: DecodeResult, now_s: float) -> list[Action]:
        """Take the text of a job of this session."""
        if self.state is State.CLOSED:
            return []
        return self._perform(self._streaming.take(result, now_s)) + self._close_if_done()

    def receive_undecodable(self, job: DecodeJob, now_s: float) -> list[Action]:
        """Take note that a final has no text: the client is warned, and the stream goes on.

        A second look that has none leaves the finals as they are, of which nobody need be warned.
        """
        if self.state is State.CLOSED:
            return []
        if job.is_look:
            return self.receive_result(job.answered(text="", language=None, now_s=now_s), now_s)
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
            return self._perform(self._streaming.tick(now_s)) + self._close_if_done()
        elif self.state is not State.CLOSED:
            if self._is_detached or not self.wants_audio:
                self._last_input_s = now_s
            elif now_s - self._last_input_s > self._settings.limits.idle_s:
                idle_s = self._settings.limits.idle_s
                return self.end(IdleTimeout(f"neither audio nor keepalive for {idle_s:g} s"), now_s)
            late = [] if self._transcription is None else self._perform(self._transcription.tick(now_s))
            return late + self._acknowledge(now_s)
        return []

    def end(self, error: StreamError, now_s: float) -> list[Action]:
        """End by an error, after the finals of what was accepted; second looks are given up."""
        if self.state is State.CLOSED or self._error is not None:
            return []
        self._error = error
        if self.state is State.AWAITING_START:
            return self.fail(error)
        given_up = self._perform(self._streaming.give_up_looks())
        if self.state is State.ENDING:
            self._ending_s = now_s
            return given_up + self._close_if_done()
        return given_up + self._begin_end(now_s)

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
        model = self._settings.tiers.model_of(message)
        refusal = self._settings.refusal(message)
        if refusal is not None:
            return self.end(NotSupported(refusal), now_s)
        self._start = message
        self._decoder = AudioDecoder(message.audio)
        self._transcription = Transcription(self.id, message, self._settings, now_s)
        self.state = State.STREAMING
        features = (*self._settings.features, *model.features)
        return [self._durable(Started(self.id, model.name, self._settings.limits, features))]

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
        return _scored(self._streaming.append(samples, now_s))

    def _receive_finish(self, now_s: float) -> list[Action]:
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
        actions += _scored(self._streaming.end_audio(now_s))
        return actions + self._perform(self._streaming.finish(now_s)) + self._close_if_done()

    @property
    def _streaming(self) -> Transcription:
        """What becomes of the audio; only once the session has started."""
        assert self._transcription is not None, "the session has not started"
        return self._transcription

    def _close_if_done(self) -> list[Action]:
        if self.state is not State.ENDING or not self._streaming.is_done:
            return []
        if self._error is not None:
            return self.fail(self._error)
        self.state = State.CLOSED
        streaming = self._streaming
        finished = Finished(self.n_samples, streaming.n_segments, streaming.transcript)
        return [self._durable(finished), Close(1000)]

    # ------------------------------------------------------------ events

    def _perform(self, steps: Iterable[Step]) -> list[Action]:
        actions: list[Action] = []
        for step in steps:
            match step:
                case Submit() | Abandon():
                    actions.append(step)
                case Partial():
                    actions.append(self._send(step))
                case _:
                    actions.append(self._durable(step))
        return actions

    def _durable(self, event: Durable) -> Send:
        self._n_durable += 1
        return Send(Numbered(event, self._n_durable))

    def _send(self, event: Transient) -> Send:
        return Send(Numbered(event, None))


def _scored(frames: NDArray[np.int16]) -> list[Action]:
    return [Score(frames)] if len(frames) else []
