"""How much of what partials show is taken back, and what holding words back costs.

Recordings are sent to a session frame by frame; the engine answers each window after the same short time, as
it does without any load. So there are partials every ``engine.partial_ms``, readings in pauses, cuts and
joins. Readers see, by what the session is set to: tentative words; words that two hypotheses agree on; and
those of them that the model gives some probability, the others when a few more hypotheses agree. *Flicker* is
that of ``stream-server evaluate``; *later by* is how much longer a reader waits, on average, until something
stands in the place of a word. The manifest is as for ``stream-server evaluate``.
Run: ``python -m benchmarks.flicker [--model DIR] [MANIFEST]``.
"""

import argparse
import datetime
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from stream_server.audio.decoder import AudioFormat
from stream_server.config import Config
from stream_server.core.actions import Submit
from stream_server.core.captions import HYPOTHESES_ENOUGH
from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import Final, Limits, Partial, SessionId, Start, Tier
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.core.transcription import Step, Transcription
from stream_server.engine.manifest import embedded_model
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import Transcriber, WhisperTranscriber
from stream_server.evaluation.flicker import measure_flicker
from stream_server.evaluation.offline import Samples
from stream_server.evaluation.references import parse_manifest
from vad.audio import FRAME_SAMPLES, int16_to_float32
from vad.model import SileroVad

RECORDINGS = embedded_model().parent / "recordings" / "manifest.json"
FRAME_S = 0.032
ANSWER_FRAMES = 3
"""How long the engine takes for a window."""
SILENCE_S = 1
"""Behind each recording, so that its last pause is long enough."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One text that a reader sees of a segment."""

    text: str
    frame: int
    """When, counted from the recording's first."""


class Reader:
    """A model that remembers what it read: sessions with other settings ask for many of the same windows."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.facts = transcriber.facts
        self._transcriber = transcriber
        self._known: dict[DecodeJob, DecodeResult] = {}

    def read(self, job: DecodeJob) -> DecodeResult:
        """What the model says of one window."""
        # A draft changes what reading costs, and not what is read; a revision is but a number.
        key = replace(job, pcm=bytes(job.pcm), draft=(), revision=0)
        if key not in self._known:
            self._known[key] = self._transcriber.transcribe(Batch((replace(job, pcm=key.pcm),)))[0]
        return replace(self._known[key], revision=job.revision)


class Session:
    """One recording on its way through a session, a frame at a time."""

    def __init__(self, name: str, reader: Reader, settings: SessionSettings, *, tentative: bool) -> None:
        start = Start(AudioFormat(), tentative=tentative)
        self._stream = Transcription(SessionId(name), start, settings, 0.0)
        self._reader = reader
        self._frame = 0
        self._asked: list[tuple[int, DecodeJob]] = []
        self._partials: dict[int, list[Shown]] = defaultdict(list)
        self.segments: list[list[Shown]] = []
        """What a reader saw of each, the text of its final last."""

    def run(self, samples: Samples, scores: Sequence[float]) -> None:
        """Send whole frames, given their speech probabilities; returns after the last final."""
        for self._frame, score in enumerate(scores):
            self._take_answers()
            self._stream.append(samples[self._frame * FRAME_SAMPLES :][:FRAME_SAMPLES], 0.0)
            self._obey(self._stream.push_scores([score], 0.0))
        self._stream.end_audio(0.0)
        self._obey(self._stream.finish(0.0))
        while self._asked:
            self._frame += 1
            self._take_answers()

    def _take_answers(self) -> None:
        due = [job for frame, job in self._asked if frame <= self._frame]
        self._asked = [(frame, job) for frame, job in self._asked if frame > self._frame]
        for job in due:
            self._obey(self._stream.take(self._reader.read(job), 0.0))

    def _obey(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Submit(job):
                    self._asked.append((self._frame + ANSWER_FRAMES, job))
                case Partial():
                    self._partials[step.segment].append(Shown(step.text, self._frame))
                case Final():
                    self.segments.append([*self._partials[step.segment], Shown(step.text, self._frame)])
                case _:
                    continue


@dataclass(frozen=True, slots=True)
class Policy:
    """Which words are shown."""

    name: str
    sure_word: float = 0.0
    enough_hypotheses: int = 2
    tentative: bool = False


POLICIES = (
    Policy("tentative words, too", tentative=True),
    Policy("two agree"),
    *(
        Policy(f"two agree and {sure:.0%} sure, or {enough}", sure, enough)
        for sure, enough in ((0.5, 3), (0.9, 3), (0.2, 4), (0.3, 4), (0.5, 4), (0.3, 5), (0.5, 5), (0.5, 6))
    ),
    Policy("three agree", 1.01, 3),
    Policy("four agree", 1.01, 4),
)


def see(
    recordings: Sequence[tuple[str, Samples, Sequence[float]]], reader: Reader, policy: Policy
) -> list[list[Shown]]:
    """What is seen of the segments of all recordings: names, samples, speech probabilities."""
    config = Config()
    settings = SessionSettings(
        tiers=Tiers({Tier.LIVE: reader.facts}),
        limits=Limits(message_bytes=65_536, idle_s=0.0, ahead_s=0.0),
        segmenter=config.segments.segmenter(),
        context=config.engine.context,
        partial_frames=round(config.engine.partial_ms / (1000 * FRAME_S)),
        sure_word=policy.sure_word,
        enough_hypotheses=policy.enough_hypotheses,
    )
    seen = []
    for name, samples, scores in recordings:
        session = Session(name, reader, settings, tentative=policy.tentative)
        session.run(samples, scores)
        seen += session.segments
    return seen


def mean_wait_s(segments: Sequence[Sequence[Shown]]) -> float:
    """When, on average, the place of a word in the finals is filled, counted from the recordings' begins."""
    frames = [
        next((shown.frame for shown in seen if len(shown.text.split()) > place), seen[-1].frame)
        for seen in segments
        for place in range(len(seen[-1].text.split()))
    ]
    return sum(frames) / len(frames) * FRAME_S


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    parser.add_argument("manifest", type=Path, nargs="?", default=RECORDINGS, help="default: those included")
    asked = parser.parse_args()
    set_torch_threads(1)
    reader, network = Reader(WhisperTranscriber(asked.model, "cpu")), SileroVad()
    recordings = []
    for reference in parse_manifest(asked.manifest.read_bytes(), asked.manifest).usable:
        if reference.speech:
            samples = soundfile.read(str(reference.path), dtype="int16")[0]
            samples = np.concatenate((samples, np.zeros(SILENCE_S * 16_000, np.int16)))
            samples = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
            frames = int16_to_float32(samples.reshape(-1, FRAME_SAMPLES))
            recordings.append((str(reference.path), samples, network.score_stream(frames).tolist()))
    engine = Config().engine
    first = see(recordings, reader, POLICIES[0])
    n_words = sum(len(seen[-1].text.split()) for seen in first)
    print(f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}, {asked.model.name}")
    print(f"{len(first)} segments, {n_words} words, a partial every {engine.partial_ms} ms")
    print(f"{'shown':34}{'flicker':>9}{'later by':>10}")
    for policy in POLICIES:
        seen = see(recordings, reader, policy)
        later_s = mean_wait_s(seen) - mean_wait_s(first)
        is_default = (policy.sure_word, policy.enough_hypotheses) == (engine.sure_word, HYPOTHESES_ENOUGH)
        rate = measure_flicker([[shown.text for shown in texts] for texts in seen]).rate or 0.0
        print(f"{policy.name + ' *' * is_default:34}{rate:9.1%}{later_s:8.2f} s", flush=True)
    print("* the default")


if __name__ == "__main__":
    main()
