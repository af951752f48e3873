"""The vocabulary of audio positions: samples, frames, milliseconds and seconds.

Audio is mono int16 at 16 kHz. A position is an index counted from the first sample (or frame) of a session.
A frame is 512 samples, 32 ms: the only size Silero VAD accepts at 16 kHz.
"""

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ: Final = 16_000
FRAME_SAMPLES: Final = 512
FRAME_MS: Final = 1000 * FRAME_SAMPLES // SAMPLE_RATE_HZ
"""Exactly 32: every frame position is a whole number of milliseconds."""

Int16Array: TypeAlias = npt.NDArray[np.int16]
Float32Array: TypeAlias = npt.NDArray[np.float32]

_INT16_FULL_SCALE: Final = 32_768.0


def frame_to_sample(frame: int) -> int:
    """Return the index of the first sample of ``frame``; also a number of frames as a number of samples."""
    return frame * FRAME_SAMPLES


def frame_to_ms(frame: int) -> int:
    """Return the start of ``frame`` in milliseconds; also a number of frames as a duration."""
    return frame * FRAME_MS


def sample_to_seconds(sample: int) -> float:
    """Return the position of ``sample`` in seconds; also a number of samples as a duration."""
    return sample / SAMPLE_RATE_HZ


def frames_within_ms(duration_ms: float) -> int:
    """Return the most whole frames that do not last longer than ``duration_ms``."""
    return math.floor(duration_ms / FRAME_MS)


def frames_covering_ms(duration_ms: float) -> int:
    """Return the fewest whole frames that last at least ``duration_ms``."""
    return math.ceil(duration_ms / FRAME_MS)


def int16_to_float32(samples: Int16Array) -> Float32Array:
    """Scale int16 samples of any shape to float32 in [-1, 1), the range Silero VAD expects."""
    return samples.astype(np.float32) / np.float32(_INT16_FULL_SCALE)
