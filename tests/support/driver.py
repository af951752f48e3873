"""The product as a for-loop: no socket, no model, no thread, and a clock that moves when told.

``World`` drives one session, with a VAD and an engine that answer when told, in any order. ``HubWorld``
does the same for a hub. Both speak numbered frames (``stream_server.engine.fake``), so that "nothing
lost, nothing doubled" is an equation.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import AudioFormat
from stream_server.core.actions import Abandon, Action, Close, Score, Send, Submit
from stream_server.core.hub import Hub
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import (
    Audio,
    ClientMessage,
    Failed,
    Final,
    Finished,
    Limits,
    Numbered,
    Partial,
    Resume,
    ServerEvent,
    SessionId,
    SpeechStarted,
    Start,
    Started,
    Tier,
    Transient,
    Utterance,
    Word,
)
from stream_server.core.outbox import Outbox
from stream_server.core.seats import Owner, Seat
from stream_server.core.session import Session
from stream_server.core.settings import ModelFacts, SessionSettings, Tiers
from stream_server.engine.fake import numbers_in, read_numbers
from stream_server.errors import StreamError
from vad.audio import FRAME_SAMPLES
from vad.config import SegmenterConfig

MARK = 12_345
"""First sample of a numbered frame."""
LIMITS = Limits(message_bytes=65_536, idle_s=30.0, ahead_s=10.0)
FACTS = ModelFacts("fake", frozenset({"en", "de"}), can_translate=False)
SETTINGS = SessionSettings(
    tiers=Tiers({Tier.LIVE: FACTS}),
    limits=LIMITS,
    segmenter=SegmenterConfig(),
    sure_word=0.0,
)
RESUMABLE = dataclasses.replace(SETTINGS, limits=dataclasses.replace(LIMITS, resume_s=45.0))
"""Sessions outlive their connections, and acks say how much is safe."""
READING_ON = dataclasses.replace(
    SETTINGS, tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, reads_prompts=True)})
)
"""The model reads on from the text before."""
START = Start(AudioFormat(), tentative=True)

E = TypeVar("E")


def score(frames: NDArray[np.int16]) -> list[float]:
    """What the fake VAD says of frames, int16 (k, 512): a numbered frame is speech."""
    return [float(frame[0] == MARK) for frame in frames]


def answer(
    job: DecodeJob, now_s: float = 0.0, text: str | None = None, word_probabilities: tuple[float, ...] = ()
) -> DecodeResult:
    """What the fake engine says of a job: the numbers in its audio."""
    numbers = read_numbers(np.frombuffer(bytes(job.pcm), dtype="<i2"))
    said = " ".join(map(str, numbers)) if text is None else text
    return job.answered(
        text=said,
        language="en",
        now_s=now_s,
        tokens=tuple(numbers),
        word_probabilities=word_probabilities,
    )


def timed_answer(job: DecodeJob, now_s: float = 0.0) -> DecodeResult:
    """The same with times, where they are wanted; a number whose frame is not whole is heard as another."""
    samples = np.frombuffer(bytes(job.pcm), dtype="<i2")
    first = -job.start % FRAME_SAMPLES
    said = [
        Word(f" {number}", job.start + at, job.start + at + FRAME_SAMPLES)
        for at in range(first, len(samples), FRAME_SAMPLES)
        for number in read_numbers(samples[at : at + FRAME_SAMPLES])
    ]
    text = "".join(word.text for word in said).strip()
    times = (dataclasses.replace(said[0], text=said[0].text.strip()), *said[1:]) if said else ()
    return job.answered(text=text, language="en", now_s=now_s, words=times if job.word_times else ())


def as_bytes(samples: NDArray[np.int16]) -> bytes:
    """Samples as a client sends them by default."""
    return samples.astype("<i2").tobytes()


class World:
    """One session, its VAD and its engine.

    Whatever is told to the session goes through ``take``, which checks what holds always: nothing
    follows a close, and durable events count from 1 without gaps.
    """

    def __init__(self, settings: SessionSettings = SETTINGS, now_s: float = 1_000.0) -> None:
        self.now_s = now_s
        self.session = Session(SessionId("s"), settings, now_s)
        self.frames: deque[NDArray[np.int16]] = deque()
        """Given out and not yet scored."""
        self.jobs: list[DecodeJob] = []
        """Given out and not yet answered."""
        self.abandoned: list[DecodeJob] = []
        """Second looks that the session gave up."""
        self.events: list[ServerEvent] = []
        self.sent_s: list[float] = []
        """When each event was sent."""
        self.close_code: int | None = None
        self._n_durable = 0

    # ------------------------------------------------------------ telling

    def take(self, actions: Sequence[Action]) -> list[ServerEvent]:
        """Perform actions; returns the events among them."""
        first = len(self.events)
        for action in actions:
            assert self.close_code is None, "an action after Close"
            match action:
                case Send(numbered):
                    self._record(numbered)
                case Score(frames):
                    self.frames.extend(frames)
                case Submit(job):
                    if not job.final:  # As in the scheduler: it takes the place of one that waits.
                        self.jobs = [one for one in self.jobs if one.final]
                    self.jobs.append(job)
                case Abandon(job):
                    self.abandoned.append(job)
                    self.jobs = [one for one in self.jobs if not (one.is_look and one.segment == job.segment)]
                case Close(code):
                    self.close_code = code
        return self.events[first:]

    def _record(self, numbered: Numbered) -> None:
        is_durable = not isinstance(numbered.event, Transient)
        self._n_durable += is_durable
        assert numbered.number == (self._n_durable if is_durable else None)
        self.events.append(numbered.event)
        self.sent_s.append(self.now_s)

    def receive(self, message: ClientMessage) -> list[ServerEvent]:
        """The client says something."""
        return self.take(self.session.receive(message, self.now_s))

    def start(self, message: Start = START) -> "World":
        """The client starts."""
        self.receive(message)
        return self

    def send(self, samples: NDArray[np.int16]) -> list[ServerEvent]:
        """The client sends samples, in one message."""
        return self.receive(Audio(as_bytes(samples)))

    def score(self, n_frames: int | None = None) -> list[ServerEvent]:
        """The VAD answers for the next frames; all by default."""
        n_frames = len(self.frames) if n_frames is None else min(n_frames, len(self.frames))
        taken = [self.frames.popleft() for _ in range(n_frames)]
        probabilities = score(np.array(taken)) if taken else []
        return self.take(self.session.receive_scores(probabilities, self.now_s))

    def decode(
        self, index: int = 0, text: str | None = None, word_probabilities: tuple[float, ...] = ()
    ) -> list[ServerEvent]:
        """The engine answers a job."""
        job = self.jobs.pop(index)
        result = answer(job, self.now_s, text, word_probabilities)
        return self.take(self.session.receive_result(result, self.now_s))

    def settle(self) -> "World":
        """VAD and engine answer until they have nothing left to do."""
        while (self.frames or self.jobs) and self.close_code is None:
            self.score()
            if self.jobs:
                self.decode()
        return self

    def pass_time(self, seconds: float) -> list[ServerEvent]:
        """The clock moves on, and ticks once."""
        self.now_s += seconds
        return self.take(self.session.tick(self.now_s))

    def end(self, error: StreamError) -> list[ServerEvent]:
        """The owner ends the session."""
        return self.take(self.session.end(error, self.now_s))

    # ------------------------------------------------------------ asking

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def numbers(self) -> list[int]:
        """What the finals say."""
        return [number for final in self.of(Final) for number in numbers_in(final.text)]

    @property
    def error(self) -> StreamError | None:
        """What the session ended by."""
        failed = self.of(Failed)
        return failed[0].error if failed else None


def kinds(events: Sequence[ServerEvent]) -> list[type[ServerEvent]]:
    """The story in short."""
    return [type(event) for event in events]


def check_story(events: Sequence[ServerEvent]) -> None:
    """What every session's events keep to, wherever they end."""
    finals: list[Final] = []
    looked_at = -1
    for event in events:
        match event:
            case Final():
                assert event.segment == len(finals), "finals are in order, without gaps"
                assert event.start < event.end
                assert not finals or event.start >= finals[-1].end
                finals.append(event)
            case Partial():
                assert event.segment >= len(finals), "a partial after its final"
            case Utterance():
                replaced = finals[event.first_segment : event.last_segment + 1]
                assert len(replaced) == event.last_segment + 1 - event.first_segment > 1, "finals come first"
                assert (event.start, event.end) == (replaced[0].start, replaced[-1].end)
                assert not any(final.utterance_end for final in replaced[:-1]), "more than one utterance"
                assert event.first_segment > looked_at, "looked at twice"
                looked_at = event.last_segment
            case _:
                pass
    for segment in {event.segment for event in events if isinstance(event, Partial)}:
        shown = [event for event in events if isinstance(event, Partial) and event.segment == segment]
        revision = 0
        for partial in shown:
            assert partial.revision > revision
            assert partial.start == shown[0].start
            revision = partial.revision
    if events:
        ends = [i for i, event in enumerate(events) if isinstance(event, Finished | Failed)]
        assert ends in ([], [len(events) - 1]), "an end that is not the last event"
        assert isinstance(events[0], Started | Failed)


