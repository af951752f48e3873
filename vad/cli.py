"""The command ``python -m vad``: reads a recording, prints its segments."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import soxr
import typer
from rich.console import Console
from rich.table import Table

from vad.audio import SAMPLE_RATE_HZ, Int16Array, frame_to_sample, sample_to_seconds
from vad.events import SegmentClosed
from vad.recording import segment_recording


class RecordingError(Exception):
    """Raised when a file cannot be read as a recording; the message is one line for the user."""


def read_recording(path: Path) -> Int16Array:
    """Read a WAV, FLAC or OGG file, mixed down to mono and resampled to 16 kHz.

    Returns:
        int16 (n,), n >= 1.

    Raises:
        RecordingError: no such file, not audio, or nothing in it.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise RecordingError(f"{path}: not a readable recording") from error
    mono = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    if len(mono) == 0:
        raise RecordingError(f"{path}: the recording is empty")
    scaled = np.clip(np.rint(mono * 32_768.0), -32_768, 32_767)
    return np.asarray(scaled, dtype=np.int16)


def list_segments(
    file: Annotated[Path, typer.Argument(help="A WAV, FLAC or OGG recording.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List where a recording contains speech, as the segments a live session would decode."""
    # Imported here so that --help and a mistyped name answer at once, without loading torch.
    from vad.model import NetworkFileError, SileroVad

    try:
        samples = read_recording(file)
        segments = segment_recording(samples, SileroVad())
    except (RecordingError, NetworkFileError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    rows = [_describe(segment, len(samples)) for segment in segments]
    if as_json:
        report = {"file": str(file), "seconds": sample_to_seconds(len(samples)), "segments": rows}
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        _print_table(rows)


def _describe(segment: SegmentClosed, n_samples: int) -> dict[str, Any]:
    """Return a segment in seconds. The padding of the last frame is not part of the recording."""
    start_s = sample_to_seconds(frame_to_sample(segment.start_frame))
    end_s = sample_to_seconds(min(n_samples, frame_to_sample(segment.end_frame)))
    return {
        "segment": segment.segment,
        "start_s": round(start_s, 3),
        "end_s": round(end_s, 3),
        "duration_s": round(end_s - start_s, 3),
        "reason": segment.reason.value,
        "utterance_end": segment.utterance_end,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table("segment", "start s", "end s", "duration s", "closed by", "ends utterance")
    for row in rows:
        times = [f"{row[key]:.3f}" for key in ("start_s", "end_s", "duration_s")]
        table.add_row(str(row["segment"]), *times, row["reason"], "yes" if row["utterance_end"] else "")
    Console().print(table)


def main() -> None:
    """Run the command; exit code 1 with one line on stderr when the recording cannot be read."""
    typer.run(list_segments)
