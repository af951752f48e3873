import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from load_clips import clip_of

from stream_server.load.plan import Placed
from stream_server.load.stream_audio import NOISE_PEAK, make_noise, stream_chunks

ONE = np.arange(1_000, 1_700, dtype="<i2")
TWO = np.arange(5_000, 5_100, dtype="<i2")
SAMPLES = np.concatenate([ONE, TWO]).tobytes()
CLIPS = (clip_of(0, 700), clip_of(700, 100))


@given(chunk=st.integers(1, 3_000), n_samples=st.integers(1, 4_000))
def test_a_stream_has_each_recording_where_it_is_placed_whatever_the_chunks(
    chunk: int, n_samples: int
) -> None:
    placed = (Placed(0, 512), Placed(1, 1_300), Placed(0, 2_560))
    chunks = list(stream_chunks(CLIPS, placed, memoryview(SAMPLES), n_samples, chunk))
    assert {len(one) for one in chunks[:-1]} <= {2 * chunk}
    stream = np.frombuffer(b"".join(chunks), dtype="<i2")
    assert len(stream) == n_samples
    expected = np.zeros(4_000, dtype="<i2")
    is_speech = np.zeros(4_000, dtype=bool)
    for one, source in zip(placed, (ONE, TWO, ONE), strict=True):
        expected[one.start_sample : one.start_sample + len(source)] = source
        is_speech[one.start_sample : one.start_sample + len(source)] = True
    is_speech = is_speech[:n_samples]
    np.testing.assert_array_equal(stream[is_speech], expected[:n_samples][is_speech])
    assert np.abs(stream[~is_speech]).max(initial=0) <= NOISE_PEAK


def test_the_pause_is_faint_noise_and_not_digital_silence() -> None:
    noise = np.frombuffer(make_noise(), dtype="<i2")
    assert len(noise) == 16_000
    assert np.abs(noise).max() == NOISE_PEAK
    assert abs(noise.mean()) < 0.2