def check_complete(events: Sequence[ServerEvent]) -> None:
    """What holds of a session that ended as the protocol says: everything shown has its final."""
    check_story(events)
    finals = [event for event in events if isinstance(event, Final)]
    shown = {event.segment for event in events if isinstance(event, Partial)}
    assert shown <= {final.segment for final in finals}
    n_utterances = sum(isinstance(event, SpeechStarted) for event in events)
    assert sum(final.utterance_end for final in finals) == n_utterances
    for event in events:
        if isinstance(event, Finished):
            assert event.segments == len(finals)


# ---------------------------------------------------------------- a hub


class FakeScorer:
    """A VAD stage that answers when told."""

    def __init__(self) -> None:
        self.waiting: dict[SessionId, deque[NDArray[np.int16]]] = {}
        self.withdrawn: list[SessionId] = []

    def submit(self, session: SessionId, frames: NDArray[np.int16]) -> None:
        self.waiting.setdefault(session, deque()).extend(frames)

    def withdraw(self, session: SessionId) -> None:
        self.waiting.pop(session, None)
        self.withdrawn.append(session)


class FakeDecoder:
    """An engine that answers when told, and can be full."""

    def __init__(self) -> None:
        self.jobs: list[DecodeJob] = []
        self.withdrawn: list[SessionId] = []
        self.refuse_finals: StreamError | None = None

    def submit(self, job: DecodeJob) -> None:
        if self.refuse_finals is not None and job.final:
            raise self.refuse_finals
        self.jobs.append(job)

    def abandon(self, job: DecodeJob) -> None:
        self.jobs = [one for one in self.jobs if not (one.is_look and one.segment == job.segment)]

    def withdraw(self, session: SessionId) -> None:
        self.jobs = [job for job in self.jobs if job.session != session]
        self.withdrawn.append(session)


