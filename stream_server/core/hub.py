"""All sessions of a server: what happened goes in, what is to be done goes to the right stage.

The hub owns sessions and their outboxes; it knows the VAD stage only as the protocol below, and the engine
as that of ``core.held_jobs``. A result or a score that comes back for a session that is gone is dropped and
counted, never given to somebody else: everything is addressed by session id.

A connection has a *seat*, see ``core.seats``. When it is lost, its session stays on the seat, *detached*:
finals go on being made and wait in the replay log. ``resume`` gives the session to the seat of another
connection of the same identity, also while the old connection seems alive, for a client knows first that
it is not. Who does not come back in ``resume_s`` ends like any other session: by an error, its finals
before it.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from stream_server.core.actions import Abandon, Action, Close, Score, Send, Submit
from stream_server.core.held_jobs import Decoder, HeldJobs
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import Audio, ClientMessage, Resume, SessionId, Start
from stream_server.core.outbox import Outbox
from stream_server.core.quotas import AudioQuotas
from stream_server.core.replay import ReplayLog
from stream_server.core.rooms import Rooms
from stream_server.core.seats import Owner, Seat, Watcher
from stream_server.core.session import Session, State
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.errors import (
    InternalError,
    NotSupported,
    ProtocolViolation,
    QuotaExceeded,
    ResumeExpired,
    ShuttingDown,
    SlowReader,
    StreamError,
    UnknownSession,
)

TAKEN_OVER = 4001
"""Close code of a connection whose session was resumed by another one; RFC 6455 leaves 4000 to 4999 to
applications, and a client that is told so must not resume in turn."""
EXPIRED_MAX = 1024
"""Sessions remembered after their time, so that who comes too late learns that it was too late."""


class Scorer(Protocol):
    """The VAD stage, as the hub needs it."""

    def submit(self, session: SessionId, frames: NDArray[np.int16]) -> None:
        """Score frames, int16 (k, 512); the probabilities come back by ``Hub.receive_scores``."""

    def withdraw(self, session: SessionId) -> None:
        """Forget a session's state and whatever it has waiting."""


