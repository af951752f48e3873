"""One client's bytes, in any chunks and any supported format, to int16 mono at 16 kHz.

The output depends on the concatenated bytes only, not on where messages were cut: a sample split
over two messages waits here for its second half, and the resampler keeps its own history.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import soxr
from numpy.typing import NDArray

from stream_server.audio.g711 import ALAW_TO_INT16, MULAW_TO_INT16
from stream_server.errors import UnsupportedAudio

SAMPLE_RATE_HZ = 16_000
"""What VAD and Whisper read."""
RATE_HZ_MIN = 8_000
RATE_HZ_MAX = 48_000
CHANNELS_MAX = 2


class Encoding(Enum):
    """How a sample is written."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"


BYTES_PER_SAMPLE = {Encoding.PCM_S16LE: 2, Encoding.PCM_F32LE: 4, Encoding.MULAW: 1, Encoding.ALAW: 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the client's bytes mean; channels are interleaved.

    Raises:
        UnsupportedAudio: A rate outside 8,000-48,000 Hz, or more than two channels.
    """

    encoding: Encoding = Encoding.PCM_S16LE
    sample_rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1

    def __post_init__(self) -> None:
        if not RATE_HZ_MIN <= self.sample_rate_hz <= RATE_HZ_MAX:
            raise UnsupportedAudio(f"sample_rate must be {RATE_HZ_MIN} to {RATE_HZ_MAX} Hz")
        if not 1 <= self.channels <= CHANNELS_MAX:
            raise UnsupportedAudio(f"channels must be 1 to {CHANNELS_MAX}")

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of every channel."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels


class AudioDecoder:
    """Turns one stream's bytes into int16 mono 16 kHz samples; holds the state between messages."""

    def __init__(self, audio: AudioFormat) -> None:
        self._format = audio
        self._split = b""
        self.n_samples = 0
        """Whole samples taken, at the client's rate; one of every channel counts once."""
        self._resampler: soxr.ResampleStream | None = None
        if audio.sample_rate_hz != SAMPLE_RATE_HZ:
            # float32 in and out: soxr's own int16 output adds dither, which would make the text depend
            # on a random seed.
            self._resampler = soxr.ResampleStream(
                audio.sample_rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ"
            )

    @property
    def n_stray_bytes(self) -> int:
        """Bytes of a sample whose rest has not come."""
        return len(self._split)

    def push(self, data: bytes) -> NDArray[np.int16]:
        """Decode the next bytes.

        Returns:
            int16 (n,): the samples that are complete so far; the resampler holds back a few ms.

        Raises:
            UnsupportedAudio: A float sample is not a finite number.
        """
        data = self._split + data
        whole = len(data) - len(data) % self._format.bytes_per_frame
        self._split = data[whole:]
        self.n_samples += whole // self._format.bytes_per_frame
        return self._convert(data[:whole], last=False)

    def drop_split(self) -> None:
        """Forget a sample whose rest will not come: what is pushed next begins with a whole one."""
        self._split = b""

    def finish(self) -> NDArray[np.int16]:
        """Return what the resampler held back, int16 (n,); nothing may be pushed afterwards."""
        return self._convert(b"", last=True)

    def _convert(self, data: bytes, *, last: bool) -> NDArray[np.int16]:
        encoding, channels = self._format.encoding, self._format.channels
        if self._resampler is None and channels == 1 and encoding is not Encoding.PCM_F32LE:
            return _integer_samples(data, encoding)
        mono = _float_samples(data, encoding).reshape(-1, channels).mean(axis=1, dtype=np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        return _to_int16(mono)


def _integer_samples(data: bytes, encoding: Encoding) -> NDArray[np.int16]:
    if encoding is Encoding.PCM_S16LE:
        return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)
    table = MULAW_TO_INT16 if encoding is Encoding.MULAW else ALAW_TO_INT16
    return table[np.frombuffer(data, dtype=np.uint8)]


def _float_samples(data: bytes, encoding: Encoding) -> NDArray[np.float32]:
    """float32 (n,) in [-1, 1]."""
    if encoding is not Encoding.PCM_F32LE:
        return _integer_samples(data, encoding).astype(np.float32) / np.float32(32768)
    samples = np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise UnsupportedAudio("pcm_f32le samples must be finite numbers; got NaN or infinity")
    # Beyond full scale nothing is gained, and sums of huge numbers are infinite.
    return samples.clip(-1, 1)


def _to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
