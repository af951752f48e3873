"""What ``bench`` sends: every recording of a manifest as 16 kHz mono, in one file that all clients map."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from stream_server.audio.decoder import AudioDecoder, AudioFormat
from stream_server.cli.audio_files import RecordingError, open_recording
from stream_server.client.latency import Utterance
from stream_server.evaluation.references import Reference
from stream_server.load.plan import SAMPLE_RATE_HZ, Clip
from stream_server.load.run import Material

BLOCK_S = 1.0


def write_material(references: Sequence[Reference], samples: Path) -> tuple[Material, list[str]]:
    """Read recordings into one file.

    Args:
        references: At least one.
        samples: Where to write.

    Returns:
        What can be sent, and one line for each recording that cannot be read.
    """
    clips: list[Clip] = []
    problems: list[str] = []
    with samples.open("wb") as file:
        for reference in references:
            first_sample = file.tell() // 2
            try:
                _append(reference.path, file)
            except RecordingError as exc:
                problems.append(str(exc))
                file.seek(2 * first_sample)
                file.truncate()
                continue
            clips.append(_clip(reference, first_sample, file.tell() // 2 - first_sample))
    return Material(samples, tuple(clips)), problems


def _append(path: Path, file: BinaryIO) -> None:
    recording = open_recording(path)
    audio = AudioFormat(sample_rate_hz=recording.sample_rate_hz, channels=recording.channels)
    decoder = AudioDecoder(audio)
    for block in recording.blocks(BLOCK_S):
        file.write(decoder.push(block).astype("<i2", copy=False).tobytes())
    file.write(decoder.finish().astype("<i2", copy=False).tobytes())


def _clip(reference: Reference, first_sample: int, n_samples: int) -> Clip:
    untimed = (Utterance(0.0, n_samples / SAMPLE_RATE_HZ, reference.text),) if reference.speech else ()
    return Clip(
        first_sample=first_sample,
        n_samples=n_samples,
        said=reference.timed or untimed,
        is_timed=bool(reference.timed),
        words=reference.words,
    )
