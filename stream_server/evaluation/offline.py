"""Decodes recordings in this process: as a session does, or whole utterances.

Knows no model: what transcribes and what scores speech are arguments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import SAMPLE_RATE_HZ, AudioFormat
from stream_server.client.latency import Utterance
from stream_server.config import SegmentsSection
from stream_server.core.actions import Submit
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, n_fitting
from stream_server.core.messages import BeamSearch, Final, Limits, SessionId, Start, Task, Tier
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.core.transcription import Transcription
from stream_server.engine.transcriber import Transcriber
from vad.audio import int16_to_float32
from vad.config import SegmenterConfig
from vad.recording import StreamScorer

BATCH = 8
"""Rows decoded at once, as many as a server's default."""
WHOLE_S_MAX = 30
"""The longest window that Whisper reads."""

Samples: TypeAlias = NDArray[np.int16]
"""int16 (n,) at 16 kHz."""


class TooLong(Exception):
    """Raised when something is to be decoded whole that no window holds; names the length."""


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


def decode_stream(
    samples: Samples,
    scorer: StreamScorer,
    transcriber: Transcriber,
    beam: BeamSearch | None = None,
    *,
    segmenter: SegmenterConfig | None = None,
    context: bool = False,
) -> list[Final]:
    """The finals of a session that is sent a recording, int16 (n,) at 16 kHz.

    Args:
        samples: The recording.
        scorer: Where there is speech.
        transcriber: The model.
        beam: How texts are searched for; None decodes greedily.
        segmenter: Where speech is cut; None is a server's default.
        context: Whether each final is read on from those before, if the model can.
    """
    stream = Transcription(
        SessionId("evaluate"),
        Start(AudioFormat(), partials=False, context=context, beam=beam),
        SessionSettings(
            tiers=Tiers({Tier.LIVE: transcriber.facts}),
            limits=Limits(message_bytes=len(samples) * 2, idle_s=0.0, ahead_s=0.0),
            segmenter=segmenter or SegmentsSection().segmenter(),
        ),
        now_s=0.0,
    )
    frames = np.concatenate((stream.append(samples, 0.0), stream.end_audio(0.0)))
    scores = scorer.score_stream(int16_to_float32(frames)).tolist()
    steps = [*stream.finish(0.0), *stream.push_scores(scores, 0.0)]
    finals: list[Final] = []
    waiting: list[DecodeJob] = []
    while True:
        finals += [step for step in steps if isinstance(step, Final)]
        # As on the way to the engine's process.
        waiting += [replace(step.job, pcm=bytes(step.job.pcm)) for step in steps if isinstance(step, Submit)]
        if not waiting:
            return finals
        n_jobs = n_fitting(waiting, BATCH)
        batch, waiting = Batch(tuple(waiting[:n_jobs])), waiting[n_jobs:]
        steps = [step for result in transcriber.transcribe(batch) for step in stream.take(result, 0.0)]


def text_of(finals: Sequence[Final]) -> str:
    """What they say, in one line."""
    return " ".join(text for final in finals if (text := final.text.strip()))


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
