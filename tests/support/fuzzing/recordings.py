"""Recordings that commands open, and lists of what is said in them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from fuzzing.target import DEEP, Target, as_file
from stream_server.cli.audio_files import RecordingError, open_recording
from stream_server.evaluation.references import ManifestError, parse_manifest

_SECONDS_MAX = 5
"""Of a file whose header promises hours, no more is read; real commands read it piece by piece, too."""


def _feed_recording(data: bytes) -> None:
    recording = open_recording(as_file(data))
    assert recording.duration_s > 0
    assert recording.bytes_per_s > 0
    for n_blocks, block in enumerate(recording.blocks(1.0)):
        assert len(block) % (2 * recording.channels) == 0
        assert len(block) <= 4 * recording.bytes_per_s
        if n_blocks >= _SECONDS_MAX:
            break


def _recording_seeds() -> Iterator[bytes]:
    tone = 0.3 * np.sin(np.arange(1_600) / 7)
    for rate_hz, channels in ((16_000, 1), (44_100, 2), (8_000, 1)):
        for kind, subtype in (("WAV", "PCM_16"), ("WAV", "ULAW"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")):
            file = io.BytesIO()
            soundfile.write(file, np.tile(tone[:, None], channels), rate_hz, subtype=subtype, format=kind)
            yield file.getvalue()
    yield b"RIFF\xff\xff\xff\xffWAVE"


recording = Target(
    _feed_recording,
    (RecordingError,),
    _recording_seeds,
    (b"RIFF", b"WAVEfmt ", b"data", b"fact", b"fLaC", b"OggS", b"LIST", b"\xff\xff\xff\xff", b"\0\0\0\0"),
    memory_bytes_max=64 << 20,
    n_suite=40,
)


def _feed_references(data: bytes) -> None:
    found = parse_manifest(data, Path("/nowhere/manifest.json"))
    assert found.usable or found.problems


def _reference_seeds() -> Iterator[bytes]:
    words = [{"start": 0.1, "end": 0.4, "word": "yes"}]
    said = [{"start": 0, "end": 1, "text": "yes", "words": words}]
    yield json.dumps(
        {"recordings": [{"file": "a.wav", "text": "yes", "words": words, "voice": "x"}]}
    ).encode()
    yield json.dumps({"dialogue": {"file": "a.wav", "utterances": said}}).encode()
    yield b'{"recordings": [{"file": "a.wav", "speech": false}, {"file": "b.wav", "text": " "}]}'
    yield b"[]"


references = Target(
    _feed_references,
    (ManifestError,),
    _reference_seeds,
    (b'"utterances": ', b'"speech_end": ', b"1e999", b"NaN", b"-1", b"null", DEEP, b"\\ud800", b"\\u0000"),
)
