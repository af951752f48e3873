"""One stream: audio goes in, captions come out, whatever becomes of the connection.

What goes over the wire is the schema's business, one connection ``link``'s, and what must be said again
after a lost one ``send_log``'s. This module keeps the stream's rules: order of events, ends, errors, and
that a session goes on over the next connection without a gap and without a doubled caption.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.exceptions import ConnectionClosed

from stream_server.audio.decoder import BYTES_PER_SAMPLE, Encoding
from stream_server.client.errors import CaptionError, ConnectFailed, explain_close
from stream_server.client.link import Link, Server, broken
from stream_server.client.pacing import keep_alive
from stream_server.client.reconnect import (
    FINAL_CLOSE_CODES,
    TAKEN_OVER,
    ConnectionState,
    Reconnect,
    may_pass,
)
from stream_server.client.send_log import SendLog
from stream_server.client.websocket import close_websocket
from stream_server.dialects import schema

Event = (
    schema.SpeechStartedEvent
    | schema.PartialEvent
    | schema.FinalEvent
    | schema.UtteranceEvent
    | schema.FlushedEvent
    | schema.LagEvent
    | schema.FinishedEvent
    | schema.WarningEvent
)
"""What a stream gives, in order."""

UNREAD_MAX = 256
"""Events that wait for the iteration before the connection is left unread."""


class CaptionStream:
    """A started stream, from ``connect``. One task may send while another iterates.

    Iterating gives the events and ends after ``FinishedEvent``. Read while sending: a server whose
    events are left unread ends the stream with ``slow_reader``.

    Args:
        server: Where the stream goes, and goes on after a lost connection.
        start: What was asked for.
        link: Over which the server has answered that.
        started: The answer.
        reconnect: How to come back after a lost connection; None ends the stream instead.
        on_connection: Told when the connection is lost and when the stream goes on.
    """

    started: schema.StartedEvent
    """The server's answer: session, model, limits."""

    def __init__(
        self,
        server: Server,
        start: schema.StartMessage,
        link: Link,
        started: schema.StartedEvent,
        reconnect: Reconnect | None,
        on_connection: Callable[[ConnectionState], None] | None,
    ) -> None:
        self.started = started
        self._server = server
        self._link = link
        self._is_up = True
        self._reconnect = reconnect if started.limits.resume_seconds > 0 else None
        self._on_connection = on_connection
        frame_bytes = BYTES_PER_SAMPLE[Encoding(start.encoding)] * start.channels
        buffer_s = (reconnect or Reconnect()).buffer_s
        buffer_bytes = int(buffer_s * start.sample_rate * frame_bytes)
        self._log = SendLog(frame_bytes, buffer_bytes, keeps=self._reconnect is not None)
        self._last_event = started.event
        self._unread: deque[Event] = deque()
        self._failure: CaptionError | None = None
        self._is_finished = False
        self._changed = asyncio.Event()
        self._sent_s = time.monotonic()

    @asynccontextmanager
    async def running(self, keepalive_s: float) -> AsyncIterator[None]:
        """Keep the stream going for the length of the block, and close it then; ``connect`` sees to it."""
        tasks = (asyncio.create_task(self._run()), asyncio.create_task(self._stay_alive(keepalive_s)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await close_websocket(self._link.websocket)

    # ------------------------------------------------------------ what the user calls

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Send audio of any size, also parts of samples; waits while the server does not read.

        While the connection is lost, audio is kept to be sent later, ``Reconnect.buffer_s`` at most; then
        this waits until the stream goes on.

        Raises:
            CaptionError: The stream has ended; its code and message are the server's when it gave any.
        """
        view = memoryview(audio).cast("B")
        limit = self.started.limits.message_bytes
        for begin in range(0, len(view), limit):
            await self._until(lambda: not self._log.is_full)
            self._log.add_audio(view[begin : begin + limit])
            await self._pushed()

    async def flush(self) -> None:
        """Ask for finals of all audio sent so far; ``FlushedEvent`` follows them.

        Raises:
            CaptionError: As for ``send``.
        """
        await self._until(lambda: True)
        self._log.add_flush()
        await self._pushed()

    async def finish(self) -> None:
        """Say that no more audio comes; the last finals and ``FinishedEvent`` follow.

        Raises:
            CaptionError: As for ``send``.
        """
        await self._until(lambda: True)
        self._log.add_finish()
        await self._pushed()

    async def keepalive(self) -> None:
        """Tell the server that this client is still there; ``connect`` sees to it by itself.

        Raises:
            CaptionError: The stream has ended.
        """
        self._raise_if_over()
        self._sent_s = time.monotonic()
        if self._is_up:
            try:
                await self._link.send(schema.KeepAliveMessage())
            except ConnectionClosed:
                return  # The stream's own task meets the same, and knows what to do.

    def __aiter__(self) -> "CaptionStream":
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            CaptionError: The server ended the stream with an error, or the connection was lost for good.
        """
        while not self._unread:
            if self._failure is not None:
                raise self._failure
            if self._is_finished:
                raise StopAsyncIteration
            await self._changed.wait()
        event = self._unread.popleft()
        self._note_change()
        return event

    def abort(self, why: str = "the client gave the stream up") -> None:
        """End the stream at once, without ``finish``; the server gives up what it has not decoded."""
        self._fail(CaptionError("aborted", why))

    # ------------------------------------------------------------ waiting for each other

    def _note_change(self) -> None:
        """Wake whoever waits for anything; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that this stream does; raises when the stream is over."""
        self._raise_if_over()
        while not condition():
            await self._changed.wait()
            self._raise_if_over()

    async def _pushed(self) -> None:
        """Wait until the connection has taken everything; without one, it waits in the log."""
        self._note_change()
        await self._until(lambda: self._log.is_sent or not self._is_up)

    def _raise_if_over(self) -> None:
        if self._is_finished:
            raise CaptionError("finished", "the stream is finished and takes nothing more", 1000)
        if self._failure is not None:
            raise self._failure

    @property
    def _is_over(self) -> bool:
        return self._is_finished or self._failure is not None

    def _fail(self, failure: CaptionError) -> None:
        if not self._is_over:
            self._failure = failure
        self._note_change()

    def _tell(self, state: ConnectionState) -> None:
        if self._on_connection is not None:
            self._on_connection(state)

    # ------------------------------------------------------------ the connection

    async def _stay_alive(self, interval_s: float) -> None:
        try:
            await keep_alive(self.keepalive, lambda: self._sent_s, interval_s)
        except CaptionError:
            return  # The stream is over; whoever reads or sends next learns why.

    async def _run(self) -> None:
        """One connection after the other until the stream is over."""
        try:
            while not self._is_over:
                try:
                    await self._exchange()
                except ConnectionClosed as exc:
                    self._is_up = False
                    self._note_change()
                    await self._recover(exc)
        except CaptionError as failure:
            self._fail(failure)
        except Exception as exc:
            # A bug of ours or of ``on_connection``: who reads or sends would wait for ever.
            mistake = CaptionError("client_error", "the client made a mistake; its cause has the details")
            mistake.__cause__ = exc
            self._fail(mistake)

    async def _exchange(self) -> None:
        """Send and receive over one connection until the stream is over.

        Raises:
            ConnectionClosed: The connection is gone before that.
            CaptionError: The server ended the stream, or broke the protocol.
        """
        pump = asyncio.create_task(self._pump())
        try:
            while not self._is_over:
                while len(self._unread) >= UNREAD_MAX:
                    await self._changed.wait()
                await self._take(*await self._link.receive())
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self) -> None:
        """Send what the log gives out, in a task of its own; the receiver learns of a lost connection."""
        while True:
            message = self._log.next(self.started.limits.message_bytes)
            if message is None:
                await self._changed.wait()
                continue
            await self._link.send(message)
            self._sent_s = time.monotonic()
            self._note_change()

    async def _take(self, number: int | None, event: schema.ServerText | None) -> None:
        if number is not None:
            if number != self._last_event + 1:
                raise broken(f"durable event {number} came after {self._last_event}")
            self._last_event = number
        match event:
            case None:
                return  # Of a later protocol.
            case schema.StartedEvent():
                raise broken("started came twice")
            case schema.ResumedEvent():
                raise broken("resumed came twice")
            case schema.ErrorEvent():
                raise await self._link.error(event)
            case schema.AckEvent():
                self._log.acknowledge(event.samples)
                self._note_change()
                return
            case schema.FlushedEvent():
                self._log.answer_flush()
            case schema.FinishedEvent():
                self._is_finished = True
        self._unread.append(event)
        self._note_change()

    async def _recover(self, closed: ConnectionClosed) -> None:
        """Go on over another connection.

        Raises:
            CaptionError: There is none, or the server does not go on with the session.
        """
        lost = explain_close(closed)
        if lost.close_code == TAKEN_OVER:
            raise CaptionError("taken_over", "the session was resumed over another connection", TAKEN_OVER)
        if self._reconnect is None or lost.close_code in FINAL_CLOSE_CODES:
            raise lost
        self._tell(ConnectionState.LOST)
        self._link = await self._resume(self._reconnect, lost)
        self._is_up = True
        self._note_change()
        self._tell(ConnectionState.RESUMED)

    async def _resume(self, reconnect: Reconnect, lost: CaptionError) -> Link:
        lost_s = reconnect.clock()
        patience_s = self.started.limits.resume_seconds
        failure: ConnectFailed | None = None
        n_tried = 0
        while True:
            await reconnect.sleep(reconnect.wait_s(n_tried, failure))
            try:
                return await self._open_again()
            except ConnectFailed as exc:
                failure = exc
                n_tried += 1
            if not may_pass(failure):
                raise CaptionError(failure.code or "connection_lost", str(failure)) from failure
            if reconnect.clock() - lost_s > patience_s:
                message = f"{lost.message}; it could not be resumed within {patience_s:g} s: {failure}"
                raise CaptionError("connection_lost", message, lost.close_code) from failure

    async def _open_again(self) -> Link:
        resume = schema.ResumeMessage(session=self.started.session, event=self._last_event)
        link, resumed = await self._server.resume(resume)
        try:
            self._log.rewind(resumed.samples, resumed.flushes, closing=resumed.closing)
        except ValueError as exc:
            link.websocket.transport.abort()
            raise broken(str(exc)) from exc
        return link
