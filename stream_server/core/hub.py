"""All sessions of a server: what happened goes in, what is to be done goes to the right stage.

The hub owns sessions and their outboxes; it knows the VAD stage and the engine only as the two
protocols below. A result or a score that comes back for a session that is gone is dropped and
counted, never given to somebody else: everything is addressed by session id.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.core.actions import Action, Close, Score, Send, Submit
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import ClientMessage, SessionId, Start
from stream_server.core.outbox import Outbox
from stream_server.core.rooms import Rooms
from stream_server.core.session import Session, State
from stream_server.core.settings import SessionSettings
from stream_server.errors import InternalError, NotSupported, ShuttingDown, SlowReader, StreamError


class Scorer(Protocol):
    """The VAD stage, as the hub needs it."""

    def submit(self, session: SessionId, frames: NDArray[np.int16]) -> None:
        """Score frames, int16 (k, 512); the probabilities come back by ``Hub.receive_scores``."""

    def withdraw(self, session: SessionId) -> None:
        """Forget a session's state and whatever it has waiting."""


class Decoder(Protocol):
    """The engine, as the hub needs it."""

    def submit(self, job: DecodeJob) -> None:
        """Decode a window; the text comes back by ``Hub.receive_result``."""

    def withdraw(self, session: SessionId) -> None:
        """Forget whatever a session has waiting."""


class Seat:
    """One session's place in the hub: the session, its outbox, and how to wake its writer."""

    def __init__(self, session: Session, outbox: Outbox, wake: Callable[[], None]) -> None:
        self.session = session
        self.outbox = outbox
        self.wake = wake
        """Called when there is something to write, to close, or audio is wanted again."""
        self.close_code: int | None = None
        """Set when the connection is to be closed after the outbox is empty."""
        self.is_abandoned = False
        """The client does not read: do not wait for the outbox."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be queued."""
        return self.close_code is not None


