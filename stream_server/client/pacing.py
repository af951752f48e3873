"""Sending in time: audio as a microphone would, and a sign of life when there is none.

Clock and sleep are arguments, so tests run on a virtual clock.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

Clock = Callable[[], float]
"""Monotonic seconds."""
Sleep = Callable[[float], Awaitable[None]]


async def iterate(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """One kind of iterator out of both."""
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
        return
    for chunk in chunks:
        yield chunk
        # A plain iterator never waits: others must get their turn.
        await asyncio.sleep(0)


class Pace:
    """Gives out each chunk at the moment when its last sample would have been recorded.

    The moments are counted from the first one, so that a late chunk delays no other.

    Args:
        bytes_per_s: Bytes of one second of audio.
        clock: Monotonic seconds.
        sleep: As ``asyncio.sleep``.
    """

    def __init__(
        self, bytes_per_s: int, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._began_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first sample was, or would have been, spoken."""
        assert self._began_s is not None, "only meaningful once the first chunk was asked for"
        return self._clock() - self._began_s

    async def paced(self, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield each chunk when its time has come, or at once when that has passed."""
        self._began_s = self._clock()
        n_bytes = 0
        async for chunk in iterate(chunks):
            n_bytes += len(chunk)
            wait_s = n_bytes / self._bytes_per_s - self.elapsed_s
            if wait_s > 0:
                await self._sleep(wait_s)
            yield chunk


async def keep_alive(
    send: Callable[[], Awaitable[None]],
    last_sent_s: Callable[[], float],
    interval_s: float,
    *,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Call ``send`` whenever nothing was sent for ``interval_s``; runs until cancelled.

    Args:
        send: Sends the sign of life, which counts as sent: ``last_sent_s`` must move with it.
        last_sent_s: Time on ``clock`` when anything was last sent.
        interval_s: Longest silence.
        clock: Monotonic seconds.
        sleep: As ``asyncio.sleep``.
    """
    while True:
        wait_s = last_sent_s() + interval_s - clock()
        if wait_s > 0:
            await sleep(wait_s)
        else:
            await send()
