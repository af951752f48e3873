"""When a connection counts as dead: nothing came, although it was listened to."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace

import pytest

from stream_server.transport.connection import StreamConnection


class Scripted(StreamConnection):
    """A connection whose waits for an answer follow a script; it needs no socket.

    Args:
        waits: Of each: whether reading was paused before it, the bytes that came, whether the answer did.
    """

    def __init__(self, waits: list[tuple[bool, int, bool]]) -> None:
        self.waits = list(waits)
        self.n_pings = 0
        self.is_aborted = False
        self.ping_interval = self.ping_timeout = 0.0
        self._n_bytes = 0
        self.transport = SimpleNamespace(abort=self._abort)
        self.recv_messages = SimpleNamespace(paused=waits[0][0])

    def _abort(self) -> None:
        self.is_aborted = True

    async def ping(self, data: object = None) -> Awaitable[float]:
        self.n_pings += 1
        return asyncio.get_running_loop().create_future()

    async def _answered(self, answer: Awaitable[float]) -> bool:
        if not self.waits:
            raise EOFError
        _, n_bytes, is_answered = self.waits.pop(0)
        self._n_bytes += n_bytes
        self.recv_messages.paused = bool(self.waits) and self.waits[0][0]
        return is_answered


@pytest.mark.parametrize(
    ("waits", "is_dead"),
    [
        pytest.param([(False, 0, True)], False, id="it answers"),
        pytest.param([(False, 0, False)], True, id="nothing comes"),
        pytest.param([(True, 0, False)], False, id="its answer may lie in the socket that was not read"),
        pytest.param([(True, 0, False), (False, 0, False)], True, id="nothing lay in the socket"),
        pytest.param([(False, 9, False)], False, id="it sends, and its answer is behind"),
        pytest.param([(True, 9, False), (False, 9, False), (True, 0, False)], False, id="heard now and then"),
        pytest.param([(False, 9, False), (False, 0, False)], True, id="it sent and fell silent"),
    ],
)
async def test_a_connection_is_cut_when_nothing_comes_although_it_is_listened_to(
    waits: list[tuple[bool, int, bool]], is_dead: bool
) -> None:
    connection = Scripted(waits)
    if is_dead:
        await connection.keepalive()
    else:
        with pytest.raises(EOFError):
            await connection.keepalive()
    assert connection.is_aborted == is_dead
    assert connection.waits == []
