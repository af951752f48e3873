"""What cutting running speech costs: cuts inside words, words lost or doubled beside them, and wrong words.

Recordings whose words have times are trimmed to their speech and put end to end, so that nobody pauses and
the 5 s rule has to cut; recordings of several utterances are taken as they are. What decodes them is a
session, but for its sockets. Compared are, by their wrong words:

- the utterances one by one, cut out where the reference says that they begin and end;
- as many whole utterances as a window of the server's length holds, which tells what longer windows cost a
  model where nothing is cut: most models read windows of one length better than those of another;
- the same speech as a session cuts it, with windows side by side;
- the same with windows that overlap and are joined (``core.seams``).

``in words`` counts the cuts, or seams, inside a word; ``lost`` and ``doubled`` the words beside them. The
second table parts all words of the reference by whether a seam of the last reading is near. If cutting were
what costs, the words near a seam would be read worse than by the windows of whole utterances, and the
others would not.
Run: ``python -m benchmarks.seams [--model DIR] [MANIFEST]``. Running speech by one voice, which none of the
included recordings is, is made by ``python -m training.demo_en monologues``.
"""

import argparse
import datetime
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

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
NEAR_S = 1.0
"""A word this near to a seam may be read worse for it: that much of it or of its neighbours is not heard."""

Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in a run, samples."""


@dataclass(frozen=True, slots=True)
class Run:
    """Speech without a pause."""

    samples: Samples
    utterances: tuple[Span, ...]
    words: tuple[SpokenWord, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Seams:
    """What became of the words beside cuts."""

    lost: int
    doubled: int


@dataclass(slots=True)
class Misread:
    """What is wrong with some of the words of references."""

    n_words: int = 0
    changed: int = 0
    lost: int = 0
    added: int = 0

    def __add__(self, other: "Misread") -> "Misread":
        """Of both."""
        return Misread(
            self.n_words + other.n_words,
            self.changed + other.changed,
            self.lost + other.lost,
            self.added + other.added,
        )

    @property
    def share(self) -> float:
        """Wrong words of all."""
        return (self.changed + self.lost + self.added) / max(1, self.n_words)


def runs(references: Sequence[Reference]) -> Iterator[Run]:
    """Recordings end to end, each run of at least ``RUN_S_MIN`` but for the last."""
    pieces: list[Samples] = []
    spans: list[Span] = []
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
        spans.append((at, at + len(pieces[-1])))
        at = spans[-1][1]
        if at >= RUN_S_MIN * SAMPLE_RATE_HZ:
            yield Run(np.concatenate(pieces), tuple(spans), tuple(words), " ".join(texts))
            pieces, spans, words, texts, at = [], [], [], [], 0
    if pieces:
        yield Run(np.concatenate(pieces), tuple(spans), tuple(words), " ".join(texts))


def recorded(reference: Reference) -> Run:
    """A recording of several utterances, as it is."""
    samples: Samples = soundfile.read(str(reference.path), dtype="int16")[0]
    between_s = [(one.end_s + other.start_s) / 2 for one, other in pairwise(reference.timed)]
    borders_s = list(pairwise([0.0, *between_s, len(samples) / SAMPLE_RATE_HZ]))
    utterances = tuple(
        (
            round(max(first_s, said.start_s - EDGE_S) * SAMPLE_RATE_HZ),
            round(min(last_s, said.end_s + EDGE_S) * SAMPLE_RATE_HZ),
        )
        for said, (first_s, last_s) in zip(reference.timed, borders_s, strict=True)
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


def misread(words: Sequence[SpokenWord], heard: str, seams_s: Sequence[float]) -> tuple[Misread, Misread]:
    """What is wrong with the words near seams, and with the others.

    An added word counts with the one before it.
    """
    said = [(text, word) for word in words for text in _plain(word.text).split()]
    near, elsewhere = Misread(), Misread()
    parts = [near if _is_near(word, seams_s) else elsewhere for _, word in said]
    for part in parts:
        part.n_words += 1
    got = _plain(heard).split()
    if not got:
        near.lost, elsewhere.lost = near.n_words, elsewhere.n_words
        return near, elsewhere
    found = jiwer.process_words(" ".join(text for text, _ in said), " ".join(got))
    for chunk in found.alignments[0]:
        if chunk.type == "insert":
            parts[max(0, chunk.ref_start_idx - 1)].added += chunk.hyp_end_idx - chunk.hyp_start_idx
            continue
        for part in parts[chunk.ref_start_idx : chunk.ref_end_idx]:
            part.changed += chunk.type == "substitute"
            part.lost += chunk.type == "delete"
    return near, elsewhere


def _is_near(word: SpokenWord, seams_s: Sequence[float]) -> bool:
    middle_s = (word.start_s + word.end_s) / 2
    return any(abs(middle_s - seam_s) < NEAR_S for seam_s in seams_s)


def filled(utterances: Sequence[Span], n_samples_max: int) -> list[Span]:
    """Windows of as many whole utterances as each may hold; one that is longer stands alone."""
    windows: list[Span] = []
    for start, end in utterances:
        if windows and end - windows[-1][0] <= n_samples_max:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


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
    """Print what a model makes of the same runs, in four kinds of windows."""
    n_max = round(SERVER.segment_s_max * SAMPLE_RATE_HZ)
    whole = {
        "utterances one by one": [list(run.utterances) for run in material],
        f"utterances, in {SERVER.segment_s_max:g} s as many as fit": [
            filled(run.utterances, n_max) for run in material
        ],
    }
    heard = {
        name: [
            decode_windows([run.samples[start:end] for start, end in windows], transcriber)
            for run, windows in zip(material, all_windows, strict=True)
        ]
        for name, all_windows in whole.items()
    }
    n_windows = {name: sum(map(len, all_windows)) for name, all_windows in whole.items()}
    cuts: dict[str, list[list[float]]] = {}
    for name, overlap in (("cut, windows side by side", 0.0), (f"cut, {overlap_ms:g} ms joined", overlap_ms)):
        segmenter = replace(SERVER, overlap_ms=overlap)
        streams = [
            decode_stream(run.samples, scorer, transcriber, segmenter=segmenter, context=context)
            for run in material
        ]
        heard[name] = [text_of(finals) for finals in streams]
        n_windows[name] = sum(map(len, streams))
        cuts[name] = [cuts_of(finals) for finals in streams]
    print(f"{'':34}{'wrong':>7}{'windows':>9}{'cuts':>6}{'in words':>10}{'lost':>6}{'doubled':>9}")
    for name, texts in heard.items():
        _row(name, material, texts, n_windows[name], cuts.get(name))
    _by_distance(material, heard, cuts[name])


def _row(
    name: str,
    material: Sequence[Run],
    heard: Sequence[str],
    n_windows: int,
    cuts: Sequence[Sequence[float]] | None,
) -> None:
    """Print one kind of windows: wrong words, windows per second, and what is beside its cuts."""
    wrong = pool([_errors(run, text) for run, text in zip(material, heard, strict=True)])
    seconds = sum(len(run.samples) for run in material) / SAMPLE_RATE_HZ
    row = f"{name:34}{wrong.wer:>7.1%}{n_windows / seconds:>7.2f}/s"
    if cuts is not None:
        beside = [seams(run.words, text, at) for run, text, at in zip(material, heard, cuts, strict=True)]
        inside = sum(n_inside(at, run.words) for run, at in zip(material, cuts, strict=True))
        lost, doubled = sum(one.lost for one in beside), sum(one.doubled for one in beside)
        row += f"{sum(map(len, cuts)):>6}{inside:>10}{lost:>6}{doubled:>9}"
    print(row)


def _by_distance(
    material: Sequence[Run], heard: Mapping[str, Sequence[str]], seams_s: Sequence[Sequence[float]]
) -> None:
    """Print what each kind of windows makes of the words near some seams, and of all others."""
    title = f"words less than {NEAR_S:g} s from a seam of the last row, and the others"
    print(f"{title:>80}")
    print(f"{'':34}" + 2 * f"{'wrong':>9}{'changed':>8}{'lost':>6}{'added':>6}")
    for name, texts in heard.items():
        parts = [misread(run.words, text, at) for run, text, at in zip(material, texts, seams_s, strict=True)]
        row = f"{name:34}"
        for part in (
            sum((one for one, _ in parts), Misread()),
            sum((other for _, other in parts), Misread()),
        ):
            row += f"{part.share:>9.1%}{part.changed:>8}{part.lost:>6}{part.added:>6}"
        print(row, flush=True)


def _errors(run: Run, heard: str) -> Counts:
    return count_errors(normalise_english(run.text), normalise_english(heard))


if __name__ == "__main__":
    main()
