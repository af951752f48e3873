"""What a second look at whole utterances would gain: words read wrong in running speech, cut and whole.

Recordings of one condition are put end to end, so that the 5 s rule has to cut
speech. The detector and the segmenter cut as in a session; then the segments are decoded, and so are the
utterances of several segments, each in one window of at most 30 s. What is counted on both sides are all
words, those of utterances of one segment included. The manifest is
as for ``stream-server evaluate``. Run: ``python -m benchmarks.second_look [--model DIR] [MANIFEST]``.
"""

import argparse
import datetime
import platform
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
import torch

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.engine.manifest import embedded_model
from stream_server.engine.text import normalise_english
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.evaluation.counts import count_errors, pool
from stream_server.evaluation.offline import WHOLE_S_MAX, Samples, decode_windows
from stream_server.evaluation.references import Reference, parse_manifest
from vad.audio import FRAME_SAMPLES
from vad.model import SileroVad
from vad.recording import StreamScorer, segment_recording

HELDOUT = embedded_model().parent / "recordings" / "heldout" / "manifest.json"
RUN_S_MAX = 25.0
"""Length of a run of joined utterances; its edges leave a second look room in 30 s."""


def condition_of(reference: Reference) -> str:
    """The manifest's field of that name."""
    return reference.fields.get("condition", "(none)")


def spoken(path: Path) -> list[Reference]:
    """Recordings of a manifest in which somebody speaks, in the order of their conditions."""
    usable = parse_manifest(path.read_bytes(), path).usable
    return sorted((reference for reference in usable if reference.speech), key=condition_of)


def runs(references: Sequence[Reference]) -> Iterator[tuple[str, Samples, str]]:
    """Condition, samples and text of utterances put end to end."""
    for condition, members in groupby(references, key=condition_of):
        pieces: list[Samples] = []
        texts: list[str] = []
        for reference in members:
            samples = soundfile.read(str(reference.path), dtype="int16")[0]
            if pieces and sum(map(len, pieces)) + len(samples) > RUN_S_MAX * SAMPLE_RATE_HZ:
                yield condition, np.concatenate(pieces), " ".join(texts)
                pieces, texts = [], []
            pieces.append(samples)
            texts.append(reference.text)
        yield condition, np.concatenate(pieces), " ".join(texts)


def cuts(samples: Samples, scorer: StreamScorer) -> tuple[list[Samples], list[Samples]]:
    """The segments, and the same with the segments of an utterance joined where 30 s hold them."""
    segments: list[Samples] = []
    looks: list[Samples] = []
    utterance: list[tuple[int, int]] = []
    for cut in segment_recording(samples, scorer):
        utterance.append((cut.start_frame * FRAME_SAMPLES, cut.end_frame * FRAME_SAMPLES))
        segments.append(samples[slice(*utterance[-1])])
        if not cut.utterance_end:
            continue
        start, end = utterance[0][0], utterance[-1][1]
        fits = end - start <= WHOLE_S_MAX * SAMPLE_RATE_HZ
        spans = [(start, end)] if fits else utterance
        looks += [samples[slice(*span)] for span in spans]
        utterance = []
    return segments, looks


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    parser.add_argument(
        "manifest", type=Path, nargs="?", default=HELDOUT, help="default: the held-out recordings"
    )
    asked = parser.parse_args()
    folder: Path = asked.model
    set_torch_threads(1)
    transcriber = WhisperTranscriber(folder, "cpu")
    network = SileroVad()
    print(f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}, {folder.name}")
    print(f"{'condition':16}{'segments':>9}{'windows':>9}{'words':>7}{'cut':>8}{'whole':>8}")
    found = []
    for condition, samples, text in runs(spoken(asked.manifest)):
        segments, looks = cuts(samples, network)
        reference = normalise_english(text)
        counts = [
            count_errors(reference, normalise_english(decode_windows(windows, transcriber)))
            for windows in (segments, looks)
        ]
        found.append((condition, len(segments), len(looks), *counts))
    for name, rows in [*((c, list(r)) for c, r in groupby(found, key=lambda row: row[0])), ("all", found)]:
        cut, whole = pool(row[3] for row in rows), pool(row[4] for row in rows)
        n_segments, n_looks = sum(row[1] for row in rows), sum(row[2] for row in rows)
        print(f"{name:16}{n_segments:9}{n_looks:9}{cut.words:7}{cut.wer:8.1%}{whole.wer:8.1%}")


if __name__ == "__main__":
    main()
