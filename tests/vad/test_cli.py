"""The command ``python -m vad``."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vad.cli import RecordingError, main, read_recording


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["vad", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_recording_is_mixed_down_and_resampled(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"stereo.{format.lower()}"
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(path, np.stack([tone, np.zeros(44_100)], axis=1), 44_100, format=format)
    samples = read_recording(path)
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(16_000, abs=2)
    assert abs(samples[4_000:12_000]).max() == pytest.approx(0.25 * 32_768, rel=0.05)


def test_16_khz_mono_samples_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "mono.wav"
    samples = np.array([-32_768, -1, 0, 1, 32_767] * 100, dtype=np.int16)
    soundfile.write(path, samples, 16_000)
    np.testing.assert_array_equal(read_recording(path), samples)


def test_a_full_scale_recording_does_not_wrap_around(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(1_000, 1.5, dtype=np.float32), 16_000, subtype="FLOAT")
    assert set(read_recording(path)) == {32_767}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "not a readable recording", id="no bytes"),
        pytest.param(b"hello, this is text", "not a readable recording", id="text"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "file.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=rf"file\.wav: {message}"):
        read_recording(path)


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        read_recording(tmp_path)


def test_a_recording_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0, dtype=np.int16), 16_000)
    with pytest.raises(RecordingError, match="the recording is empty"):
        read_recording(path)


@pytest.mark.model
def test_an_unreadable_file_is_one_line_on_stderr_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path / "[red]gone.wav")) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.strip().endswith("[red]gone.wav: no such file")
    assert output.err.count("\n") == 1


@pytest.mark.model
def test_segments_are_listed_as_json(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(recordings / "05.flac"), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    length_s = soundfile.info(recordings / "05.flac").duration
    assert report["seconds"] == pytest.approx(length_s, abs=0.001)
    (segment,) = report["segments"]
    assert segment["segment"] == 0
    assert segment["start_s"] < 0.2
    assert segment["end_s"] == pytest.approx(length_s, abs=0.001), "padding is not counted"
    assert segment["duration_s"] == pytest.approx(segment["end_s"] - segment["start_s"])
    assert segment["reason"] == "end"
    assert segment["utterance_end"] is True


@pytest.mark.model
def test_segments_are_listed_as_a_table(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vad", str(recordings / "10.flac")])
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("vad", run_name="__main__")
    assert exited.value.code == 0
    assert f"{soundfile.info(recordings / '10.flac').duration:.1f}" in capsys.readouterr().out
