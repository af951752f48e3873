"""Our decoder against ``whisper.decode``, window by window: the licence to make it faster.

Random weights in the shapes of tiny, base and large-v3 (widths, heads, mels and vocabulary as published,
fewer layers) and the embedded model; windows of 0.5 to 30 s; languages given or detected, both tasks,
prompts, timestamps, token limits and drafts, combined so that every pair of values occurs; a part of the
windows by beam search, of several sizes, patiences and length penalties, beside greedy ones. Each window is
decoded in a batch of 32 (8 with beams) and in one of 1 to 16, whose rows leave as they end; then again in one
of 32, some in one of 3, by the loop that accelerators use. Equal means: tokens, text and language the same,
log-probability within 1e-4, no-speech probability within 1e-5. Where whisper's two best logits lie within
1e-3, rounding decides; such windows are counted, compared up to that token, and may be at most 0.5 %. In beam
search, that is where its best candidates that live on and die lie so near, or its two best texts.

Run: ``make parity``, or the command in it with the names of some of the models. Prints a table; exits with 1
on any difference.
"""

import argparse
import datetime
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import models
import numpy as np
import soundfile
import torch
from parity import Case, make_case, prompt_of, rows_near, sounds
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from stream_server.core.messages import BeamSearch
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.windows import log_mel

ROWS = 32
BEAM_ROWS = 8
BATCHES = (1, 2, 3, 4, 6, 16)
"""Sizes of the smaller batches; together they hold every row."""
NEAR_SHARE_MAX = 0.005

FACTORS: dict[str, tuple[object, ...]] = {
    "language": (None, "de", "zh"),
    "task": ("transcribe", "translate"),
    "prompt": (0, 1, 40, 223, 300),
    "timestamps": (False, True),
    "initial_timestamp_s_max": (1.0, 0.02, None),
    "tokens_max": (1, 7, 14),
    "draft": ("none", "half", "wrong"),
    "beam": (None,),
}
BEAM_FACTORS: dict[str, tuple[object, ...]] = {
    **FACTORS,
    "draft": ("none",),
    "beam": (
        None,
        BeamSearch(2),
        BeamSearch(5),
        BeamSearch(5, 2.0),
        BeamSearch(3, 0.4),
        BeamSearch(5, 1.0, 0.6),
    ),
}


@dataclass
class Tally:
    """What was compared of one model."""

    windows: int = 0
    compared: int = 0
    near: int = 0
    logprob: float = 0.0
    no_speech: float = 0.0
    failures: int = 0


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Counts together, and the largest differences."""
    total = Tally()
    for tally in tallies:
        total.windows += tally.windows
        total.compared += tally.compared
        total.near += tally.near
        total.failures += tally.failures
        total.logprob = max(total.logprob, tally.logprob)
        total.no_speech = max(total.no_speech, tally.no_speech)
    return total


def pairwise_rows(
    random: np.random.Generator, factors: dict[str, tuple[object, ...]]
) -> Iterator[dict[str, Any]]:
    """Values of all factors, without end; every pair of values comes before the first repeats begin."""
    while True:
        open_pairs = {
            (one, other)
            for first, second in itertools.combinations(factors, 2)
            for one in ((first, value) for value in factors[first])
            for other in ((second, value) for value in factors[second])
        }
        while open_pairs:
            # The best of a few random rows: short enough, and much simpler than the shortest.
            rows = [
                {name: values[random.integers(len(values))] for name, values in factors.items()}
                for _ in range(50)
            ]
            covered = [set(itertools.combinations(row.items(), 2)) & open_pairs for row in rows]
            best = max(range(len(rows)), key=lambda i: len(covered[i]))
            if covered[best]:
                open_pairs -= covered[best]
                yield rows[best]


def options_of(row: dict[str, Any], *, multilingual: bool) -> DecodeOptions:
    """Options without the draft, which needs whisper's answer."""
    language, task = (row["language"], row["task"]) if multilingual else (None, "transcribe")
    return DecodeOptions(
        language=language,
        task=str(task),
        tokens_max=row["tokens_max"],
        prompt=prompt_of(row["prompt"]),
        timestamps=bool(row["timestamps"]),
        initial_timestamp_s_max=row["initial_timestamp_s_max"],
        beam=row["beam"],
    )


