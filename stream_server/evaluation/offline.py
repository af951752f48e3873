"""Decodes recordings in this process: cut as a session cuts them, or whole utterances.

Knows no model: what transcribes and what scores speech are arguments.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.client.latency import Utterance
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, n_fitting
from stream_server.core.messages import BeamSearch, SessionId, Task, Tier
from stream_server.engine.transcriber import Transcriber
from vad.audio import FRAME_SAMPLES
from vad.recording import StreamScorer, segment_recording

BATCH = 8
"""Rows decoded at once, as many as a server's default."""
WHOLE_S_MAX = 30
"""The longest window that Whisper reads."""

Samples: TypeAlias = NDArray[np.int16]
"""int16 (n,) at 16 kHz."""


class TooLong(Exception):
    """Raised when something is to be decoded whole that no window holds; names the length."""


def cut_segments(samples: Samples, scorer: StreamScorer) -> list[Samples]:
    """The windows that a session would decode for its finals."""
    # A slice ends with the samples, and so leaves out what pads the last frame, as a session does.
    return [
        samples[cut.start_frame * FRAME_SAMPLES : cut.end_frame * FRAME_SAMPLES]
        for cut in segment_recording(samples, scorer)
    ]


def cut_utterances(samples: Samples, timed: Sequence[Utterance]) -> list[Samples]:
    """The whole recording if one window holds it, else its utterances.

    Raises:
        TooLong: There is no window of 30 s that holds it, or one of its utterances.
    """
    limit = WHOLE_S_MAX * SAMPLE_RATE_HZ
    if len(samples) <= limit:
        return [samples]
    spans = [(round(said.start_s * SAMPLE_RATE_HZ), round(said.end_s * SAMPLE_RATE_HZ)) for said in timed]
    windows = [samples[start:end] for start, end in spans]
    longest = max((len(window) for window in windows), default=len(samples))
    if longest > limit:
        raise TooLong(f"{longest / SAMPLE_RATE_HZ:.1f} s long; --whole reads at most {WHOLE_S_MAX} s")
    return [window for window in windows if len(window)]


def decode_windows(
    windows: Sequence[Samples], transcriber: Transcriber, beam: BeamSearch | None = None
) -> str:
    """The texts of the windows, in their order, decoded in batches, by beam search if one is given."""
    jobs = [_job(index, window, beam) for index, window in enumerate(windows)]
    texts = [
        result.text.strip() for batch in _batches(jobs) for result in transcriber.transcribe(Batch(batch))
    ]
    return " ".join(text for text in texts if text)


def _batches(jobs: Sequence[DecodeJob]) -> Iterator[tuple[DecodeJob, ...]]:
    begin = 0
    while begin < len(jobs):
        end = begin + n_fitting(jobs[begin:], BATCH)
        yield tuple(jobs[begin:end])
        begin = end


def _job(index: int, window: Samples, beam: BeamSearch | None) -> DecodeJob:
    return DecodeJob(
        session=SessionId("evaluate"),
        segment=index,
        revision=0,
        final=True,
        start=0,
        pcm=window.astype("<i2").tobytes(),
        language=None,
        task=Task.TRANSCRIBE,
        tier=Tier.LIVE,
        hops=Hops(),
        beam=beam,
    )
