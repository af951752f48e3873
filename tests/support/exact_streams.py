"""Streams over real TLS that know what they must hear: each frame's number, once and in order."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from live_server import FINISH, START, LiveServer, pieces, wire
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_speech, numbers_in

CHUNK_BYTES = 32_768


@dataclass(frozen=True)
class Heard:
    """What came of some streams."""

    lost: int = 0
    """Numbers said and not in any final."""
    doubled: int = 0
    """Numbers that came once more."""
    is_in_order: bool = True
    n_finals: int = 0

    def __add__(self, other: "Heard") -> "Heard":
        return Heard(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.is_in_order and other.is_in_order,
            self.n_finals + other.n_finals,
        )

    @property
    def is_exact(self) -> bool:
        return self.lost == self.doubled == 0 and self.is_in_order


async def speak(server: LiveServer, pki: Pki, source: ClientPair, numbers: range) -> list[list[int]]:
    """The numbers of each final of a stream that says ``numbers`` as fast as the server takes them."""
    async with wire(server.url, pki, source, ping_timeout=None, open_timeout=60) as client:
        reading = asyncio.create_task(client.rest())
        await client.send(START)
        for piece in pieces(numbered_speech(numbers).tobytes(), CHUNK_BYTES):
            await client.send(piece)
        await client.send(FINISH)
        await reading
        assert client.socket.close_code == 1000
        assert not client.of("warning")
        finals = client.of("final")
        assert [final["segment"] for final in finals] == list(range(len(finals)))
        return [numbers_in(final["text"]) for final in finals]


async def speak_all(server: LiveServer, pki: Pki, source: ClientPair, n_streams: int, n_frames: int) -> Heard:
    """Several streams at once, each with numbers of its own."""
    said = [range(100_000 * k, 100_000 * k + n_frames) for k in range(n_streams)]
    streams = await asyncio.gather(*(speak(server, pki, source, numbers) for numbers in said))
    heard = [[number for final in finals for number in final] for finals in streams]
    times = Counter(number for numbers in heard for number in numbers)
    return Heard(
        lost=sum(times[number] == 0 for numbers in said for number in numbers),
        doubled=sum(n - 1 for n in times.values()),
        is_in_order=all(numbers == sorted(numbers) for numbers in heard),
        n_finals=sum(map(len, streams)),
    )


async def dictate(server: LiveServer, pki: Pki, source: ClientPair, audio: bytes) -> list[str]:
    """The finals of a recording, int16 at 16 kHz, sent as fast as the server takes it."""
    async with wire(server.url, pki, source, ping_timeout=None, open_timeout=60) as client:
        reading = asyncio.create_task(client.rest())
        await client.send(START, *pieces(audio, CHUNK_BYTES), FINISH)
        await reading
        assert client.socket.close_code == 1000
        assert not client.of("warning")
        return [final["text"] for final in client.of("final")]
