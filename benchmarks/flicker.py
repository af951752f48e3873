"""How much of what partials show is taken back, and what holding words back costs.

Recordings are cut as in a session; the growing segment is decoded every ``engine.partial_ms``, and at its
end once more, as a session without any load does. From the hypotheses follows what readers see: with
tentative words, and without them for each line of probability that a word must pass if only two hypotheses
agree on it. *Flicker* is that of ``stream-server
evaluate``; *later by* is how much longer a reader waits, on average, until something stands in the place of
a word. The manifest is as for ``stream-server evaluate``.
Run: ``python -m benchmarks.flicker [--model DIR] [MANIFEST]``.
"""

import argparse
import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch

from stream_server.config import Config
from stream_server.core.captions import SegmentCaption
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Task
from stream_server.engine.manifest import embedded_model
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.evaluation.flicker import measure_flicker
from stream_server.evaluation.offline import Samples
from stream_server.evaluation.references import parse_manifest
from vad.audio import FRAME_SAMPLES
from vad.model import SileroVad
from vad.recording import segment_recording

RECORDINGS = embedded_model().parent / "recordings" / "manifest.json"
FRAME_S = 0.032
LINES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class Segment:
    """What was heard of a segment, earliest first."""

    partials: tuple[tuple[str, tuple[float, ...]], ...]
    """Texts and the probabilities of their words."""
    final: str


def hear(
    samples: Samples, transcriber: WhisperTranscriber, network: SileroVad, step: int
) -> Iterator[Segment]:
    """The hypotheses of each segment of a recording, a partial for every ``step`` frames."""
    for cut in segment_recording(samples, network):
        start, end = cut.start_frame * FRAME_SAMPLES, cut.end_frame * FRAME_SAMPLES
        partials: list[tuple[str, tuple[float, ...]]] = []
        draft: tuple[int, ...] = ()
        for partial_end in range(start + step * FRAME_SAMPLES, end, step * FRAME_SAMPLES):
            result = _read(samples[start:partial_end], transcriber, draft, final=False)
            if (
                result.text or result.dropped is None
            ):  # As in a session: what the guard took away is not shown.
                partials.append((result.text, result.word_probabilities))
                draft = result.tokens
        yield Segment(tuple(partials), _read(samples[start:end], transcriber, draft, final=True).text)


def _read(
    samples: Samples, transcriber: WhisperTranscriber, draft: tuple[int, ...], *, final: bool
) -> DecodeResult:
    job = DecodeJob(
        session=SessionId("flicker"),
        segment=0,
        revision=1,
        final=final,
        start=0,
        pcm=samples.astype("<i2").tobytes(),
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
        draft=draft,
    )
    return transcriber.transcribe(Batch((job,)))[0]


def shown(segment: Segment, sure: float, *, tentative: bool) -> list[str]:
    """What a reader sees of a segment, its final last."""
    caption = SegmentCaption(sure)
    texts = []
    for hypothesis, probabilities in segment.partials:
        text, stable = caption.update(hypothesis, probabilities)
        texts.append(text if tentative else text[:stable])
    return [*texts, segment.final]


def mean_wait(texts: Sequence[Sequence[str]]) -> float:
    """Partials that pass, on average, before a place of the final is filled."""
    waits = [
        next((i for i, text in enumerate(seen) if len(text.split()) > place), len(seen) - 1)
        for seen in texts
        for place in range(len(seen[-1].split()))
    ]
    return sum(waits) / len(waits)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    parser.add_argument("manifest", type=Path, nargs="?", default=RECORDINGS, help="default: those included")
    asked = parser.parse_args()
    set_torch_threads(1)
    transcriber, network = WhisperTranscriber(asked.model, "cpu"), SileroVad()
    engine = Config().engine
    step = round(engine.partial_ms / (1000 * FRAME_S))
    heard: list[Segment] = []
    for reference in parse_manifest(asked.manifest.read_bytes(), asked.manifest).usable:
        if reference.speech:
            samples = soundfile.read(str(reference.path), dtype="int16")[0]
            heard += hear(samples, transcriber, network, step)
    said = [segment for segment in heard if segment.final]
    n_words = sum(len(segment.final.split()) for segment in said)
    print(f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}, {asked.model.name}")
    print(f"{len(said)} of {len(heard)} segments have a text, {n_words} words in all")
    print(f"a partial every {step * FRAME_S:.3f} s")
    print(f"{'shown':34}{'flicker':>9}{'later by':>10}")
    first = [shown(segment, 0, tentative=True) for segment in said]
    rows = [("tentative words, too", first)]
    for sure in LINES:
        name = f"two agree and {sure:.0%} sure, or three" if sure else "two agree"
        mark = " *" if sure == engine.sure_word else ""
        rows.append((name + mark, [shown(segment, sure, tentative=False) for segment in said]))
    for name, texts in rows:
        later_s = (mean_wait(texts) - mean_wait(first)) * step * FRAME_S
        print(f"{name:34}{measure_flicker(texts).rate or 0.0:9.1%}{later_s:8.2f} s")
    print("* the default")


if __name__ == "__main__":
    main()
