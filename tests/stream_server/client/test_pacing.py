from collections.abc import AsyncIterator

import pytest

from stream_server.client.pacing import Pace, iterate, keep_alive


class VirtualTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


async def test_each_chunk_comes_when_its_last_sample_has_been_spoken() -> None:
    time = VirtualTime()
    pace = Pace(1000, clock=time.clock, sleep=time.sleep)
    sent = [
        (chunk, round(pace.elapsed_s, 6)) async for chunk in pace.paced([bytes(100), bytes(100), bytes(50)])
    ]
    assert [at_s for _, at_s in sent] == [0.1, 0.2, 0.25]


async def test_a_late_chunk_delays_no_other() -> None:
    time = VirtualTime()
    pace = Pace(1000, clock=time.clock, sleep=time.sleep)
    at_s: list[float] = []
    async for _ in pace.paced([bytes(100)] * 6):
        at_s.append(round(pace.elapsed_s, 6))
        if len(at_s) == 2:
            time.now_s += 0.25  # the network held us up
    assert at_s == [0.1, 0.2, 0.45, 0.45, 0.5, 0.6]


async def test_an_hour_of_chunks_does_not_drift() -> None:
    time = VirtualTime()
    pace = Pace(32_000, clock=time.clock, sleep=time.sleep)
    async for _ in pace.paced(bytes(3_200) for _ in range(36_000)):
        time.now_s += 0.001  # the work between two chunks
    assert pace.elapsed_s == pytest.approx(3600.001, abs=1e-6)


async def test_both_kinds_of_iterators_are_taken() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    assert [chunk async for chunk in iterate(chunks())] == [b"a", b"b"]
    assert [chunk async for chunk in iterate([b"a", b"b"])] == [b"a", b"b"]


class Enough(Exception):
    """Ends an endless loop."""


async def test_a_sign_of_life_goes_out_only_after_a_whole_interval_of_silence() -> None:
    time = VirtualTime()
    sent_s = [time.now_s]
    audio_s = [103.0, 109.0]
    alive_s: list[float] = []

    async def send() -> None:
        alive_s.append(time.now_s)
        sent_s.append(time.now_s)
        if len(alive_s) == 3:
            raise Enough

    def last_sent_s() -> float:
        return max(at_s for at_s in [*sent_s, *audio_s] if at_s <= time.now_s)

    with pytest.raises(Enough):
        await keep_alive(send, last_sent_s, 10.0, clock=time.clock, sleep=time.sleep)
    assert alive_s == [119.0, 129.0, 139.0]
