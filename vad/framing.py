"""Cuts a stream of samples, arriving in chunks of any size, into frames of 512 samples.

The frames depend only on the samples, never on where one chunk ended and the next began.
"""

import numpy as np

from vad.audio import FRAME_SAMPLES, Int16Array


class Framer:
    """Keeps the samples that do not yet fill a frame: at most 511, whatever is pushed.

    Not safe for use by two threads at once.
    """

    __slots__ = ("_is_finished", "_n_frames", "_n_held", "_n_samples", "_remainder")

    def __init__(self) -> None:
        self._remainder = np.zeros(FRAME_SAMPLES, dtype=np.int16)
        self._n_held = 0
        self._n_samples = 0
        self._n_frames = 0
        self._is_finished = False

    @property
    def n_samples(self) -> int:
        """Samples received so far, padding not counted."""
        return self._n_samples

    @property
    def n_frames(self) -> int:
        """Frames returned so far; the next one has this index."""
        return self._n_frames

    def push(self, samples: Int16Array) -> Int16Array:
        """Take the next samples and return the frames they complete.

        Args:
            samples: int16 (n,), n >= 0; copied, so that the caller may reuse its buffer.

        Returns:
            int16 (k, 512), k >= 0: frames ``n_frames - k`` to ``n_frames``, owned by the caller.

        Raises:
            TypeError: ``samples`` is not int16.
            ValueError: ``samples`` is not one-dimensional.
            RuntimeError: after ``finish``.
        """
        self._check(samples)
        n_held, n_total = self._n_held, self._n_held + len(samples)
        n_frames = n_total // FRAME_SAMPLES
        n_taken = max(0, n_frames * FRAME_SAMPLES - n_held)
        frames = np.empty((n_frames, FRAME_SAMPLES), dtype=np.int16)
        if n_frames:
            flat = frames.reshape(-1)
            flat[:n_held] = self._remainder[:n_held]
            flat[n_held:] = samples[:n_taken]
            n_held = 0
        self._n_held = n_total - n_frames * FRAME_SAMPLES
        self._remainder[n_held : self._n_held] = samples[n_taken:]
        self._n_samples += len(samples)
        self._n_frames += n_frames
        return frames

    def finish(self) -> Int16Array:
        """End the stream: return the remainder as a last frame, padded with zeros.

        Returns:
            int16 (1, 512), or (0, 512) when the stream ended on a frame's border.

        Raises:
            RuntimeError: on a second call.
        """
        if self._is_finished:
            raise RuntimeError("the framer is already finished")
        self._is_finished = True
        if not self._n_held:
            return np.empty((0, FRAME_SAMPLES), dtype=np.int16)
        frame = np.zeros((1, FRAME_SAMPLES), dtype=np.int16)
        frame[0, : self._n_held] = self._remainder[: self._n_held]
        self._n_frames += 1
        return frame

    def _check(self, samples: Int16Array) -> None:
        if self._is_finished:
            raise RuntimeError("push after finish")
        if samples.dtype != np.int16:
            raise TypeError(f"samples must be int16, not {samples.dtype}")
        if samples.ndim != 1:
            raise ValueError(f"samples must be one-dimensional, not {samples.ndim}-dimensional")