class Client:
    """One seat of a hub and what was written to it."""

    def __init__(
        self, world: "HubWorld", name: str, owner: str = "me", *, only_resumes: bool = False
    ) -> None:
        self.id = SessionId(name)
        self.n_wakes = 0
        self.seen: list[Numbered] = []
        self._world = world
        self.seat: Seat = world.hub.open(
            self.id,
            self._wake,
            world.now_s,
            owner=Owner(owner, f"/source/{owner}", "00c0ffee"),
            only_resumes=only_resumes,
        )

    def _wake(self) -> None:
        self.n_wakes += 1

    def say(self, message: ClientMessage) -> "Client":
        self._world.hub.receive(self.id, message, self._world.now_s)
        return self

    def resume(self, session: SessionId, event: int) -> "Client":
        """Go on with a session, as the first message."""
        self.seat = self._world.hub.resume(self.seat, Resume(session, event), self._world.now_s)
        if self.seat.session.id == session:
            self.id = session
        return self

    def leave(self, close_code: int | None = 1000) -> None:
        """The connection ends, by a close code, or breaks."""
        self._world.hub.leave(self.seat, self._world.now_s, close_code)

    def speak(self, samples: NDArray[np.int16]) -> "Client":
        return self.say(Audio(as_bytes(samples)))

    def read(self) -> list[ServerEvent]:
        """Take everything that waits; returns all that was ever read."""
        outbox: Outbox = self.seat.outbox
        while (numbered := outbox.pop()) is not None:
            self.seen.append(numbered)
        durable = [numbered.number for numbered in self.seen if numbered.number is not None]
        assert durable == list(range(durable[0], durable[0] + len(durable)) if durable else [])
        return self.events

    @property
    def events(self) -> list[ServerEvent]:
        return [numbered.event for numbered in self.seen]

    @property
    def numbers(self) -> list[int]:
        finals = [event for event in self.read() if isinstance(event, Final)]
        return [number for final in finals for number in numbers_in(final.text)]


