"""Sounds of rooms and lines in which nobody speaks, so that the model learns to stay silent. Pure.

Makers return float32 (n,) at 16 kHz with a peak near one. The sounds that judge the engine
(``tests/support/nonspeech.py``) are made by other code and from other seeds.
"""

from __future__ import annotations

import numpy as np

from .augment import noise
from .config import SAMPLE_RATE_HZ


def draw(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n samples of one sound, or of two at once, at a random level; digital silence now and then."""
    if rng.random() < 0.12:
        return np.zeros(n, np.float32)
    samples = _one(n, rng)
    if rng.random() < 0.3:
        samples = samples + _one(n, rng) * rng.uniform(0.05, 1.0)
    floor = noise(n, rng) * 10 ** rng.uniform(-4.5, -2.5)
    level = 10 ** rng.uniform(-3.3, -0.1)
    return np.clip(samples / (np.abs(samples).max() + 1e-9) * level + floor, -1, 1).astype(np.float32)


def _one(n: int, rng: np.random.Generator) -> np.ndarray:
    makers = (steady, hum, beeps, glide, clicks, thumps, puffs, chords, rumble, line_tone)
    samples = makers[int(rng.integers(len(makers)))](n, rng)
    return np.asarray(samples / (np.abs(samples).max() + 1e-9), np.float32)


def steady(n: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise, still or slowly swelling."""
    swell = 1.0 + rng.uniform(0, 0.95) * np.sin(2 * np.pi * rng.uniform(0.05, 4.0) * _time(n) + _phase(rng))
    return noise(n, rng) * swell


def hum(n: int, rng: np.random.Generator) -> np.ndarray:
    """A transformer, a fan or a drill: a low note and its overtones, perhaps wavering."""
    base_hz = float(np.exp(rng.uniform(np.log(40), np.log(400))))
    waver = 1 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(0.2, 6) * _time(n))
    phase = 2 * np.pi * np.cumsum(base_hz * waver) / SAMPLE_RATE_HZ
    slope = rng.uniform(0.5, 2.0)
    tone = sum(rng.uniform(0, 1) / k**slope * np.sin(k * phase + _phase(rng)) for k in range(1, 12))
    return np.asarray(tone + noise(n, rng) * 10 ** rng.uniform(-2.5, -0.5))


def beeps(n: int, rng: np.random.Generator) -> np.ndarray:
    """Telephones, ovens and alarms: one to three tones, switched."""
    tone = sum(np.sin(2 * np.pi * rng.uniform(150, 4000) * _time(n)) for _ in range(int(rng.integers(1, 4))))
    return np.asarray(tone) * _switched(n, rng)


def line_tone(n: int, rng: np.random.Generator) -> np.ndarray:
    """Dial, ringing and busy tones, and the pairs of a telephone's keys."""
    pairs = (
        (350, 440),
        (440, 480),
        (480, 620),
        (425, 425),
        (400, 450),
        (697, 1209),
        (852, 1477),
        (941, 1336),
    )
    low_hz, high_hz = pairs[int(rng.integers(len(pairs)))]
    tone = np.sin(2 * np.pi * low_hz * _time(n)) + np.sin(2 * np.pi * high_hz * _time(n))
    return tone * _switched(n, rng)


def glide(n: int, rng: np.random.Generator) -> np.ndarray:
    """Sirens, whistles, squeaking chairs: a tone that moves, with or without overtones."""
    knots = np.exp(rng.uniform(np.log(150), np.log(3500), size=int(rng.integers(2, 12))))
    hz = np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ
    tone = np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase) + rng.uniform(0, 0.3) * np.sin(3 * phase)
    return np.asarray(tone * _switched(n, rng) if rng.random() < 0.5 else tone)


