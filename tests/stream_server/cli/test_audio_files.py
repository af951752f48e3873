from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_server.cli.audio_files import RecordingError, open_recording


def write(path: Path, rate_hz: int = 16_000, seconds: float = 1.0, channels: int = 1) -> Path:
    """A tone, a little louder in each further channel."""
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    tone = np.sin(2 * np.pi * 440 * times) * 8_000
    samples = np.stack([tone * (1 + index / 10) for index in range(channels)], axis=1)
    soundfile.write(path, samples.astype(np.int16), rate_hz)
    return path


def samples_of(path: Path, block_s: float) -> np.ndarray:
    recording = open_recording(path)
    sent = np.frombuffer(b"".join(recording.blocks(block_s)), dtype="<i2")
    return sent.reshape(-1, recording.channels)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_wav_flac_and_ogg_are_read(tmp_path: Path, suffix: str) -> None:
    recording = open_recording(write(tmp_path / f"tone.{suffix}", 16_000))
    assert recording.duration_s == pytest.approx(1.0)
    assert sum(map(len, recording.blocks(0.1))) == 32_000


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("block_s", [0.0301, 1.0])
def test_what_the_server_takes_is_sent_to_the_bit_whatever_the_blocks(
    tmp_path: Path, rate_hz: int, channels: int, block_s: float
) -> None:
    path = write(tmp_path / "tone.wav", rate_hz, 0.5, channels)
    recording = open_recording(path)
    assert (recording.sample_rate_hz, recording.channels) == (rate_hz, channels)
    expected, _ = soundfile.read(path, dtype="int16", always_2d=True)
    assert np.array_equal(samples_of(path, block_s), expected)


@pytest.mark.parametrize("rate_hz", [4_000, 96_000])
def test_other_rates_are_resampled_and_keep_their_length(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "tone.wav", rate_hz, 1.0, 2)
    recording = open_recording(path)
    assert (recording.sample_rate_hz, recording.channels) == (16_000, 2)
    assert len(samples_of(path, 0.1)) == pytest.approx(16_000, abs=2)
    assert np.array_equal(samples_of(path, 0.1), samples_of(path, 0.77))


@pytest.mark.parametrize("rate_hz", [16_000, 96_000])
def test_more_than_two_channels_are_mixed_down(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "tone.wav", rate_hz, 0.2, 4)
    recording = open_recording(path)
    assert recording.channels == 1
    mixed = samples_of(path, 0.05)
    assert np.abs(mixed).max() == pytest.approx(8_000 * 1.15, rel=0.02)


def test_loud_float_files_are_clipped_not_wrapped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full(1600, 2.0), 16_000, subtype="FLOAT")
    assert samples_of(tmp_path / "loud.wav", 0.1).min() == 32_767


def test_a_tenth_of_a_second_is_a_recording(tmp_path: Path) -> None:
    assert len(samples_of(write(tmp_path / "short.wav", seconds=0.1), 1.0)) == 1600


def make_nothing(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("This is not audio.")


def make_no_frames(path: Path) -> None:
    soundfile.write(path, np.zeros(0, dtype=np.int16), 16_000)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_no_file(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_no_file, "no such file"),
        (make_folder, "is a folder"),
        (make_nothing, "the file is empty"),
        (make_no_frames, "there is no audio in it"),
        (make_text, "not a recording"),
    ],
)
def test_what_cannot_be_streamed_is_named_with_the_reason(tmp_path: Path, make: object, words: str) -> None:
    assert callable(make)
    path = tmp_path / "talk.wav"
    make(path)
    with pytest.raises(RecordingError, match=words) as caught:
        open_recording(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_recording_that_vanishes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path / "tone.wav"))
    recording.path.unlink()
    with pytest.raises(RecordingError, match="damaged"):
        list(recording.blocks(0.1))
