"""Private memory for a file's content, which goes back to the system piece by piece as it is used up.

Not ``bytes``: those go back as a whole, so that whatever is made of them lies beside all of them.
"""

import mmap


class Pages:
    """Memory of this process alone, of zeros; ``view`` is to be filled, then read in order, once.

    Args:
        n_bytes: How many.
    """

    def __init__(self, n_bytes: int) -> None:
        # Private, since pages that could be shared do not go back by MADV_DONTNEED. No mapping is empty.
        self._memory = mmap.mmap(-1, max(1, n_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._n_released = 0
        self.view = memoryview(self._memory)[:n_bytes]

    def release(self, n_bytes: int) -> None:
        """Give back whole pages of the first ``n_bytes``, which read as zeros from here on."""
        end = n_bytes - n_bytes % mmap.PAGESIZE
        if end > self._n_released:
            self._memory.madvise(mmap.MADV_DONTNEED, self._n_released, end - self._n_released)
            self._n_released = end
