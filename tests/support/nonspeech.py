"""Sounds in which nobody speaks, made from a seed: what an engine must not turn into words.

Each maker returns float64 samples of any level; ``nonspeech`` joins random ones, with random levels and
pauses, into a recording. Babble of voices is left out: it is speech.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
Sound = NDArray[np.float64]


def nonspeech(seed: int, seconds: float) -> NDArray[np.int16]:
    """int16 (n,) at 16 kHz: a recording of random sounds, -60 to -6 dB of full scale."""
    random = np.random.default_rng(seed)
    pieces = [sound for _, sound in sounds(random, seconds)]
    return np.concatenate(pieces)[: round(seconds * RATE_HZ)]


def sounds(random: np.random.Generator, seconds: float) -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Kinds and samples, int16 (n,), of successive sounds of 2 to 12 s, ``seconds`` long or more."""
    made = 0
    while made < seconds * RATE_HZ:
        kind = KINDS[random.integers(len(KINDS))]
        n_samples = int(random.uniform(2, 12) * RATE_HZ)
        made += n_samples
        yield kind.__name__, _levelled(kind(random, n_samples), random)


def _levelled(sound: Sound, random: np.random.Generator) -> NDArray[np.int16]:
    peak = np.abs(sound).max()
    if peak == 0:
        return np.zeros(len(sound), dtype=np.int16)
    level = 10 ** (random.uniform(-60, -6) / 20)
    floor = random.normal(size=len(sound)) * 10 ** (random.uniform(-90, -60) / 20)
    return np.clip((sound / peak * level + floor) * 32_767, -32_768, 32_767).astype(np.int16)


def silence(random: np.random.Generator, n_samples: int) -> Sound:
    """Digital silence."""
    return np.zeros(n_samples)


def noise(random: np.random.Generator, n_samples: int) -> Sound:
    """White, pink or brown noise, steady or swelling."""
    return _coloured(random, n_samples, random.choice([0.0, 0.5, 1.0])) * _swell(random, n_samples)


def hum(random: np.random.Generator, n_samples: int) -> Sound:
    """Mains hum with harmonics, or a fan."""
    base_hz = random.choice([50.0, 60.0, random.uniform(80, 300)])
    return sum(
        random.uniform(0, 1) / k * np.sin(2 * np.pi * base_hz * k * _times(n_samples) + random.uniform(0, 6))
        for k in range(1, 9)
    ) + 0.1 * _coloured(random, n_samples, 0.5)


def tones(random: np.random.Generator, n_samples: int) -> Sound:
    """Beeps of a telephone or an alarm: one or two frequencies, on and off."""
    times = _times(n_samples)
    tone = np.sin(2 * np.pi * random.uniform(200, 3_500) * times)
    tone += random.integers(2) * np.sin(2 * np.pi * random.uniform(200, 3_500) * times)
    is_on = np.sin(2 * np.pi * random.uniform(0.2, 8) * times) > random.uniform(-1.1, 0.8)
    return tone * np.convolve(is_on, np.ones(80) / 80, "same")


def sweep(random: np.random.Generator, n_samples: int) -> Sound:
    """A siren: a tone that glides."""
    hz = random.uniform(300, 1_500) * 2 ** (
        random.uniform(0, 1) * np.sin(2 * np.pi * random.uniform(0.1, 2) * _times(n_samples))
    )
    return np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)


def keyboard(random: np.random.Generator, n_samples: int) -> Sound:
    """Keys: short bursts of filtered noise, irregular."""
    sound = np.zeros(n_samples)
    at = 0
    while (at := at + int(random.gamma(3, 0.06) * RATE_HZ) + 160) < n_samples:
        n_click = min(int(random.uniform(0.005, 0.04) * RATE_HZ), n_samples - at)
        decay = np.exp(-np.arange(n_click) / (n_click / 5 + 1))
        sound[at : at + n_click] += random.uniform(0.2, 1) * random.normal(size=n_click) * decay
    return sound


def knocks(random: np.random.Generator, n_samples: int) -> Sound:
    """Knocks and closing doors: damped resonances."""
    sound = np.zeros(n_samples)
    for at in random.integers(0, n_samples, max(1, int(n_samples / RATE_HZ * random.uniform(0.3, 4)))):
        n_ring = min(int(0.3 * RATE_HZ), n_samples - at)
        times = _times(n_ring)
        sound[at : at + n_ring] += np.exp(-times * random.uniform(15, 80)) * np.sin(
            2 * np.pi * random.uniform(60, 600) * times
        )
    return sound


def breath(random: np.random.Generator, n_samples: int) -> Sound:
    """Breathing or wind at the microphone: noise in one broad band that rises and falls."""
    band = _band(random.normal(size=n_samples), random.uniform(100, 800), random.uniform(1_500, 5_000))
    rate_hz = random.uniform(0.2, 0.8)
    return band * np.clip(np.sin(2 * np.pi * rate_hz * _times(n_samples)), 0.02, 1)


def music(random: np.random.Generator, n_samples: int) -> Sound:
    """Chords or arpeggios of decaying harmonic notes."""
    sound = np.zeros(n_samples)
    root_hz = random.uniform(80, 300)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    step = int(random.uniform(0.12, 0.8) * RATE_HZ)
    n_voices = random.integers(1, 5)
    for at in range(0, n_samples, step):
        n_note = min(3 * step, n_samples - at)
        times = _times(n_note)
        for degree in random.choice(scale, n_voices, replace=False):
            hz = root_hz * 2 ** (degree / 12)
            note = sum(np.sin(2 * np.pi * hz * k * times) / k for k in range(1, 6))
            envelope = np.exp(-times * random.uniform(1, 6)) * np.minimum(1, times * 100)
            sound[at : at + n_note] += note * envelope
    return sound


KINDS: list[Callable[[np.random.Generator, int], Sound]] = [
    silence,
    noise,
    hum,
    tones,
    sweep,
    keyboard,
    knocks,
    breath,
    music,
]


def _times(n_samples: int) -> Sound:
    return np.arange(n_samples) / RATE_HZ


def _swell(random: np.random.Generator, n_samples: int) -> Sound:
    depth, rate_hz = random.uniform(0, 0.9), random.uniform(0.1, 6)
    return 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate_hz * _times(n_samples)))


def _coloured(random: np.random.Generator, n_samples: int, slope: float) -> Sound:
    """Noise whose amplitude falls with frequency to the power of ``slope``."""
    spectrum = np.fft.rfft(random.normal(size=n_samples))
    hz = np.maximum(np.fft.rfftfreq(n_samples, 1 / RATE_HZ), 20)
    return np.fft.irfft(spectrum / hz**slope, n_samples)


def _band(sound: Sound, low_hz: float, high_hz: float) -> Sound:
    spectrum = np.fft.rfft(sound)
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] *= 0.05
    return np.fft.irfft(spectrum, len(sound))
