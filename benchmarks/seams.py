"""What cutting running speech costs: cuts inside words, words lost or doubled beside them, and wrong words.

Recordings whose words have times are trimmed to their speech and put end to end, so that nobody pauses and
the 5 s rule has to cut. The detector and the segmenter cut as in a session. Without any model it is counted
how many cuts lie inside a word; with a model, also how many words beside cuts are lost or doubled, and the
word error rate of the segments against that of the same utterances one by one.
Run: ``python -m benchmarks.seams [--model DIR | --no-model] [MANIFEST]``.
"""

import argparse
import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.core.words import TOKEN
from stream_server.engine.manifest import embedded_model
from stream_server.engine.text import normalise_english
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.evaluation.counts import Counts, count_errors, pool
from stream_server.evaluation.offline import Samples, decode_windows
from stream_server.evaluation.references import Reference, parse_manifest
from stream_server.evaluation.word_latency import SpokenWord
from vad.audio import FRAME_SAMPLES
from vad.events import CloseReason, SegmentClosed
from vad.model import SileroVad
from vad.recording import segment_recording

HELDOUT = embedded_model().parent / "recordings" / "heldout" / "manifest.json"
RUN_S_MIN = 30.0
EDGE_S = 0.05
"""Left of each recording around its speech."""
INSIDE_S = 0.03
"""A cut this far inside a word by its reference is inside: times of references are no better, and a frame
lasts as long."""
BESIDE_S = 0.6
"""A word this near to a cut is beside it."""


@dataclass(frozen=True, slots=True)
class Run:
    """Speech without a pause."""

    samples: Samples
    utterances: tuple[Samples, ...]
    words: tuple[SpokenWord, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Seams:
    """What became of the words beside cuts."""

    lost: int
    doubled: int


def runs(references: Sequence[Reference]) -> Iterator[Run]:
    """Recordings end to end, each run of at least ``RUN_S_MIN`` but for the last."""
    pieces: list[Samples] = []
    words: list[SpokenWord] = []
    texts: list[str] = []
    at = 0
    for reference in references:
        samples: Samples = soundfile.read(str(reference.path), dtype="int16")[0]
        begin = max(0, round((reference.words[0].start_s - EDGE_S) * SAMPLE_RATE_HZ))
        end = round((reference.words[-1].end_s + EDGE_S) * SAMPLE_RATE_HZ)
        shift_s = (at - begin) / SAMPLE_RATE_HZ
        pieces.append(samples[begin:end])
        words += [SpokenWord(w.text, w.start_s + shift_s, w.end_s + shift_s) for w in reference.words]
        texts.append(reference.text)
        at += len(pieces[-1])
        if at >= RUN_S_MIN * SAMPLE_RATE_HZ:
            yield Run(np.concatenate(pieces), tuple(pieces), tuple(words), " ".join(texts))
            pieces, words, texts, at = [], [], [], 0
    if pieces:
        yield Run(np.concatenate(pieces), tuple(pieces), tuple(words), " ".join(texts))


def cuts_of(closed: Sequence[SegmentClosed]) -> list[float]:
    """Where running speech was cut, in seconds."""
    return [
        one.end_frame * FRAME_SAMPLES / SAMPLE_RATE_HZ for one in closed if one.reason is CloseReason.LENGTH
    ]


def n_inside(cuts_s: Sequence[float], words: Sequence[SpokenWord]) -> int:
    """How many cuts lie inside a word."""
    return sum(
        any(word.start_s + INSIDE_S < cut_s < word.end_s - INSIDE_S for word in words) for cut_s in cuts_s
    )


def seams(words: Sequence[SpokenWord], heard: str, cuts_s: Sequence[float]) -> Seams:
    """Words of the reference beside cuts that were not heard, and those that were heard once too often."""
    plain = [(_plain(word.text), word) for word in words]
    said = [(text, word) for text, word in plain if text]
    texts, got = [text for text, _ in said], _plain(heard).split()
    if not got:
        return Seams(sum(_is_beside(word, cuts_s) for _, word in said), 0)
    lost = doubled = 0
    found = jiwer.process_words(" ".join(texts), " ".join(got))
    for chunk in found.alignments[0]:
        if chunk.type == "delete":
            missing = said[chunk.ref_start_idx : chunk.ref_end_idx]
            lost += sum(_is_beside(word, cuts_s) for _, word in missing)
        elif chunk.type == "insert":
            around = said[max(0, chunk.ref_start_idx - 1) : chunk.ref_start_idx + 1]
            beside = {text for text, word in around if _is_beside(word, cuts_s)}
            doubled += sum(word in beside for word in got[chunk.hyp_start_idx : chunk.hyp_end_idx])
    return Seams(lost, doubled)


def _plain(text: str) -> str:
    return " ".join(token.casefold() for token in TOKEN.findall(text) if token[0].isalnum())


def _is_beside(word: SpokenWord, cuts_s: Sequence[float]) -> bool:
    return any(word.start_s - BESIDE_S < cut_s < word.end_s + BESIDE_S for cut_s in cuts_s)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    parser.add_argument("--no-model", action="store_true", help="only where the cuts are")
    parser.add_argument("manifest", type=Path, nargs="?", default=HELDOUT, help="with word times")
    asked = parser.parse_args()
    set_torch_threads(1)
    usable = parse_manifest(asked.manifest.read_bytes(), asked.manifest).usable
    spoken = list(runs([one for one in usable if one.speech and one.words and not one.timed[1:]]))
    network = SileroVad()
    closed = [segment_recording(run.samples, network) for run in spoken]
    cuts = [cuts_of(one) for one in closed]
    n_cuts = sum(map(len, cuts))
    inside = sum(n_inside(cuts_s, run.words) for run, cuts_s in zip(spoken, cuts, strict=True))
    n_words = sum(len(run.words) for run in spoken)
    print(f"{datetime.date.today()}, {platform.machine()}, {n_words} words in {len(spoken)} runs")
    print(f"{n_cuts} cuts, {inside} ({inside / max(1, n_cuts):.0%}) inside a word")
    if not asked.no_model:
        _read(spoken, closed, WhisperTranscriber(asked.model, "cpu"), asked.model.name)


def _read(
    spoken: Sequence[Run],
    closed: Sequence[Sequence[SegmentClosed]],
    transcriber: WhisperTranscriber,
    name: str,
) -> None:
    """Print what a model makes of it."""
    alone = pool(_errors(run, decode_windows(run.utterances, transcriber)) for run in spoken)
    counts: list[Counts] = []
    lost = doubled = 0
    for run, segments in zip(spoken, closed, strict=True):
        spans = [(one.start_frame * FRAME_SAMPLES, one.end_frame * FRAME_SAMPLES) for one in segments]
        heard = decode_windows([run.samples[start:end] for start, end in spans], transcriber)
        counts.append(_errors(run, heard))
        found = seams(run.words, heard, cuts_of(segments))
        lost, doubled = lost + found.lost, doubled + found.doubled
    cut = pool(counts)
    print(f"{name}: beside cuts {lost} words lost, {doubled} doubled")
    print(f"word error rate: {alone.wer:.1%} of utterances one by one, {cut.wer:.1%} of running speech")


def _errors(run: Run, heard: str) -> Counts:
    return count_errors(normalise_english(run.text), normalise_english(heard))


if __name__ == "__main__":
    main()
