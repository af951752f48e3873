"""What training plays to the model where nobody speaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.demo_en import sounds

MAKERS = (
    sounds.steady, sounds.hum, sounds.beeps, sounds.line_tone, sounds.glide, sounds.clicks, sounds.thumps,
    sounds.puffs, sounds.chords, sounds.rumble,
)  # fmt: skip


@given(seed=st.integers(0, 1 << 32), n=st.integers(1, 8_000))
def test_a_drawn_sound_is_as_long_as_asked_and_within_full_scale(seed, n):
    samples = sounds.draw(n, np.random.default_rng(seed))
    assert samples.shape == (n,)
    assert samples.dtype == np.float32
    assert np.abs(samples).max(initial=0.0) <= 1.0


def test_a_seed_names_a_sound():
    first, again = (sounds.draw(16_000, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_maker_is_heard(maker):
    samples = maker(32_000, np.random.default_rng(3))
    assert samples.shape == (32_000,)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 1e-3


def test_digital_silence_is_among_them():
    rng = np.random.default_rng(0)
    assert any(not sounds.draw(400, rng).any() for _ in range(100))
