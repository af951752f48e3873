"""The last seconds of one session's audio, addressed by sample position."""

import numpy as np
from numpy.typing import NDArray


class AudioWindow:
    """int16 samples from ``start`` on; what no segment can need any more is forgotten."""

    def __init__(self) -> None:
        self.start = 0
        """Position of the oldest sample kept."""
        self._bytes = bytearray()

    @property
    def end(self) -> int:
        """One past the newest sample."""
        return self.start + len(self._bytes) // 2

    def append(self, samples: NDArray[np.int16]) -> None:
        """Add the stream's next samples, int16 (n,)."""
        self._bytes += samples.astype("<i2", copy=False).tobytes()

    def read(self, start: int, end: int) -> bytes:
        """Samples [start, end) as int16 little-endian bytes; ``end`` is clipped to what was received."""
        assert self.start <= start < end, (self.start, start, end)
        return bytes(self._bytes[2 * (start - self.start) : 2 * (end - self.start)])

    def forget_before(self, position: int) -> None:
        """Drop samples before ``position``; a position already dropped changes nothing."""
        n_samples = min(position, self.end) - self.start
        if n_samples > 0:
            # bytearray drops from the front without moving the rest.
            del self._bytes[: 2 * n_samples]
            self.start += n_samples
