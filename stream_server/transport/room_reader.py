"""One reader of a room: a task that writes its events and one that hears whether it is still there.

Neither decides anything: the room says what comes next, and when a reader is to be given up.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from certs.identity import Identity
from stream_server.core.policy import Right
from stream_server.core.room_messages import Read
from stream_server.core.rooms import Reader, Rooms
from stream_server.dialects.room_wire import decode_reader, encode_room_error
from stream_server.errors import IdleTimeout, InternalError, ProtocolViolation, StreamError
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.connection import DISMISS_S
from stream_server.transport.presence import Presence, Present
from stream_server.transport.responses import address_of

_log = logging.getLogger(__name__)

READ_S = 10.0
"""For the first message to arrive after the upgrade."""


class Admittance(Protocol):
    """Who may read, where a certificate has not told it."""

    def join(self, room: str, read: Read, reader_of: Callable[[], Reader]) -> Reader:
        """Let a reader in by ``reader_of``, or raise the ``StreamError`` that says why not."""

    def part(self, reader: Reader) -> None:
        """A reader that was let in has gone."""


class CertificateAdmittance:
    """A reader whose certificate was looked at before the upgrade.

    Args:
        identity: Who it is.
        address: From where.
        presence: Where it can be found while it reads.
    """

    def __init__(self, identity: Identity, address: str, presence: Presence) -> None:
        self._identity = identity
        self._address = address
        self._presence = presence
        self._present: Present | None = None

    def join(self, room: str, read: Read, reader_of: Callable[[], Reader]) -> Reader:
        """Let anybody in; a token is a guest's, and something is wrong if one comes here."""
        if read.token is not None:
            raise ProtocolViolation("read.token is for guests; here the certificate tells who you are")
        reader = reader_of()
        self._present = Present(self._identity, self._address, Right.READ, reader.finish, read=room)
        self._presence.enter(self._present)
        return reader

    def part(self, reader: Reader) -> None:
        """It has gone."""
        assert self._present is not None, "it was let in"
        self._presence.leave(self._present)


def reader_handler(
    rooms: Rooms, presence: Presence, metrics: Metrics
) -> Callable[[ServerConnection, str, Identity], Awaitable[None]]:
    """What serves a connection of ``/v1/rooms/NAME`` that a certificate opened."""

    async def handle(connection: ServerConnection, room: str, identity: Identity) -> None:
        admittance = CertificateAdmittance(identity, address_of(connection), presence)
        await ReaderHandler(connection, room, identity.short, rooms, admittance, metrics).run()

    return handle


def guest_handler(
    rooms: Rooms, admittance: Admittance, metrics: Metrics
) -> Callable[[ServerConnection, str, str], Awaitable[None]]:
    """The same for guests; takes what stands for them in logs."""

    async def handle(connection: ServerConnection, room: str, name: str) -> None:
        await ReaderHandler(connection, room, name, rooms, admittance, metrics).run()

    return handle


class ReaderHandler:
    """Runs one reader over one connection.

    Args:
        connection: After the upgrade.
        room: Its name.
        name: What stands for the reader in logs.
        rooms: Where the room is.
        admittance: Who lets it in.
        metrics: What it counts in.
    """

    def __init__(
        self,
        connection: ServerConnection,
        room: str,
        name: str,
        rooms: Rooms,
        admittance: Admittance,
        metrics: Metrics,
    ) -> None:
        self._connection = connection
        self._room = room
        self._name = name
        self._rooms = rooms
        self._admittance = admittance
        self._metrics = metrics
        self._to_write = asyncio.Event()
        self._reader: Reader | None = None
        self._cutting: asyncio.TimerHandle | None = None
        self._n_events = 0

    async def run(self) -> None:
        """Serve the reader until its connection is gone."""
        opened_s = time.monotonic()
        try:
            self._reader = await self._join()
            await self._serve(self._reader)
        except StreamError as error:
            await self._refuse(error)
        except ConnectionClosed:
            _log.debug("reader_left")
        except Exception:
            _log.exception("reader_failed", extra=fields(fp=self._name))
            await self._refuse(InternalError("the server made a mistake; its log has the details"))
        finally:
            self._account(opened_s)

    async def _join(self) -> Reader:
        try:
            async with asyncio.timeout(READ_S):
                data = await self._connection.recv()
        except TimeoutError as exc:
            raise IdleTimeout(f"read did not come within {READ_S:g} s") from exc
        read = decode_reader(data)
        if not isinstance(read, Read):
            raise ProtocolViolation("send read before anything else")
        return self._admittance.join(
            self._room, read, lambda: self._rooms.join(self._room, read, self._wake, time.monotonic())
        )

    def _wake(self) -> None:
        self._to_write.set()
        if self._reader is not None and self._reader.error is not None and self._cutting is None:
            # A last chance to take the error, for one that does not read.
            loop = asyncio.get_running_loop()
            self._cutting = loop.call_later(DISMISS_S, self._connection.transport.abort)

    async def _serve(self, reader: Reader) -> None:
        self._metrics.room_readers.inc()
        tasks = [asyncio.create_task(step) for step in (self._write(reader), self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._metrics.room_readers.dec()
            self._admittance.part(reader)
            self._rooms.part(reader)
        for task in done:
            task.result()

    async def _write(self, reader: Reader) -> None:
        """Until the connection is gone or the room is done with this reader."""
        while True:
            self._to_write.clear()
            while (data := reader.pop()) is not None:
                await self._connection.send(data, text=True)
                self._n_events += 1
            if reader.error is not None:
                raise reader.error
            await self._to_write.wait()

    async def _listen(self) -> None:
        """A reader has nothing more to say; this also finds out that it is gone."""
        while True:
            if isinstance(decode_reader(await self._connection.recv()), Read):
                raise ProtocolViolation("read was sent already; connect again to read from elsewhere")

    async def _refuse(self, error: StreamError) -> None:
        """Say why, and close; one that does not take it is cut off."""
        try:
            async with asyncio.timeout(DISMISS_S):
                await self._connection.send(encode_room_error(error), text=True)
                await self._connection.close(error.close_code)
        except (TimeoutError, ConnectionClosed):
            self._connection.transport.abort()

    def _account(self, opened_s: float) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        code = self._connection.close_code or 1006
        self._metrics.room_readers_ended.labels(code=str(code)).inc()
        _log.info(
            "reader_closed",
            extra=fields(
                fp=self._name,
                code=code,
                open_s=round(time.monotonic() - opened_s, 3),
                events=self._n_events,
            ),
        )
