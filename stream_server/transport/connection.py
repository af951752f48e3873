"""One WebSocket connection: a task that reads into the session and one that writes its events.

Neither decides anything. The reader stops reading while the session is too far ahead of decoding;
the writer writes what the outbox gives and closes when the session says so. Whatever happens, the
connection leaves its seat in the hub when it is gone; the hub decides whether the session stays.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CTRL_OPCODES, Frame
from websockets.protocol import Event

from certs.identity import Identity
from stream_server.core.frame_budget import FrameBudget
from stream_server.core.hops import Budget, budget_of
from stream_server.core.hub import TAKEN_OVER, Hub
from stream_server.core.messages import (
    ClientMessage,
    Final,
    Partial,
    Resume,
    ServerEvent,
    SessionId,
    Start,
)
from stream_server.core.policy import PolicyInForce, Right
from stream_server.core.room_messages import SPEAKER_LENGTH_MAX
from stream_server.core.seats import Owner, Seat
from stream_server.core.writer_tokens import WriterToken
from stream_server.dialects import native
from stream_server.errors import InternalError, NotAllowed, StreamError
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import actor_of
from stream_server.transport.gate import will_resume
from stream_server.transport.presence import Presence, Present
from stream_server.transport.responses import AddressedConnection, address_of

_log = logging.getLogger(__name__)

PING_S = 20.0
"""Between pings, and how long each may stay unanswered: a dead peer is gone after 40 s."""
GIVEN_UP_S = 0.5
"""For the last words to a client that was cut off for its frames."""
DISMISS_S = 5.0
"""How long a client that does not read gets to take its error."""
TAKEN_OVER_REASON = "the session was resumed over another connection"
LEAVING = frozenset({1000, 1001})
"""Codes by which a client goes for good. By any other, such as 1011 for a ping that stayed unanswered, its
library has given up a connection, not the user a stream."""


SLICE_BYTES = 4_096
"""What is parsed before frames are counted: one read may hold 40,000 of them."""
TOO_MANY_FRAMES = "too_many_frames"
TOO_MANY_FRAMES_REASON = "too many small frames or pings; send audio in larger pieces"


class StreamConnection(AddressedConnection):
    """A connection that counts frames, and whose keepalive knows back-pressure.

    websockets answers every ping, and hands on every frame, as fast as they come; a single client would keep
    the event loop from all others. And it counts a ping as unanswered although the answer lies unread in a
    socket that we chose not to read; that would close a healthy client whose only fault is that decoding is
    behind.

    Args:
        arguments: Of ``ServerConnection``.
        refused: Told of a connection that has sent too many frames.
        options: Of ``ServerConnection``.
    """

    def __init__(
        self, *arguments: Any, refused: Callable[[ServerConnection], None], **options: Any
    ) -> None:  # whatever websockets takes
        super().__init__(*arguments, **options)
        self._refused = refused
        self._budget = FrameBudget()
        self._is_given_up = False
        self._n_bytes = 0
        """Received."""
        self.is_asked = asyncio.Event()
        """Set once the HTTP request has come, or will not."""

    def data_received(self, data: bytes) -> None:
        """Parse what came, and stop where the frames become too many."""
        self._n_bytes += len(data)
        for start in range(0, len(data), SLICE_BYTES):
            if self._is_given_up:
                return
            super().data_received(data[start : start + SLICE_BYTES])

    def process_event(self, event: Event) -> None:
        """Count a frame before anything is done with it."""
        if self._is_given_up:
            return
        if isinstance(event, Frame) and not self._budget.take(
            len(event.data), time.monotonic(), is_control=event.opcode in CTRL_OPCODES
        ):
            self._give_up()
            return
        super().process_event(event)

    def _give_up(self) -> None:
        """Say why, read nothing more, and cut the connection once that can have arrived."""
        self._is_given_up = True
        self._refused(self)
        self.protocol.fail(NotAllowed.close_code, TOO_MANY_FRAMES_REASON)
        self.send_data()
        self.transport.pause_reading()
        self.loop.call_later(GIVEN_UP_S, self.transport.abort)

    async def keepalive(self) -> None:
        """Ping at intervals; close when nothing comes back although we were listening.

        A client that sends faster than we decode is listened to now and then: what it sent before its answer
        may take minutes to be read, and shows as well that it is there.
        """
        assert self.ping_interval is not None
        assert self.ping_timeout is not None
        while True:
            await asyncio.sleep(self.ping_interval)
            answer = await self.ping()
            while True:
                # What is not paused here can be paused later only by what comes in.
                was_paused, n_bytes = self.recv_messages.paused, self._n_bytes
                if await self._answered(answer):
                    break
                if not was_paused and self._n_bytes == n_bytes:
                    self.transport.abort()
                    return

    async def _answered(self, answer: Awaitable[float]) -> bool:
        done, _ = await asyncio.wait([asyncio.ensure_future(answer)], timeout=self.ping_timeout)
        return bool(done)


Handle = Callable[[ServerConnection, Identity], Awaitable[None]]
"""Runs an admitted connection to its end."""


def writer_handler(
    hub: Hub, policy: PolicyInForce, presence: Presence, metrics: Metrics
) -> Callable[[ServerConnection, WriterToken], Awaitable[None]]:
    """What serves a connection of ``/v1/stream`` that a token opened."""

    async def handle(connection: ServerConnection, token: WriterToken) -> None:
        await StreamHandler(connection, token.minter, hub, policy, presence, metrics, token).run()

    return handle


def stream_handler(hub: Hub, policy: PolicyInForce, presence: Presence, metrics: Metrics) -> Handle:
    """What serves a connection of ``/v1/stream``."""

    async def handle(connection: ServerConnection, identity: Identity) -> None:
        await StreamHandler(connection, identity, hub, policy, presence, metrics).run()

    return handle


class StreamHandler:
    """Runs one session over one connection.

    Args:
        connection: After the upgrade.
        identity: Who it is.
        hub: Where the session lives.
        policy: Tells into which rooms it may publish.
        presence: Where it can be found while it is connected.
        metrics: What the hops of its captions are counted in.
        token: By which it came, in the place of ``identity``; None for a certificate.
    """

    def __init__(
        self,
        connection: ServerConnection,
        identity: Identity,
        hub: Hub,
        policy: PolicyInForce,
        presence: Presence,
        metrics: Metrics,
        token: WriterToken | None = None,
    ) -> None:
        self._connection = connection
        self._owner = Owner(
            identity.uri,
            identity.path,
            identity.short,
            actor_of(identity),
            holder="" if token is None else token.holder,
            token=None if token is None else token.id,
        )
        self._token = token
        self._presence = presence
        self._present = Present(identity, address_of(connection), Right.STREAM, self._end, token=token)
        self._hub = hub
        self._identity = identity
        self._policy = policy
        self._metrics = metrics
        self._to_write = asyncio.Event()
        self._to_read = asyncio.Event()
        self._abandoned = asyncio.Event()
        self._seq = 0

    async def run(self) -> None:
        """Serve the session until its connection is gone."""
        request = self._connection.request
        assert request is not None, "the upgrade is done"
        self._seat: Seat = self._hub.open(
            SessionId(secrets.token_hex(16)),
            self._wake,
            time.monotonic(),
            owner=self._owner,
            only_resumes=will_resume(request),
        )
        self._presence.enter(self._present)
        try:
            await self._run_tasks()
        except Exception:
            # A bug of ours, on the way to or from the wire; the session itself guards its own.
            _log.exception("session_failed", extra=fields(session=self._seat.session.id))
            await self._connection.close(InternalError.close_code)
        finally:
            self._presence.leave(self._present)
            self._hub.leave(self._seat, time.monotonic(), self._parting_code())

    def _end(self, error: StreamError) -> None:
        """The certificate is no longer good: the finals of what was accepted, then the error."""
        self._hub.refuse(self._seat.session.id, error, time.monotonic())

    def _wake(self) -> None:
        self._to_write.set()
        self._to_read.set()
        if self._seat.is_abandoned:
            self._abandoned.set()

    async def _run_tasks(self) -> None:
        tasks = [asyncio.create_task(step) for step in (self._read(), self._write(), self._dismiss())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, ConnectionClosed):
                raise error

    async def _read(self) -> None:
        """Until the connection is closed: what comes after the session's end is read and forgotten."""
        while True:
            while not (self._seat.session.wants_audio or self._seat.is_done):
                self._to_read.clear()
                await self._to_read.wait()
            data = await self._connection.recv()
            if self._seat.is_done:
                continue
            try:
                message = self._authorised(native.decode_client(data))
            except StreamError as error:
                self._hub.refuse(self._seat.session.id, error, time.monotonic())
                continue
            if isinstance(message, Resume):
                self._seat = self._hub.resume(self._seat, message, time.monotonic())
            else:
                self._hub.receive(self._seat.session.id, message, time.monotonic())

    def _authorised(self, message: ClientMessage | Resume) -> ClientMessage | Resume:
        """The message, its speaker named, if this identity may publish in the room that it names.

        Raises:
            NotAllowed: It may not, or its token is for something else.
        """
        if not isinstance(message, Start):
            return message
        if self._token is not None and message.room != self._token.room:
            bound = "streams without a room" if self._token.room is None else f"the room {self._token.room}"
            raise NotAllowed(f"this token is for {bound}, and start asks for something else")
        if message.room is None:
            return message
        if not self._policy.current.may_publish(self._identity.path, message.room):
            raise NotAllowed("this certificate may not publish in that room; the policy names those it may")
        self._present.publish = message.room
        named = self._token.name if self._token is not None else None
        default = named or self._identity.name[:SPEAKER_LENGTH_MAX]
        return replace(message, speaker=message.speaker or default)

    async def _write(self) -> None:
        """Until the session is done and everything it said is written."""
        while True:
            self._to_write.clear()
            while (numbered := self._seat.outbox.pop()) is not None:
                self._seq += 1
                budget = self._account_hops(numbered.event)
                trace = budget if self._seat.session.wants_trace else None
                await self._connection.send(native.encode_server(numbered, self._seq, trace))
            code = self._seat.close_code
            if code is not None:
                await self._connection.close(code, TAKEN_OVER_REASON if code == TAKEN_OVER else "")
                return
            await self._to_write.wait()

    def _account_hops(self, event: ServerEvent) -> Budget | None:
        """Where the time of a caption went that is being written."""
        if not isinstance(event, Partial | Final) or event.hops is None:
            return None
        budget = budget_of(event.hops, time.monotonic())
        self._metrics.observe_hops("final" if isinstance(event, Final) else "partial", asdict(budget))
        return budget

    async def _dismiss(self) -> None:
        """Give a client that does not read a last chance to take its events, then cut it off."""
        await self._abandoned.wait()
        await asyncio.sleep(DISMISS_S)
        self._connection.transport.abort()

    def _parting_code(self) -> int | None:
        """The close code if the client knows how its stream ended, None if the connection broke."""
        protocol = self._connection.protocol
        if protocol.close_rcvd is None:
            return None
        code = int(protocol.close_rcvd.code)
        answers_ours = not protocol.close_rcvd_then_sent
        return code if answers_ours or code in LEAVING else None
