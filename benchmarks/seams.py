"""What cutting running speech costs: cuts inside words, words lost or doubled beside them, and wrong words.

Recordings whose words have times are trimmed to their speech and put end to end, so that nobody pauses and
the 5 s rule has to cut; recordings of several utterances are taken as they are. What decodes them is a
session, but for its sockets. Compared are, by their wrong words: the utterances one by one; the same speech
cut, with windows side by side; the same with windows that overlap and are joined (``core.seams``); and, for
what cutting costs where no word is harmed, cut between words by the reference. ``in words`` counts the cuts,
or seams, inside a word; ``lost`` and ``doubled`` the words beside them.
Run: ``python -m benchmarks.seams [--model DIR] [MANIFEST]``. Running speech by one voice, which none of the
included recordings is, is made by ``python -m training.demo_en monologues``.
"""

import argparse
import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.config import SegmentsSection
from stream_server.core.messages import Final
from stream_server.core.words import TOKEN
from stream_server.engine.manifest import embedded_model
from stream_server.engine.text import normalise_english
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.evaluation.counts import Counts, count_errors, pool
from stream_server.evaluation.offline import Samples, decode_stream, decode_windows, text_of
from stream_server.evaluation.references import Reference, parse_manifest
from stream_server.evaluation.word_latency import SpokenWord
from vad.model import SileroVad
from vad.recording import StreamScorer

HELDOUT = embedded_model().parent / "recordings" / "heldout" / "manifest.json"
SERVER = SegmentsSection().segmenter()
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


def recorded(reference: Reference) -> Run:
    """A recording of several utterances, as it is."""
    samples: Samples = soundfile.read(str(reference.path), dtype="int16")[0]
    between_s = [(one.end_s + other.start_s) / 2 for one, other in pairwise(reference.timed)]
    borders_s = list(pairwise([0.0, *between_s, len(samples) / SAMPLE_RATE_HZ]))
    spans_s = [
        (max(first_s, said.start_s - EDGE_S), min(last_s, said.end_s + EDGE_S))
        for said, (first_s, last_s) in zip(reference.timed, borders_s, strict=True)
    ]
    utterances = tuple(
        samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)] for start_s, end_s in spans_s
    )
    return Run(samples, utterances, reference.words, reference.text)


def cuts_of(finals: Sequence[Final]) -> list[float]:
    """Where running speech was cut, or its windows were joined, in seconds."""
    return [final.end / SAMPLE_RATE_HZ for final in finals if not final.utterance_end]


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


def between_words(run: Run, cuts_s: Sequence[float]) -> list[Samples]:
    """The run, cut at the borders of words, by the reference, that are nearest to some cuts."""
    borders_s = [(one.end_s + other.start_s) / 2 for one, other in pairwise(run.words)]
    nearest_s = sorted({min(borders_s, key=lambda border_s: abs(border_s - cut_s)) for cut_s in cuts_s})
    return np.split(run.samples, [round(at_s * SAMPLE_RATE_HZ) for at_s in nearest_s])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    parser.add_argument("--context", action="store_true", help="finals are read on from those before")
    parser.add_argument(
        "--overlap-ms", type=float, default=SERVER.overlap_ms, help="of joined windows; a server's by default"
    )
    parser.add_argument("manifest", type=Path, nargs="?", default=HELDOUT, help="with word times")
    asked = parser.parse_args()
    set_torch_threads(1)
    usable = parse_manifest(asked.manifest.read_bytes(), asked.manifest).usable
    timed = [one for one in usable if one.speech and one.words]
    network, transcriber = SileroVad(), WhisperTranscriber(asked.model, "cpu")
    print(f"{datetime.date.today()}, {platform.machine()}, {asked.model.name}")
    if not transcriber.facts.can_time_words:
        print("the model cannot tell when words were said: nothing is joined")
    for title, material in (
        ("utterances put end to end", list(runs([one for one in timed if not one.timed[1:]]))),
        ("long recordings", [recorded(one) for one in timed if one.timed[1:]]),
    ):
        if material:
            print(f"\n{title}: {sum(len(run.words) for run in material)} words in {len(material)} runs")
            _compare(material, network, transcriber, asked.overlap_ms, context=asked.context)


def _compare(
    material: Sequence[Run],
    scorer: StreamScorer,
    transcriber: WhisperTranscriber,
    overlap_ms: float,
    *,
    context: bool,
) -> None:
    """Print what a model makes of the same runs, cut in four ways."""
    print(f"{'':34}{'wrong':>7}{'cuts':>6}{'in words':>10}{'lost':>6}{'doubled':>9}")
    alone = [decode_windows(run.utterances, transcriber) for run in material]
    _row("utterances one by one", material, alone)
    read = {
        name: [
            decode_stream(
                run.samples,
                scorer,
                transcriber,
                segmenter=replace(SERVER, overlap_ms=overlap),
                context=context,
            )
            for run in material
        ]
        for name, overlap in (
            ("cut, windows side by side", 0.0),
            (f"cut, {overlap_ms:g} ms joined", overlap_ms),
        )
    }
    cuts = [cuts_of(finals) for finals in next(iter(read.values()))]
    cleanly = [
        decode_windows(between_words(run, cuts_s), transcriber)
        for run, cuts_s in zip(material, cuts, strict=True)
    ]
    _row("cut between words, by reference", material, cleanly, cuts)
    for name, streams in read.items():
        _row(name, material, [text_of(finals) for finals in streams], [cuts_of(finals) for finals in streams])


def _row(
    name: str, material: Sequence[Run], heard: Sequence[str], cuts: Sequence[Sequence[float]] = ()
) -> None:
    wrong = pool([_errors(run, text) for run, text in zip(material, heard, strict=True)])
    if not cuts:
        print(f"{name:34}{wrong.wer:>7.1%}", flush=True)
        return
    beside = [seams(run.words, text, at) for run, text, at in zip(material, heard, cuts, strict=True)]
    inside = sum(n_inside(at, run.words) for run, at in zip(material, cuts, strict=True))
    lost, doubled = sum(one.lost for one in beside), sum(one.doubled for one in beside)
    print(f"{name:34}{wrong.wer:>7.1%}{sum(map(len, cuts)):>6}{inside:>10}{lost:>6}{doubled:>9}", flush=True)


def _errors(run: Run, heard: str) -> Counts:
    return count_errors(normalise_english(run.text), normalise_english(heard))


if __name__ == "__main__":
    main()
