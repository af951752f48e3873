"""The recurrent state of many streams in one slab, so that one batch of any of them is a gather by index.

Silero VAD carries, per stream, an LSTM state of 2 x 128 numbers and the last 64 samples heard. Rows of an
array are cheaper to stack than separate objects: per tick and session one row is read and one is written.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vad.audio import Float32Array

CONTEXT_SAMPLES: Final = 64
HIDDEN_SIZE: Final = 128

SlotArray: TypeAlias = npt.NDArray[np.intp]

SILENT_FRAMES_MAX: Final = 32
"""Frames of digital silence in a row, 1 s, that are scored as any others; see ``VadStates.rest``."""

_CAPACITY_FIRST: Final = 16


class VadStates:
    """The states of the open streams; each has a slot, from ``open`` to ``close``.

    The slab doubles when it is full and does not shrink: 1.3 kB per slot. How many streams may be open is the
    owner's limit to set. Not safe for use by two threads at once.
    """

    __slots__ = ("_context", "_free", "_hidden", "_is_open", "_n_silent")

    def __init__(self) -> None:
        self._hidden: Float32Array = np.zeros((2, 0, HIDDEN_SIZE), dtype=np.float32)
        self._context: Float32Array = np.zeros((0, CONTEXT_SAMPLES), dtype=np.float32)
        self._is_open: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._n_silent: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._is_open) - len(self._free)

    def open(self) -> int:
        """Return the slot of a new stream, in the state of one that has heard nothing."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._is_open[slot] = True
        self.forget(np.array([slot], dtype=np.intp))
        self._n_silent[slot] = 0
        return slot

    def close(self, slot: int) -> None:
        """Give the slot back; another stream may get it.

        Raises:
            ValueError: the slot is not open.
        """
        self.check(np.array([slot], dtype=np.intp))
        self._is_open[slot] = False
        self._free.append(slot)

    def check(self, slots: SlotArray) -> None:
        """Check that ``slots``, integers (B,), are open.

        Raises:
            ValueError: a slot is not open.
        """
        if len(slots) == 0:
            return
        if slots.min() < 0 or slots.max() >= len(self._is_open) or not self._is_open[slots].all():
            raise ValueError("a slot is not open")

    def rest(self, slots: SlotArray, is_silent: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Take note of digital silence (all samples zero) in the next frame of each stream.

        A muted microphone or a telephone on hold sends it for hours, and it need not be scored. A stream
        that has sent more than ``SILENT_FRAMES_MAX`` such frames in a row rests: whoever scores forgets it
        (``forget``) instead, so that it is as one that has heard nothing until it sends sound. So scores
        remain a function of the stream's own frames. (The network given zeros for long drifts: after a minute
        of them the first frames of speech score up to 0.6 lower than at the beginning of a stream.)

        Args:
            slots: integers (B,), open, each at most once.
            is_silent: booleans (B,).

        Returns:
            booleans (B,): which of them rest.
        """
        if not is_silent.any():
            self._n_silent[slots] = 0
            return is_silent
        runs = np.where(is_silent, self._n_silent[slots] + 1, 0)
        resting: npt.NDArray[np.bool_] = runs > SILENT_FRAMES_MAX
        # The count stops there, so that it never overflows.
        self._n_silent[slots] = np.minimum(runs, SILENT_FRAMES_MAX + 1)
        return resting

    def forget(self, slots: SlotArray) -> None:
        """Bring streams into the state of one that has heard nothing."""
        self._hidden[:, slots] = 0.0
        self._context[slots] = 0.0

    def gather(self, slots: SlotArray) -> tuple[Float32Array, Float32Array]:
        """Return copies of the LSTM states, float32 (2, B, 128), and contexts, float32 (B, 64)."""
        return self._hidden[:, slots], self._context[slots]

    def scatter(self, slots: SlotArray, hidden: Float32Array, context: Float32Array) -> None:
        """Store what ``gather`` will return next; shapes as there."""
        self._hidden[:, slots] = hidden
        self._context[slots] = context

    def _grow(self) -> None:
        old = len(self._is_open)
        new = max(_CAPACITY_FIRST, 2 * old)
        self._hidden = np.pad(self._hidden, ((0, 0), (0, new - old), (0, 0)))
        self._context = np.pad(self._context, ((0, new - old), (0, 0)))
        self._is_open = np.pad(self._is_open, (0, new - old))
        self._n_silent = np.pad(self._n_silent, (0, new - old))
        # Popped from the end: low slots first, so that the rows in use stay close together.
        self._free.extend(range(new - 1, old - 1, -1))
