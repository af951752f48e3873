"""One client: connects at its time, streams at real time, and notes what comes back when."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from stream_server.client import CaptionError, ConnectFailed, Event, Pace, connect, transcribe
from stream_server.evaluation.heard import Heard
from stream_server.load.messages import ClientResult
from stream_server.load.plan import SAMPLE_RATE_HZ, ClientPlan, Clip, script_of
from stream_server.load.score import score_client
from stream_server.load.stream_audio import SAMPLE_BYTES, stream_chunks

CHUNK_S = 0.1
LATE_S_MAX = 30.0
"""After its last sample was due, for the last finals; a server further behind than this has failed."""
NO_CONNECTION = "no_connection"
"""Code of a client that got no answer at all."""
NO_END = "no_end"
"""Code of a stream whose ``finished`` did not come in that time."""

Talk = Callable[[AsyncIterator[bytes]], AsyncIterator[Event]]
"""Sends the chunks as they come and yields what comes back, to the end of the stream."""
Connect = Callable[[], AbstractAsyncContextManager[Talk]]
"""Opens one stream; raises ``ConnectFailed`` where there is none. ``CaptionError`` is a stream's bad end."""


@asynccontextmanager
async def native_stream(url: str, tls: ssl.SSLContext, language: str | None) -> AsyncIterator[Talk]:
    """A stream of our own protocol."""
    async with connect(url, tls=tls, language=language, trace=True) as stream:
        yield partial(transcribe, stream)


@dataclass(frozen=True, slots=True)
class Stage:
    """What all clients of a worker share."""

    connect: Connect
    clips: Sequence[Clip]
    samples: memoryview
    go_s: float
    """When the run began, monotonic seconds."""
    counted_s: tuple[float, float]
    """Since then: latencies of what was said between these two count."""
    stopping: asyncio.Event


@dataclass(slots=True)
class Counts:
    """How many clients are where."""

    live: int = 0
    refused: int = 0
    failed: int = 0


class Player:
    """One client of a run.

    Args:
        plan: What it does.
        stage: What it shares with others.
        counts: Kept up to date.
    """

    def __init__(self, plan: ClientPlan, stage: Stage, counts: Counts) -> None:
        self._plan = plan
        self._stage = stage
        self._counts = counts
        self._heard = Heard()
        self._n_sent = 0
        self._began_s = 0.0
        self._pace = Pace(SAMPLE_RATE_HZ * SAMPLE_BYTES)

    async def play(self) -> Callable[[], ClientResult]:
        """Run to the end of the stream.

        Returns:
            What computes the result: work for when no client is live any more.
        """
        await self._wait_turn()
        if self._stage.stopping.is_set():
            return lambda: ClientResult(self._plan.number)
        failed: str | None = None
        try:
            await self._stream()
        except ConnectFailed as exc:
            self._counts.refused += 1
            result = ClientResult(self._plan.number, refused=exc.code or NO_CONNECTION, refusal=str(exc))
            return lambda: result
        except CaptionError as exc:
            failed = exc.code
        except TimeoutError:
            failed = NO_END
        self._counts.failed += failed is not None
        return lambda: self._score(failed)

    async def _wait_turn(self) -> None:
        wait_s = self._stage.go_s + self._plan.connect_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._stage.stopping.wait()
        except TimeoutError:
            return

    async def _stream(self) -> None:
        async with self._stage.connect() as talk:
            self._counts.live += 1
            try:
                async with asyncio.timeout(self._plan.n_samples / SAMPLE_RATE_HZ + LATE_S_MAX):
                    async for event in talk(self._pace.paced(self._chunks())):
                        self._heard.note(event, self._pace.elapsed_s)
            finally:
                self._counts.live -= 1
                self._began_s = time.monotonic() - self._pace.elapsed_s

    def _chunks(self) -> Iterator[bytes]:
        stage, plan = self._stage, self._plan
        chunk_samples = round(CHUNK_S * SAMPLE_RATE_HZ)
        for chunk in stream_chunks(stage.clips, plan.placed, stage.samples, plan.n_samples, chunk_samples):
            if stage.stopping.is_set():
                return
            yield chunk
            self._n_sent += len(chunk) // SAMPLE_BYTES

    def _score(self, failed: str | None) -> ClientResult:
        since_go_s = self._began_s - self._stage.go_s
        first_s, last_s = self._stage.counted_s
        return score_client(
            self._plan.number,
            script_of(self._stage.clips, self._plan.placed),
            self._heard,
            sent_s=self._n_sent / SAMPLE_RATE_HZ,
            counted_s=(first_s - since_go_s, last_s - since_go_s),
            failed=failed,
        )
