"""The canary: a window whose answer is known, decoded now and then to see that a worker still reads right.

It is a partial, which is decoded greedily at one temperature: always the same answer of the same
weights on the same device, alone in its batch.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile

from stream_server.core.hops import Hops
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId, Task, Tier
from stream_server.engine.fake import numbered_speech

CANARY = SessionId("canary")
"""Of no session: those are 32 hexadecimal digits."""
_RECORDING = "assets/recordings/01.flac"
"""2.7 s of English: models of any size and language write something of it."""


def canary_jobs(models: Mapping[Tier, Path | None]) -> list[DecodeJob]:
    """The window for each tier's model folder, or for the fake engine where that is None."""
    return [_canary_job(tier, folder) for tier, folder in models.items()]


def _canary_job(tier: Tier, model: Path | None) -> DecodeJob:
    return DecodeJob(
        session=CANARY,
        segment=0,
        revision=1,
        final=False,
        start=0,
        pcm=numbered_speech(range(40)).tobytes() if model is None else _recording(),
        language=None,
        task=Task.TRANSCRIBE,
        tier=tier,
        hops=Hops(),
    )


def _recording() -> bytes:
    file = resources.files("stream_server") / _RECORDING
    with resources.as_file(file) as path:
        samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == 16_000, "the package's recordings are made at the engine's rate"
    return np.asarray(samples, dtype="<i2").tobytes()
