"""The last seconds of one session's audio, addressed by sample position.

Audio lies in small blocks of one size, and what is to be decoded refers to them: a window that waits costs no
copy, and what sessions free fits what others need.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_SAMPLES = 2_048
"""128 ms: little is wasted at both ends of what is kept, and 5 s are 40 of them."""

_Block = NDArray[np.int16]
"""int16 little-endian (2048,). What was written is never changed."""


class SharedPcm:
    """Samples that an ``AudioWindow`` keeps, or kept: int16 little-endian, not copied.

    As a value it is their bytes: ``bytes()`` and ``pickle`` make them, and it is equal to them.
    May be read in another thread than the one that appends to the window.
    """

    __slots__ = ("_blocks", "_n_samples", "_start")

    def __init__(self, blocks: tuple[_Block, ...], start: int, n_samples: int) -> None:
        self._blocks = blocks
        self._start = start  # In the first block.
        self._n_samples = n_samples

    def __len__(self) -> int:
        """Bytes."""
        return 2 * self._n_samples

    def __getitem__(self, span: slice) -> "SharedPcm":
        """Whole samples, by bytes as of ``bytes``; not copied either."""
        start, end, step = span.indices(len(self))
        assert start % 2 == end % 2 == 0, "half a sample"
        assert step == 1, "samples between others"
        skipped, at = divmod(self._start + start // 2, BLOCK_SAMPLES)
        return SharedPcm(self._blocks[skipped:], at, max(0, end - start) // 2)

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[memoryview]:
        at, n_left = self._start, self._n_samples
        for block in self._blocks:
            piece = block[at : at + n_left]
            yield piece.data
            at, n_left = 0, n_left - len(piece)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes | SharedPcm):
            return NotImplemented
        return bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (bytes(self),)


class AudioWindow:
    """int16 samples from ``start`` on; what no segment can need any more is forgotten."""

    def __init__(self) -> None:
        self.start = 0
        """Position of the oldest sample kept."""
        self.end = 0
        """One past the newest sample."""
        self._blocks: list[_Block] = []
        """From the one that ``start`` lies in, on."""

    def append(self, samples: NDArray[np.int16]) -> None:
        """Add the stream's next samples, int16 (n,)."""
        n_taken = 0
        while n_taken < len(samples):
            at = self.end % BLOCK_SAMPLES
            if at == 0:
                self._blocks.append(np.empty(BLOCK_SAMPLES, dtype="<i2"))
            piece = samples[n_taken : n_taken + BLOCK_SAMPLES - at]
            self._blocks[-1][at : at + len(piece)] = piece
            self.end += len(piece)
            n_taken += len(piece)

    def read(self, start: int, end: int) -> SharedPcm:
        """Samples [start, end); ``end`` is clipped to what was received."""
        end = min(end, self.end)
        assert self.start <= start < end, (self.start, start, end)
        first = self._index(start)
        return SharedPcm(
            tuple(self._blocks[first : self._index(end - 1) + 1]), start % BLOCK_SAMPLES, end - start
        )

    def forget_before(self, position: int) -> None:
        """Drop samples before ``position``; a position already dropped changes nothing."""
        position = min(position, self.end)
        if position > self.start:
            del self._blocks[: self._index(position)]
            self.start = position

    def _index(self, position: int) -> int:
        """Of the block that a position lies in."""
        return position // BLOCK_SAMPLES - self.start // BLOCK_SAMPLES
