"""What happens to speech on its way to a microphone: pure functions of samples and a generator.

Samples are float32 (n,) at 16 kHz throughout.
"""

from __future__ import annotations

import numpy as np
import soxr

from .config import SAMPLE_RATE_HZ, Stage

_TELEPHONE_HZ = 8_000
_MU = 255.0


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play faster (factor > 1): pitch and formants move too, which makes new voices of few."""
    return _float32(soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ))


def telephone(samples: np.ndarray) -> np.ndarray:
    """Send through a telephone line: 300–3,400 Hz, 8 kHz, µ-law (G.711), and back."""
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, _TELEPHONE_HZ)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / _TELEPHONE_HZ)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    narrow = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    coded = np.round(np.sign(narrow) * np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU) * 127) / 127
    heard = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    wide = _float32(soxr.resample(heard, _TELEPHONE_HZ, SAMPLE_RATE_HZ))
    return np.pad(wide, (0, max(0, len(samples) - len(wide))))[: len(samples)]


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n samples of coloured noise, hum, or a mixture, with a power of about one."""
    white = rng.standard_normal(n).astype(np.float32)
    if rng.random() < 0.35:
        return white
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 20.0)
    spectrum = np.fft.rfft(white) * (hertz / 500.0) ** -rng.uniform(0.3, 1.2)
    if rng.random() < 0.25:  # mains hum with its overtones
        mains_hz = float(rng.choice([50.0, 60.0]))
        for k in range(1, 8):
            at = int(k * mains_hz * n / SAMPLE_RATE_HZ)
            spectrum[at : at + 1] += np.abs(spectrum).max() * rng.uniform(0.2, 2.0)
    coloured = np.fft.irfft(spectrum, n)
    return _float32(coloured / (np.sqrt(np.mean(coloured**2)) + 1e-9))


def add_noise(samples: np.ndarray, disturbance: np.ndarray, snr_db: float) -> np.ndarray:
    """Add a disturbance (float32 (n,)) so that speech lies ``snr_db`` above it; silence does not count."""
    power = np.mean(np.square(samples[np.abs(samples) > 1e-3])) if np.any(np.abs(samples) > 1e-3) else 1e-4
    disturbing = np.mean(np.square(disturbance)) + 1e-12
    scale = np.sqrt(power / disturbing / 10 ** (snr_db / 10))
    return _float32(samples + scale * disturbance)


def echo(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put the speaker into a room: direct sound and an exponentially fading tail of 0.1–0.6 s."""
    fade_s = rng.uniform(0.1, 0.6)
    n = int(fade_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * rng.uniform(0.02, 0.12)
    tail[: int(0.002 * SAMPLE_RATE_HZ)] = 0
    tail[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(samples) + n)))
    heard = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return _float32(heard[: len(samples)])


def set_level(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale to a random peak: a whispering far microphone up to nearly full scale."""
    peak = 10 ** rng.uniform(-1.3, -0.02)
    return _float32(samples * (peak / (np.abs(samples).max() + 1e-6)))


def disturb(
    samples: np.ndarray, stage: Stage, rng: np.random.Generator, babble: np.ndarray | None
) -> np.ndarray:
    """Apply what the stage asks for, in the order of nature: room, noise, line, level."""
    if rng.random() < stage.p_echo:
        samples = echo(samples, rng)
    if rng.random() < stage.p_noise:
        low, high = stage.snr_db
        if babble is None:
            samples = add_noise(samples, noise(len(samples), rng), rng.uniform(low, high))
        else:  # another speaker must stay well behind, or nobody could say whose words are meant
            samples = add_noise(samples, babble, rng.uniform(max(low, 12.0), high))
    if rng.random() < stage.p_telephone:
        samples = telephone(set_level(samples, rng))
    return set_level(samples, rng)


def _float32(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples, dtype=np.float32)
