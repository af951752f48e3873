"""Bytes of every kind to int16 mono at 16 kHz, wherever the messages were cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream_server.audio.decoder import BYTES_PER_SAMPLE, AudioDecoder, AudioFormat, Encoding
from stream_server.audio.g711 import ALAW_TO_INT16, MULAW_TO_INT16
from stream_server.errors import UnsupportedAudio

S16, F32, MULAW, ALAW = Encoding.PCM_S16LE, Encoding.PCM_F32LE, Encoding.MULAW, Encoding.ALAW
RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)


def decode(audio: AudioFormat, *chunks: bytes) -> NDArray[np.int16]:
    decoder = AudioDecoder(audio)
    return np.concatenate([*(decoder.push(chunk) for chunk in chunks), decoder.finish()])


def noise(audio: AudioFormat, n_frames: int, seed: int = 1) -> bytes:
    rng = np.random.default_rng(seed)
    n_samples = n_frames * audio.channels
    if audio.encoding is F32:
        return rng.uniform(-1.2, 1.2, n_samples).astype("<f4").tobytes()
    return rng.bytes(n_samples * BYTES_PER_SAMPLE[audio.encoding])


@pytest.mark.parametrize(
    ("rate_hz", "channels", "hint"),
    [
        (7_999, 1, "8000 to 48000"),
        (48_001, 1, "8000"),
        (16_000, 0, "channels"),
        (16_000, 3, "1 to 2"),
        (-1, 1, "Hz"),
    ],
)
def test_a_format_out_of_range_is_unsupported(rate_hz: int, channels: int, hint: str) -> None:
    with pytest.raises(UnsupportedAudio, match=hint):
        AudioFormat(S16, rate_hz, channels)


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_the_limits_themselves_are_supported(rate_hz: int) -> None:
    assert AudioFormat(F32, rate_hz, 2).bytes_per_frame == 8


def test_16_khz_pcm_arrives_as_it_was_sent() -> None:
    samples = np.array([0, 1, -1, 32_767, -32_768], dtype="<i2")
    assert np.array_equal(decode(AudioFormat(), samples.tobytes()), samples)


def test_floats_are_rounded_and_clipped_to_full_scale() -> None:
    samples = np.array([0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 1.6 / 32768], dtype="<f4")
    expected = [0, 16_384, -16_384, 32_767, -32_768, 32_767, -32_768, 2]
    assert decode(AudioFormat(F32), samples.tobytes()).tolist() == expected


@pytest.mark.parametrize(("encoding", "table"), [(MULAW, MULAW_TO_INT16), (ALAW, ALAW_TO_INT16)])
def test_g711_at_16_khz_is_its_table(encoding: Encoding, table: NDArray[np.int16]) -> None:
    assert np.array_equal(decode(AudioFormat(encoding), bytes(range(256))), table)


@pytest.mark.parametrize("encoding", [S16, F32])
def test_two_channels_are_mixed_down_to_their_mean(encoding: Encoding) -> None:
    stereo = np.array([[1_000, 3_000], [-500, 500], [32_767, 32_767], [-32_768, 32_767]], dtype="<i2")
    data = stereo.tobytes() if encoding is S16 else (stereo / 32_768).astype("<f4").tobytes()
    assert decode(AudioFormat(encoding, channels=2), data).tolist() == [2_000, 0, 32_767, 0]


def test_two_g711_channels_are_mixed_down() -> None:
    assert decode(AudioFormat(MULAW, channels=2), b"\x80\x00\x80\x80").tolist() == [0, 32_124]


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("encoding", list(Encoding))
def test_the_output_does_not_depend_on_where_messages_are_cut(
    encoding: Encoding, rate_hz: int, channels: int
) -> None:
    audio = AudioFormat(encoding, rate_hz, channels)
    data = noise(audio, 400)
    whole = decode(audio, data)
    assert np.array_equal(whole, decode(audio, *(data[i : i + 1] for i in range(len(data)))))
    assert abs(len(whole) - 400 * 16_000 / rate_hz) <= 1


@given(st.sampled_from(Encoding), st.sampled_from(RATES), st.integers(1, 2), st.data())
def test_any_cuts_give_the_same_samples(
    encoding: Encoding, rate_hz: int, channels: int, data: st.DataObject
) -> None:
    audio = AudioFormat(encoding, rate_hz, channels)
    sound = noise(audio, 2_000, seed=data.draw(st.integers(0, 9)))
    cuts = data.draw(st.lists(st.integers(0, len(sound)), max_size=10).map(sorted))
    chunks = [sound[a:b] for a, b in zip([0, *cuts], [*cuts, len(sound)], strict=True)]
    assert np.array_equal(decode(audio, sound), decode(audio, *chunks))


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_comes_out_as_the_same_tone(rate_hz: int, channels: int) -> None:
    times_s = np.arange(rate_hz) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * times_s)
    data = np.repeat(tone, channels).astype("<f4").tobytes()
    heard = decode(AudioFormat(F32, rate_hz, channels), data)[1_600:14_400] / 32_768
    assert len(heard) == 12_800
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * 16_000 / len(heard) == pytest.approx(440, abs=1.25)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    # In step with the original too: the sample index is the time.
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1_600, 14_400) / 16_000)
    assert np.max(np.abs(heard - expected)) < 0.01


@pytest.mark.parametrize("tone_hz", [8_400, 10_000, 15_000, 23_000])
def test_a_tone_too_high_for_16_khz_is_not_heard_as_another(tone_hz: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(48_000) / 48_000)
    heard = decode(AudioFormat(F32, 48_000), tone.astype("<f4").tobytes())[1_600:14_400]
    assert np.max(np.abs(heard)) < 40


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_what_is_no_finite_number_is_refused(bad: float, rate_hz: int) -> None:
    decoder = AudioDecoder(AudioFormat(F32, rate_hz))
    with pytest.raises(UnsupportedAudio, match="finite"):
        decoder.push(np.array([0.0, bad], dtype="<f4").tobytes())
    assert len(decoder.finish()) == 0


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_huge_floats_are_full_scale_and_leave_no_trace(rate_hz: int, channels: int) -> None:
    audio = AudioFormat(F32, rate_hz, channels)
    loud = np.full(4_800 * channels, 3e38, dtype="<f4").tobytes()
    quiet = np.zeros(4_800 * channels, dtype="<f4").tobytes()
    samples = decode(audio, loud, quiet)
    assert samples[len(samples) // 4] > 32_000
    assert np.all(samples[-100:] == 0)


@pytest.mark.parametrize(
    ("audio", "data", "n_stray"),
    [
        (AudioFormat(), b"\0\0\0", 1),
        (AudioFormat(S16, channels=2), b"\0\0\0", 3),
        (AudioFormat(F32), bytes(7), 3),
        (AudioFormat(F32, 48_000, 2), bytes(15), 7),
        (AudioFormat(MULAW), bytes(7), 0),
        (AudioFormat(ALAW, channels=2), bytes(7), 1),
    ],
)
def test_bytes_of_a_sample_whose_rest_has_not_come_are_counted(
    audio: AudioFormat, data: bytes, n_stray: int
) -> None:
    decoder = AudioDecoder(audio)
    decoder.push(data)
    assert decoder.n_stray_bytes == n_stray
    decoder.push(bytes(audio.bytes_per_frame - n_stray))
    assert decoder.n_stray_bytes == 0


def test_the_resampler_holds_back_little_and_gives_it_at_the_end() -> None:
    decoder = AudioDecoder(AudioFormat(S16, 48_000))
    before = len(decoder.push(bytes(2 * 48_000)))
    rest = len(decoder.finish())
    assert before + rest == 16_000
    assert rest < 800