def clicks(n: int, rng: np.random.Generator) -> np.ndarray:
    """Keyboards, mice, pens, crackling paper and lines: short bursts, sparse or dense."""
    samples = np.zeros(n)
    for at in rng.integers(0, n, size=1 + rng.poisson(n / SAMPLE_RATE_HZ * 10 ** rng.uniform(-0.3, 1.5))):
        width = min(int(SAMPLE_RATE_HZ * 10 ** rng.uniform(-3.5, -1.4)) + 2, n - at)
        samples[at : at + width] += (
            rng.uniform(0.1, 1) * rng.standard_normal(width) * np.exp(-4 * np.arange(width) / width)
        )
    return _band(samples, rng) if rng.random() < 0.6 else samples


def thumps(n: int, rng: np.random.Generator) -> np.ndarray:
    """Steps, doors, cups and a table that is knocked on: damped resonances."""
    samples = np.zeros(n)
    for at in rng.integers(0, n, size=1 + rng.poisson(n / SAMPLE_RATE_HZ * rng.uniform(0.3, 3))):
        width = min(int(SAMPLE_RATE_HZ * rng.uniform(0.03, 0.5)), n - at)
        time = _time(width)
        for _ in range(int(rng.integers(1, 5))):
            hz = np.exp(rng.uniform(np.log(50), np.log(2500)))
            samples[at : at + width] += (
                rng.uniform(0.1, 1) * np.sin(2 * np.pi * hz * time) * np.exp(-time * rng.uniform(10, 120))
            )
    return samples


def puffs(n: int, rng: np.random.Generator) -> np.ndarray:
    """Breath, coughs, wind at the microphone, rustling clothes: bands of noise that come and go."""
    swing = np.clip(np.interp(np.linspace(0, 1, n), np.linspace(0, 1, 24), rng.uniform(-1, 1, 24)), 0, 1)
    return _band(rng.standard_normal(n), rng) * swing ** rng.uniform(0.5, 3)


def chords(n: int, rng: np.random.Generator) -> np.ndarray:
    """Music on hold: notes of a few overtones, struck or held, alone or together."""
    samples = np.zeros(n)
    root_hz, decay = rng.uniform(70, 400), rng.uniform(0.5, 8.0)
    step = int(rng.uniform(0.1, 1.0) * SAMPLE_RATE_HZ)
    for at in range(0, n, step):
        width = min(int(rng.uniform(1, 3) * step), n - at)
        for semitone in rng.choice([0, 2, 3, 4, 5, 7, 9, 10, 12, 14], size=int(rng.integers(1, 4))):
            phase = 2 * np.pi * root_hz * 2 ** (semitone / 12) * _time(width)
            note = sum(rng.uniform(0, 1) / k * np.sin(k * phase) for k in range(1, 7))
            samples[at : at + width] += note * np.exp(-decay * _time(width))
    return samples


def rumble(n: int, rng: np.random.Generator) -> np.ndarray:
    """Lorries, lifts, a hand on the microphone: noise below the voice."""
    low = _filtered(rng.standard_normal(n), 10.0, rng.uniform(40, 250))
    return low * (0.3 + np.abs(np.sin(_time(n) * rng.uniform(0.2, 9))))


def _switched(n: int, rng: np.random.Generator) -> np.ndarray:
    """On and off, with soft edges; sometimes on throughout."""
    if rng.random() < 0.25:
        return np.ones(n)
    on = np.sin(2 * np.pi * 10 ** rng.uniform(-0.7, 1.0) * _time(n) + _phase(rng)) > rng.uniform(-0.9, 0.9)
    return np.convolve(on, np.ones(96) / 96, "same")[:n]


def _band(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low_hz = np.exp(rng.uniform(np.log(80), np.log(2500)))
    return _filtered(samples, low_hz, min(low_hz * rng.uniform(1.5, 8), 7500))


def _filtered(samples: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Keep a band, with edges an octave wide."""
    hertz = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), 1.0)
    keep = 1 / (1 + (low_hz / hertz) ** 4) / (1 + (hertz / high_hz) ** 4)
    return np.fft.irfft(np.fft.rfft(samples) * keep, len(samples))


def _time(n: int) -> np.ndarray:
    """Seconds of n samples."""
    return np.arange(n) / SAMPLE_RATE_HZ


def _phase(rng: np.random.Generator) -> float:
    return float(rng.uniform(0, 2 * np.pi))
