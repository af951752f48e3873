"""What to do when memory runs out: a smaller batch, at once and for a while.

A row's text does not depend on what shares its batch, so halves say the same as the whole. The limit
falls by half and rises by one, as TCP's window does (RFC 5681): it comes back without swinging.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from stream_server.core.jobs import Batch, DecodeResult, n_fitting

if TYPE_CHECKING:
    from stream_server.engine.transcriber import Transcriber

RISE_AFTER = 32
"""Full batches without trouble after which one row more is tried."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
"""torch's caching allocator and CUDA itself; torch's CPU allocator; cuBLAS and cuDNN."""
_ACCELERATOR = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")


class OutOfMemory(Exception):
    """Raised when not even one window fits."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help."""
    words = str(error)
    # ``torch.OutOfMemoryError`` is a RuntimeError; the CPU's allocator raises a bare one.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in words for sign in _OUT_OF_MEMORY)
    )


def is_accelerator_error(error: BaseException) -> bool:
    """Whether the device reported what lasts until the process ends, as ``torch.AcceleratorError`` does."""
    words = str(error)
    return isinstance(error, RuntimeError) and any(sign in words for sign in _ACCELERATOR)


class BatchLimit:
    """How many rows are tried at once: half after trouble, one more after ``RISE_AFTER`` full batches."""

    def __init__(self, batch_max: int) -> None:
        self.now = batch_max
        self._ceiling = batch_max
        self._n_good = 0

    def fits(self, n_rows: int) -> None:
        """A batch of so many was decoded."""
        self._n_good += n_rows >= self.now
        if self._n_good >= RISE_AFTER:
            self.now = min(self.now + 1, self._ceiling)
            self._n_good = 0

    def exceeded(self, n_rows: int) -> None:
        """A batch of so many did not fit."""
        self.now = max(1, n_rows // 2)
        self._n_good = 0


class ThriftyTranscriber:
    """A transcriber that decodes in smaller batches when memory runs out.

    Args:
        inner: What decodes.
        batch_max: Most rows at once.
        free: Gives back to the device what is held but not used.
    """

    def __init__(self, inner: "Transcriber", batch_max: int, free: Callable[[], object]) -> None:
        self.facts = inner.facts
        self.n_bytes = inner.n_bytes
        self.limit = BatchLimit(batch_max)
        self.n_out_of_memory = 0
        """Times that memory ran out."""
        self._inner = inner
        self._free = free

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        """See ``Transcriber.transcribe``.

        Raises:
            OutOfMemory: One window did not fit, twice.
        """
        results: list[DecodeResult] = []
        n_failed_alone = 0
        while len(results) < len(batch.jobs):
            left = batch.jobs[len(results) :]
            part = Batch(left[: n_fitting(left, self.limit.now)])
            decoded = self._try(part)
            if decoded is not None:
                self.limit.fits(part.n_rows)
                results += decoded
                n_failed_alone = 0
                continue
            # Only here, after the except block: the exception held the frames, and they the tensors.
            self._free()
            self.n_out_of_memory += 1
            self.limit.exceeded(part.n_rows)
            n_failed_alone += len(part.jobs) == 1
            if n_failed_alone > 1:
                raise OutOfMemory(f"a window of {part.jobs[0].n_samples} samples does not fit into memory")
        return results

    def _try(self, batch: Batch) -> list[DecodeResult] | None:
        """The results, or None when memory ran out."""
        try:
            return self._inner.transcribe(batch)
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
        return None