class FakeWatcher:
    """Counts what it is told, as the operator's metrics do."""

    def __init__(self) -> None:
        self.open: list[Seat] = []
        self.detached: list[SessionId] = []
        self.n_resumed = 0
        self.gone: list[Seat] = []

    def session_opened(self, seat: Seat) -> None:
        self.open.append(seat)

    def session_detached(self, seat: Seat) -> None:
        self.detached.append(seat.session.id)

    def session_resumed(self, seat: Seat, *, was_detached: bool) -> None:
        self.n_resumed += 1
        if was_detached:
            self.detached.remove(seat.session.id)

    def session_gone(self, seat: Seat) -> None:
        if seat.detached_s is not None:
            self.detached.remove(seat.session.id)
        self.gone.append(seat)


class HubWorld:
    """A hub over fake stages."""

    def __init__(self, settings: SessionSettings = SETTINGS, **options: object) -> None:
        self.now_s = 1_000.0
        self.watcher = FakeWatcher()
        self.scorer = FakeScorer()
        self.decoder = FakeDecoder()
        self.bugs: list[SessionId] = []
        self.hub = Hub(
            settings,
            self.scorer,
            self.decoder,
            report_bug=self.bugs.append,
            watcher=self.watcher,
            **options,  # type: ignore[arg-type]  passed on as they are
        )

    def open(self, name: str, owner: str = "me", *, start: bool = True) -> Client:
        client = Client(self, name, owner)
        return client.say(START) if start else client

    def resume(self, client: Client, owner: str = "me", *, name: str = "again") -> Client:
        """Another connection goes on with a client's session, after the last event that this one read."""
        numbers = [numbered.number for numbered in client.seen if numbered.number is not None]
        again = Client(self, name, owner, only_resumes=True)
        return again.resume(client.id, numbers[-1] if numbers else 0)

    def score(self, session: SessionId) -> None:
        """The VAD answers for everything a session has waiting."""
        frames = self.scorer.waiting.pop(session, deque())
        if frames:
            self.hub.receive_scores(session, score(np.array(frames)), self.now_s)

    def decode(self, index: int = 0) -> None:
        """The engine answers a job."""
        self.hub.receive_result(answer(self.decoder.jobs.pop(index), self.now_s), self.now_s)

    def settle(self) -> None:
        """All stages answer until they have nothing left to do."""
        while self.scorer.waiting or self.decoder.jobs:
            for session in list(self.scorer.waiting):
                self.score(session)
            if self.decoder.jobs:
                self.decode()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.hub.tick(self.now_s)