class Hub:
    """The sessions of one server, on one thread.

    Args:
        settings: The same for all sessions.
        scorer: The VAD stage.
        decoder: The engine.
        report_bug: Called inside the ``except`` of an exception nobody expected, to log it.
        rooms: Where sessions publish whose ``Start`` names a room; None refuses it.
        outbox_max: Durable events waiting for one client before it counts as not reading.
        outbox_wait_s: The same as a time.
    """

    def __init__(
        self,
        settings: SessionSettings,
        scorer: Scorer,
        decoder: Decoder,
        *,
        report_bug: Callable[[SessionId], None],
        rooms: Rooms | None = None,
        outbox_max: int = 256,
        outbox_wait_s: float = 10.0,
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._decoder = decoder
        self._report_bug = report_bug
        self._rooms = rooms
        self._outbox_max = outbox_max
        self._outbox_wait_s = outbox_wait_s
        self._seats: dict[SessionId, Seat] = {}
        self._closing: StreamError | None = None
        self.n_orphans = 0
        """Scores and results that came back for sessions already gone."""

    def __len__(self) -> int:
        return len(self._seats)

    def open(self, session_id: SessionId, wake: Callable[[], None], now_s: float) -> Seat:
        """Seat a new session. The caller must ``leave`` when its connection is gone."""
        session = Session(session_id, self._settings, now_s)
        seat = Seat(session, Outbox(self._outbox_max, self._outbox_wait_s), wake)
        self._seats[session_id] = seat
        if self._closing is not None:
            # Nobody is woken: the caller does not have the seat yet.
            self._perform(seat, session.fail(self._closing), now_s)
        return seat

    def leave(self, session_id: SessionId, now_s: float) -> None:
        """The connection is gone; whatever the session has under way is withdrawn."""
        seat = self._seats.pop(session_id)
        seat.session.disconnect()
        if self._rooms is not None:
            self._rooms.leave(session_id, now_s)
        self._scorer.withdraw(session_id)
        self._decoder.withdraw(session_id)

    def receive(self, session_id: SessionId, message: ClientMessage, now_s: float) -> None:
        """One message of a client."""
        seat = self._seats[session_id]
        self._attempt(seat, lambda: self._receive(seat, message, now_s), now_s)

    def _receive(self, seat: Seat, message: ClientMessage, now_s: float) -> list[Action]:
        if isinstance(message, Start) and seat.session.state is State.AWAITING_START:
            try:
                self._enter_room(seat.session.id, message, now_s)
            except StreamError as error:
                return seat.session.end(error, now_s)
        return seat.session.receive(message, now_s)

    def _enter_room(self, session_id: SessionId, start: Start, now_s: float) -> None:
        if start.room is None:
            return
        if self._rooms is None:
            raise NotSupported("this server has no rooms; leave start.room out")
        assert start.speaker is not None, "whoever knows the identity names the speaker"
        self._rooms.enter(session_id, start.room, start.speaker, now_s)

    def refuse(self, session_id: SessionId, error: StreamError, now_s: float) -> None:
        """A message that could not be read: end the session, its finals first."""
        seat = self._seats[session_id]
        self._attempt(seat, lambda: seat.session.end(error, now_s), now_s)

    def receive_scores(self, session_id: SessionId, probabilities: Sequence[float], now_s: float) -> None:
        """Speech probabilities of the session's next frames."""
        seat = self._seats.get(session_id)
        if seat is None:
            self.n_orphans += 1
            return
        self._attempt(seat, lambda: seat.session.receive_scores(probabilities, now_s), now_s)

    def receive_result(self, result: DecodeResult, now_s: float) -> None:
        """The text of a job."""
        seat = self._seats.get(result.session)
        if seat is None:
            self.n_orphans += 1
            return
        self._attempt(seat, lambda: seat.session.receive_result(result, now_s), now_s)

    def tick(self, now_s: float) -> None:
        """About once a second: idle clients, clients that do not read, drains that take too long."""
        for seat in list(self._seats.values()):
            if seat.outbox.is_overdue(now_s):
                self._abandon(seat, now_s)
            else:
                self._attempt(seat, functools.partial(seat.session.tick, now_s), now_s)

    def _abandon(self, seat: Seat, now_s: float) -> None:
        """Give up a client that does not read."""
        error = SlowReader("events were left unread for too long")
        self._perform(seat, seat.session.fail(error), now_s)
        seat.close_code = error.close_code
        seat.is_abandoned = True
        seat.wake()

    def drain(self, now_s: float) -> None:
        """End every session by ``shutting_down``, finals first, and refuse new ones."""
        self._closing = ShuttingDown("the server is stopping; connect again")
        for seat in list(self._seats.values()):
            self._attempt(seat, functools.partial(seat.session.end, self._closing, now_s), now_s)

    def fail_all(self, error: StreamError, now_s: float) -> None:
        """End every session at once, and refuse new ones."""
        self._closing = error
        for seat in list(self._seats.values()):
            self._attempt(seat, functools.partial(seat.session.fail, error), now_s)

    def _attempt(self, seat: Seat, step: Callable[[], Sequence[Action]], now_s: float) -> None:
        """Let one session take one step; a bug in it ends that session and no other."""
        try:
            self._perform(seat, step(), now_s)
        except Exception:
            self._report_bug(seat.session.id)
            error = InternalError("the server made a mistake; its log has the details")
            self._perform(seat, seat.session.fail(error), now_s)
        # Even without an action the session may have caught up and want audio again.
        seat.wake()

    def _perform(self, seat: Seat, actions: Sequence[Action], now_s: float) -> None:
        refused: StreamError | None = None
        for action in actions:
            match action:
                case Send(numbered):
                    seat.outbox.push(numbered, now_s)
                    if self._rooms is not None:
                        self._rooms.publish(seat.session.id, numbered.event, now_s)
                case Score(frames):
                    self._scorer.submit(seat.session.id, frames)
                case Submit(job):
                    try:
                        self._decoder.submit(job)
                    except StreamError as error:
                        refused = error
                case Close(code):
                    seat.close_code = code
                case _:
                    assert_never(action)
        if refused is not None:
            # Only after the other actions, whose events are numbered already: an error is the last event.
            self._perform(seat, seat.session.fail(refused), now_s)