class Hub:
    """The sessions of one server, on one thread.

    Args:
        settings: The same for all sessions.
        scorer: The VAD stage.
        decoder: The engine.
        report_bug: Called inside the ``except`` of an exception nobody expected, to log it.
        watcher: Told what becomes of sessions.
        rooms: Where sessions publish whose ``Start`` names a room; None refuses it.
        quotas: Counts the audio of identities that may send so much a day; None lets all send any.
        outbox_max: Durable events waiting for one client before it counts as not reading.
        outbox_wait_s: The same as a time.
        replay_max: Durable events of a session that are kept for a client that comes back.
        detached_max: Sessions without a connection; the one that waits longest makes room.
    """

    def __init__(
        self,
        settings: SessionSettings,
        scorer: Scorer,
        decoder: Decoder,
        *,
        report_bug: Callable[[SessionId], None],
        watcher: Watcher,
        rooms: Rooms | None = None,
        quotas: AudioQuotas | None = None,
        outbox_max: int = 256,
        outbox_wait_s: float = 10.0,
        replay_max: int = 512,
        detached_max: int = 200,
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._jobs = HeldJobs(decoder)
        self._report_bug = report_bug
        self._rooms = rooms
        self._quotas = quotas
        self._outbox_max = outbox_max
        self._outbox_wait_s = outbox_wait_s
        self._watcher = watcher
        self._replay_max = replay_max
        self._detached_max = detached_max
        self._seats: dict[SessionId, Seat] = {}
        self._expired: OrderedDict[SessionId, tuple[str, str]] = OrderedDict()  # who may resume
        self._closing: StreamError | None = None
        self.n_orphans = 0
        """Scores and results that came back for sessions already gone."""
        self.n_looks_given_up = 0
        """Second looks at utterances that were wanted and not waited for."""

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def n_detached(self) -> int:
        """Sessions without a connection."""
        return sum(seat.detached_s is not None for seat in self._seats.values())

    def open(
        self,
        session_id: SessionId,
        wake: Callable[[], None],
        now_s: float,
        *,
        owner: Owner,
        only_resumes: bool = False,
    ) -> Seat:
        """Seat a new session. The caller must ``leave`` when its connection is gone.

        Args:
            session_id: 128 random bits.
            wake: See ``Seat``.
            now_s: Monotonic seconds.
            owner: No other identity can resume the session.
            only_resumes: See ``Seat``.
        """
        session = Session(session_id, self._settings, now_s)
        outbox = Outbox(self._outbox_max, self._outbox_wait_s)
        seat = Seat(
            session, ReplayLog(self._replay_max), outbox, wake, owner, now_s, only_resumes=only_resumes
        )
        self._seats[session_id] = seat
        self._watcher.session_opened(seat)
        if self._closing is not None:
            # Nobody is woken: the caller does not have the seat yet.
            self._perform(seat, session.fail(self._closing), now_s)
        return seat

    def leave(self, seat: Seat, now_s: float, close_code: int | None) -> None:
        """A seat's connection is gone.

        Args:
            seat: From ``open`` or ``resume``.
            now_s: Monotonic seconds.
            close_code: By which client and server parted; whatever the session has under way is
                withdrawn. None where the connection broke: the client may not know, and come back.
        """
        if self._seats.get(seat.session.id) is not seat:
            return  # Its session sits elsewhere.
        can_wait = self._settings.limits.resume_s > 0 and seat.session.has_started and not seat.is_abandoned
        if close_code is None and can_wait:
            self._detach(seat, now_s)
        else:
            seat.close_code = seat.close_code or close_code
            self._remove(seat, now_s)

    def _detach(self, seat: Seat, now_s: float) -> None:
        seat.detached_s = now_s
        seat.wake = _nobody
        seat.session.detach()
        self._watcher.session_detached(seat)
        waiting = [other for other in self._seats.values() if _is_waiting(other)]
        if len(waiting) > self._detached_max:
            self._expire(min(waiting, key=lambda other: other.detached_s or 0.0), now_s)

    def _expire(self, seat: Seat, now_s: float) -> None:
        """Nobody came back: the session ends as any does that ends by an error."""
        seat.has_expired = True
        self._expired[seat.session.id] = seat.owner.resumes_as
        if len(self._expired) > EXPIRED_MAX:
            self._expired.popitem(last=False)
        error = ResumeExpired("the connection was not resumed in time; start another session")
        self._attempt(seat, lambda: seat.session.end(error, now_s), now_s)
        if seat.is_done:
            self._remove(seat, now_s)

    def _remove(self, seat: Seat, now_s: float) -> None:
        session_id = seat.session.id
        del self._seats[session_id]
        seat.session.disconnect()
        if self._rooms is not None:
            self._rooms.leave(session_id, now_s)
        self._scorer.withdraw(session_id)
        self._jobs.withdraw(session_id)
        self._watcher.session_gone(seat)

    def receive(self, session_id: SessionId, message: ClientMessage, now_s: float) -> None:
        """One message of a client."""
        seat = self._seats[session_id]
        if seat.only_resumes and isinstance(message, Start):
            error = ProtocolViolation("this connection was opened to resume; start on one without ?resume")
            self._attempt(seat, lambda: seat.session.end(error, now_s), now_s)
        else:
            self._attempt(seat, lambda: self._receive(seat, message, now_s), now_s)

    def _receive(self, seat: Seat, message: ClientMessage, now_s: float) -> list[Action]:
        if isinstance(message, Start) and seat.session.state is State.AWAITING_START:
            try:
                self._enter_room(seat.session.id, message, now_s)
            except StreamError as error:
                return seat.session.end(error, now_s)
        if isinstance(message, Audio) and self._quotas is not None:
            return self._receive_counted(seat, message, self._quotas, now_s)
        return seat.session.receive(message, now_s)

    def _receive_counted(self, seat: Seat, message: Audio, quotas: AudioQuotas, now_s: float) -> list[Action]:
        """Take audio, all of it, and end the session if that was more than its owner may send today."""
        session, path = seat.session, seat.owner.path
        n_before = session.n_samples
        actions = session.receive(message, now_s)
        quotas.spend(path, session.n_samples - n_before)
        if quotas.is_exceeded(path):
            error = QuotaExceeded("this certificate has sent all the audio it may send before midnight UTC")
            actions += session.end(error, now_s)
        return actions

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

    def resume(self, seat: Seat, message: Resume, now_s: float) -> Seat:
        """Let a connection that has not started go on with an earlier session of its identity.

        Returns:
            The connection's seat from now on. It is the same one if the session cannot be resumed, which
            the client is then told; the session itself is left as it was.
        """
        try:
            held = self._resumable(seat, message.session)
            missed = held.replay.after(message.event)
        except StreamError as error:
            self.refuse(seat.session.id, error, now_s)
            return seat
        del self._seats[seat.session.id]
        outbox = Outbox(self._outbox_max + len(missed), self._outbox_wait_s)
        heir = Seat(held.session, held.replay, outbox, seat.wake, seat.owner, held.opened_s)
        self._seats[held.session.id] = heir
        close_code, held.close_code = held.close_code, TAKEN_OVER
        held.outbox.clear()
        held.wake()
        self._perform(heir, held.session.resume(now_s), now_s)
        for numbered in missed:
            outbox.push(numbered, now_s)
        # Only here: an action after it would not be performed.
        heir.close_code = close_code
        heir.wake()
        self._watcher.session_resumed(heir, was_detached=held.detached_s is not None)
        return heir

    def _resumable(self, seat: Seat, session_id: SessionId) -> Seat:
        """The seat of a session that the owner of another seat may go on with."""
        if not self._settings.limits.resume_s:
            raise NotSupported("this server does not offer resume; send start")
        if seat.session.state is not State.AWAITING_START:
            raise ProtocolViolation("resume can only be the first message of a connection")
        held = self._seats.get(session_id)
        # Whoever is not the owner learns nothing, not even that there is such a session.
        if self._expired.get(session_id) == seat.owner.resumes_as:
            raise ResumeExpired(
                f"this session waited {self._settings.limits.resume_s:g} s for its client, or had to make"
                " room; start another one"
            )
        if held is None or held.owner.resumes_as != seat.owner.resumes_as or not held.session.has_started:
            raise UnknownSession("this certificate has no such session here; start another one")
        return held

    def receive_scores(self, session_id: SessionId, probabilities: Sequence[float], now_s: float) -> None:
        """Speech probabilities of the session's next frames."""
        self._hand(session_id, lambda session: session.receive_scores(probabilities, now_s), now_s)

    def receive_result(self, result: DecodeResult, now_s: float) -> None:
        """The text of a job."""
        self._jobs.offer()
        self._hand(result.session, lambda session: session.receive_result(result, now_s), now_s)

    def receive_undecodable(self, job: DecodeJob, now_s: float) -> None:
        """A final that the engine cannot decode."""
        self._hand(job.session, lambda session: session.receive_undecodable(job, now_s), now_s)

    def _hand(self, session_id: SessionId, step: Callable[[Session], Sequence[Action]], now_s: float) -> None:
        """Let a session take what came back for it, if it is still there."""
        seat = self._seats.get(session_id)
        if seat is None:
            self.n_orphans += 1
        else:
            self._attempt(seat, lambda: step(seat.session), now_s)

    def tick(self, now_s: float) -> None:
        """About once a second: idle clients, clients that do not read, drains that take too long."""
        self._jobs.offer()
        for seat in list(self._seats.values()):
            if seat.detached_s is not None:
                self._tick_detached(seat, seat.detached_s, now_s)
            elif seat.outbox.is_overdue(now_s):
                self._abandon(seat, now_s)
            else:
                self._attempt(seat, functools.partial(seat.session.tick, now_s), now_s)

    def _tick_detached(self, seat: Seat, detached_s: float, now_s: float) -> None:
        self._attempt(seat, lambda: seat.session.tick(now_s), now_s)
        if not seat.has_expired:
            if now_s - detached_s > self._settings.limits.resume_s:
                self._expire(seat, now_s)
        elif seat.is_done:
            self._remove(seat, now_s)

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

    def use(self, tiers: Tiers) -> None:
        """Have sessions that are opened from here on read by these models."""
        self._settings = replace(self._settings, tiers=tiers)

    def n_read_by(self, tiers: Tiers) -> int:
        """How many sessions these models read."""
        return sum(seat.session.tiers is tiers for seat in self._seats.values())

    def end_read_by(self, tiers: Tiers, error: StreamError, now_s: float) -> None:
        """End the sessions that these models read by an error, finals first."""
        for seat in [seat for seat in self._seats.values() if seat.session.tiers is tiers]:
            self._attempt(seat, functools.partial(seat.session.end, error, now_s), now_s)

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
        for action in actions:
            match action:
                case Send(numbered):
                    seat.send(numbered, now_s)
                    if self._rooms is not None:
                        self._rooms.publish(seat.session.id, numbered.event, now_s)
                case Score(frames):
                    self._scorer.submit(seat.session.id, frames)
                case Submit(job):
                    self._jobs.submit(job)
                case Abandon(job):
                    self.n_looks_given_up += 1
                    self._jobs.abandon(job)
                case Close(code):
                    seat.close_code = code
                case _:
                    assert_never(action)


def _nobody() -> None:
    """Wakes the writer of a connection that is gone."""


def _is_waiting(seat: Seat) -> bool:
    return seat.detached_s is not None and not seat.has_expired
