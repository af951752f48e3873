"""Recordings as int16 blocks, read piece by piece: an hour takes no more memory than a second."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from stream_server.audio.decoder import CHANNELS_MAX, RATE_HZ_MAX, RATE_HZ_MIN, SAMPLE_RATE_HZ

BYTES_PER_SAMPLE = 2


class RecordingError(Exception):
    """Raised when a file cannot be read as a recording; the message is one line and names the file."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that can be streamed, and how its bytes will be."""

    path: Path
    duration_s: float
    file_rate_hz: int
    file_channels: int

    @property
    def sample_rate_hz(self) -> int:
        """Of the bytes sent: the file's own where the server takes it, else 16 kHz."""
        fits = RATE_HZ_MIN <= self.file_rate_hz <= RATE_HZ_MAX
        return self.file_rate_hz if fits else SAMPLE_RATE_HZ

    @property
    def channels(self) -> int:
        """Of the bytes sent: the file's own where the server takes it, else all mixed down to one."""
        return self.file_channels if self.file_channels <= CHANNELS_MAX else 1

    @property
    def bytes_per_s(self) -> int:
        """Of the bytes sent."""
        return self.sample_rate_hz * self.channels * BYTES_PER_SAMPLE

    def blocks(self, block_s: float) -> Iterator[bytes]:
        """Read the file.

        Args:
            block_s: Seconds of each block; the last may be shorter.

        Yields:
            ``pcm_s16le``, channels interleaved.

        Raises:
            RecordingError: The file breaks off, is damaged, or holds samples that are no numbers.
        """
        resampler = self._resampler()
        try:
            with soundfile.SoundFile(self.path) as file:
                size = max(1, round(block_s * self.file_rate_hz))
                for block in file.blocks(size, dtype="float32", always_2d=True):
                    if not np.isfinite(block).all():
                        raise RecordingError(f"{self.path}: the recording has samples that are no numbers")
                    # Beyond full scale nothing is gained, and sums of huge numbers are infinite.
                    yield _to_int16(self._convert(block.clip(-1, 1), resampler, last=False))
        except (soundfile.LibsndfileError, OSError) as exc:
            raise RecordingError(
                f"{self.path}: the recording is damaged and cannot be read to its end"
            ) from exc
        if resampler is not None:
            yield _to_int16(self._convert(self._nothing(), resampler, last=True))

    def _resampler(self) -> soxr.ResampleStream | None:
        if self.sample_rate_hz == self.file_rate_hz:
            return None
        return soxr.ResampleStream(self.file_rate_hz, self.sample_rate_hz, self.channels, dtype="float32")

    def _convert(
        self, block: NDArray[np.float32], resampler: soxr.ResampleStream | None, *, last: bool
    ) -> NDArray[np.float32]:
        if block.shape[1] != self.channels:
            block = block.mean(axis=1, keepdims=True, dtype=np.float32)
        if resampler is None:
            return block
        # soxr takes and gives one channel as a plain row.
        fed = block[:, 0] if self.channels == 1 else block
        resampled: NDArray[np.float32] = resampler.resample_chunk(fed, last=last)
        return resampled.reshape(-1, self.channels)

    def _nothing(self) -> NDArray[np.float32]:
        return np.zeros((0, self.channels), dtype=np.float32)


def open_recording(path: Path) -> Recording:
    """Look at a file without reading its samples.

    Raises:
        RecordingError: No such file, not audio, or nothing in it.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        if path.stat().st_size == 0:
            raise RecordingError(f"{path}: the file is empty")
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as exc:
        raise RecordingError(f"{path}: not a recording that can be read; WAV, FLAC and OGG can") from exc
    if info.frames == 0:
        raise RecordingError(f"{path}: the recording is empty, there is no audio in it")
    return Recording(path, info.frames / info.samplerate, info.samplerate, info.channels)


def _to_int16(samples: NDArray[np.float32]) -> bytes:
    # 32768, so that what was int16 in the file is sent as it was.
    scaled = np.clip(np.rint(samples * 32_768.0), -32_768, 32_767)
    as_bytes: bytes = scaled.astype("<i2").tobytes()
    return as_bytes