def with_drafts(case: Case, rows: Sequence[dict[str, Any]]) -> Case:
    """The same with a draft in each row whose factor asks for one."""
    options = []
    for row, asked, said in zip(rows, case.options, case.expected, strict=True):
        drafts = {"half": tuple(said.tokens[: len(said.tokens) // 2]), "wrong": (*said.tokens[1:], 0, 1)}
        options.append(replace(asked, draft=drafts.get(str(row["draft"]))))
    return replace(case, options=options)


def compare(case: Case, rows: Sequence[int], decoded: Sequence[Decoded], tally: Tally) -> None:
    """Compare each row by itself, so that one difference does not hide another."""
    for i, row in zip(rows, decoded, strict=True):
        tally.compared += 1
        expected = case.expected[i]
        try:
            tally.near += rows_near(case, [i], [row])
        except AssertionError as difference:
            tally.failures += 1
            print(f"DIFFERENT: {case.options[i]}\n{difference}", file=sys.stderr)
        if list(row.tokens) == expected.tokens:
            tally.logprob = max(tally.logprob, abs(row.avg_logprob - expected.avg_logprob))
            tally.no_speech = max(tally.no_speech, abs(row.no_speech_prob - expected.no_speech_prob))


def run_case(
    model: Whisper,
    mels: Tensor,
    random: np.random.Generator,
    tally: Tally,
    factors: dict[str, tuple[object, ...]],
) -> None:
    """Decode windows of one length in several batches."""
    rows = list(itertools.islice(pairwise_rows(random, factors), len(mels)))
    options = [options_of(row, multilingual=model.is_multilingual) for row in rows]
    case = with_drafts(make_case(model, mels, options), rows)
    tally.windows += len(mels)
    order = random.permutation(len(mels)).tolist()
    starts = itertools.accumulate(BATCHES, initial=0)
    batches = [order, *(order[start : start + size] for start, size in zip(starts, BATCHES, strict=False))]
    for batch in filter(None, batches):
        compare(case, batch, case.decode(batch), tally)
    # The loop of accelerators, on this one.
    case = replace(case, decoder=BatchDecoder(model, "en", chooses_on_device=True))
    for batch in (order, order[:3]):
        compare(case, batch, case.decode(batch), tally)


def speech(random: np.random.Generator, n_samples: int) -> Tensor:
    """float32 (32, 80, n_samples / 160): pieces of the included recordings."""
    folder = resources.files("stream_server") / "assets" / "recordings"
    paths = [str(folder / f"{number:02}.flac") for number in range(1, 13)]
    samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
    starts = random.integers(0, len(samples) - n_samples, ROWS)
    cpu = torch.device("cpu")
    return torch.stack(
        [log_mel(samples[start : start + n_samples].tobytes(), n_samples, 80, cpu) for start in starts]
    )


RANDOM: dict[str, tuple[Callable[[], ModelDimensions], int, tuple[int, ...]]] = {
    # name: dimensions, seed of the weights, windows of each of ``LENGTHS``
    "tiny, 4 layers": (models.tiny, 0, (32, 32, 32, 32)),
    "tiny.en, 2 layers": (lambda: models.tiny(n_layer=2, n_vocab=models.ENGLISH_VOCAB), 3, (32, 0, 32, 0)),
    "base, 3 layers": (lambda: models.base(n_layer=3), 1, (32, 32, 32, 0)),
    "large-v3, 1 layer": (lambda: models.large_v3(n_layer=1), 3, (0, 32, 0, 32)),
}
EMBEDDED = "demo-en"
LENGTHS = (8_000, 24_000, 48_000, 72_000)
"""Samples of a window."""


def cases(name: str) -> Iterator[tuple[Whisper, Tensor]]:
    """The model of this name, with the mels of each of its cases."""
    if name == EMBEDDED:
        random = np.random.default_rng(0)
        embedded = load_whisper(embedded_model(), read_manifest(embedded_model()), torch.device("cpu"))
        for n_samples in (*LENGTHS, 96_000):
            yield embedded, speech(random, n_samples)
        return
    dims_of, seed, counts = RANDOM[name]
    dims = dims_of()
    model = models.random_whisper(dims, seed)
    for n_samples, n_rows in zip(LENGTHS, counts, strict=True):
        if n_rows:
            yield model, sounds(n_rows, n_samples, dims.n_mels)
    if name.startswith("tiny"):
        yield model, sounds(8, 480_000)


def main() -> int:
    """Compare everything and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity")
    known = [*RANDOM, EMBEDDED]
    parser.add_argument("models", nargs="*", help="; ".join(known), metavar="MODEL")
    asked = parser.parse_args().models or known
    if unknown := set(asked) - set(known):
        parser.error(f"no such model: {'; '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    started_s = time.monotonic()
    tallies: dict[str, Tally] = {}
    for name in asked:
        # Of its own, so that a model is compared in the same way whichever others are.
        random = np.random.default_rng(1)
        plain, beams = Tally(), Tally()
        for model, mels in cases(name):
            run_case(model, mels, random, plain, FACTORS)
            run_case(model, mels[:BEAM_ROWS], random, beams, BEAM_FACTORS)
            print(f"{name}: {plain.windows} windows", file=sys.stderr, flush=True)
        tallies |= {name: plain, f"{name}, beams": beams}
    print(
        f"{datetime.date.today()}, torch {torch.__version__}, 1 thread, {time.monotonic() - started_s:.0f} s"
    )
    print(f"{'model':26}{'windows':>9}{'decodes':>9}{'near':>6}{'logprob':>10}{'no speech':>11}{'differ':>8}")
    total = sum_of(tallies.values())
    for name, tally in [*tallies.items(), ("in all", total)]:
        print(
            f"{name:26}{tally.windows:9}{tally.compared:9}{tally.near:6}"
            f"{tally.logprob:10.1e}{tally.no_speech:11.1e}{tally.failures:8}"
        )
    is_equal = total.failures == 0 and total.near <= NEAR_SHARE_MAX * total.compared
    print("equal" if is_equal else "NOT EQUAL")
    return int(not is_equal)


if __name__ == "__main__":
    sys.exit(main())
