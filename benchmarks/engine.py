"""Windows per second of the engine, beside ``whisper.decode`` and faster-whisper's CTranslate2.

Published shapes have random weights, so that no checkpoint is needed, and a fixed number of tokens a window;
``demo-en`` has its own weights, the included recordings, and ends where it ends. Ways of decoding take
turns, round by round, and what is told are medians of ratios within a round: a busy machine slows all
alike. Everything starts from the log-mel, which costs all the same. ``--clock cpu`` counts processor seconds
of one thread, which others on the machine disturb less than they do the clock on the wall.

On a CPU the other loop is the one that chooses tokens on the device (``engine.steps``), on CUDA the one that
chooses them on the host. ``--device cuda --dtype float16 --shapes tiny base small large-v3`` measures a GPU.

The floor is the time that the matrix products alone would take at the speed of a large one, measured in
the same rounds (``benchmarks/arithmetic.py``). Run in the repository: ``python -m benchmarks.engine``;
``--save`` writes what it finds to ``benchmarks/results``.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import whisper
from torch import Tensor
from whisper.model import Whisper

from benchmarks.arithmetic import decoder_flops, encoder_flops, peak_flops_per_s
from benchmarks.engine_report import (
    BATCHED,
    DEMO,
    DRAFT,
    ENCODER,
    OTHER,
    OTHER_LOOP,
    OURS,
    SEQUENTIAL,
    Line,
    comparisons,
    table,
    verdicts,
)
from benchmarks.engine_subjects import SHAPES, Subject, fitted_whisper, make_subject
from benchmarks.faster_whisper import FasterWhisper, Run, Unavailable, ensure_environment
from stream_server.engine.accelerator import is_accelerator
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.model import choose_device
from stream_server.engine.rows import DecodeOptions
from stream_server.engine.threads import set_torch_threads

RESULTS = Path(__file__).parent / "results"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Way:
    """A way of decoding under measurement."""

    name: str
    context: str
    batch: int
    decode: Callable[[], Run]
    seconds: list[float] = field(default_factory=list)
    """A window, by round."""
    refused: str | None = None

    @property
    def key(self) -> str:
        """Name, context and batch."""
        return f"{self.name}|{self.context}|{self.batch}"


# ---------------------------------------------------------------- ways of decoding


def ways_of(subject: Subject, asked: argparse.Namespace, other: FasterWhisper | None) -> Iterator[Way]:
    """All that is to be measured of a model; the reference is the first."""
    clock = CLOCKS[asked.clock]
    decoder = BatchDecoder(subject.own_model, "en")
    on_device = is_accelerator(subject.own_model.device)
    other_loop = BatchDecoder(subject.own_model, "en", chooses_on_device=not on_device)
    for context in dict.fromkeys(["full", *asked.contexts]):
        mels, model = subject.mels[context], subject.model
        reference = model if context == "full" else fitted_whisper(model, mels.shape[2] // 2)
        one_by_one = _theirs(reference, mels[: asked.sequential], subject, batch=1)
        yield Way(SEQUENTIAL, context, 1, _timed(clock, one_by_one))
        if context not in asked.contexts:
            continue
        for batch in asked.batches:
            rows = mels[:batch]
            yield Way(OURS, context, batch, _timed(clock, _ours(decoder, rows, subject)))
            yield Way(OTHER_LOOP, context, batch, _timed(clock, _ours(other_loop, rows, subject)))
            yield Way(DRAFT, context, batch, _timed(clock, _ours(decoder, rows, subject, holds=True)))
            yield Way(ENCODER, context, batch, _timed(clock, _encoder(decoder, rows)))
            if batch > 1:
                together = _theirs(reference, rows, subject, batch=batch)
                yield Way(BATCHED, context, batch, _timed(clock, together))
            if other is not None:
                yield Way(OTHER, context, batch, _others(other, rows, subject))


def _ours(
    decoder: BatchDecoder, rows: Tensor, subject: Subject, *, holds: bool = False
) -> Callable[[], list[list[int]]]:
    options = [DecodeOptions("en", "transcribe", subject.n_tokens)] * len(rows)
    if holds:
        options = [
            DecodeOptions("en", "transcribe", subject.n_tokens, draft=said.tokens)
            for said in decoder.decode(rows, options)
        ]
    return lambda: [list(said.tokens) for said in decoder.decode(rows, options)]


def _encoder(decoder: BatchDecoder, rows: Tensor) -> Callable[[], list[list[int]]]:
    def encode() -> list[list[int]]:
        with torch.inference_mode():
            # Reading a number waits for the device.
            float(decoder.encode(rows)[0, 0, 0])
        return [[]] * len(rows)

    return encode


def _theirs(model: Whisper, rows: Tensor, subject: Subject, *, batch: int) -> Callable[[], list[list[int]]]:
    # whisper knows no other precision.
    rows = rows if rows.dtype == torch.float32 else rows.half()
    options = whisper.DecodingOptions(
        language="en",
        sample_len=subject.n_tokens,
        without_timestamps=True,
        fp16=rows.dtype == torch.float16,
    )

    def decode() -> list[list[int]]:
        found = []
        for part in rows.split(batch):
            found += whisper.decode(model, part, options)
        return [said.tokens for said in found]

    return decode


def _others(other: FasterWhisper, rows: Tensor, subject: Subject) -> Callable[[], Run]:
    # Timed on the other side, so that what is told through the pipe costs nothing.
    return lambda: other.decode(rows, subject.prompt, subject.n_tokens)


def _timed(clock: Callable[[], float], decode: Callable[[], list[list[int]]]) -> Callable[[], Run]:
    def run() -> Run:
        start_s = clock()
        tokens = decode()
        return Run(clock() - start_s, tokens)

    return run


# ---------------------------------------------------------------- measuring


def measure(subject: Subject, asked: argparse.Namespace, device: torch.device) -> list[Line]:
    """Let all ways take turns, once to warm up and then ``repeats`` times."""
    with ExitStack() as stack:
        other, why_not = None, "left out by --without-faster-whisper"
        if not asked.without_faster_whisper:
            try:
                python = ensure_environment()
                other = stack.enter_context(
                    FasterWhisper(
                        python,
                        subject.model,
                        subject.tokenizer,
                        device=device.type,
                        compute_type=asked.dtype,
                        n_threads=torch.get_num_threads(),
                        clock=asked.clock,
                    )
                )
            except Unavailable as exc:
                why_not = str(exc)
        ways = list(ways_of(subject, asked, other))
        said, peaks = _take_turns(ways, asked, device)
        lines = [_line(subject, way, ways[0], said, peaks) for way in ways]
    if other is None:
        lines.append(Line(subject.name, OTHER, "", 0, None, None, None, None, why_not))
    return lines


def _take_turns(
    ways: list[Way], asked: argparse.Namespace, device: torch.device
) -> tuple[dict[str, list[list[int]]], list[float]]:
    said: dict[str, list[list[int]]] = {}
    peaks = []
    dtype = getattr(torch, asked.dtype)
    for turn in range(1 + asked.repeats):
        peak = peak_flops_per_s(device, dtype, CLOCKS[asked.clock])
        for way in ways:
            if way.refused:
                continue
            try:
                run = way.decode()
            except Unavailable as exc:
                way.refused = str(exc)
                continue
            said[way.key] = run.tokens
            if turn:
                way.seconds.append(run.seconds / len(run.tokens))
        if turn:
            peaks.append(peak)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return said, peaks


def _line(
    subject: Subject, way: Way, reference: Way, said: dict[str, list[list[int]]], peaks: list[float]
) -> Line:
    if way.refused or not way.seconds:
        return Line(subject.name, way.name, way.context, way.batch, None, None, None, None, way.refused)
    flops, agree = _work(subject, way, said)
    return Line(
        subject.name,
        way.name,
        way.context,
        way.batch,
        windows_per_s=1 / statistics.median(way.seconds),
        times_sequential=_median_ratio(reference.seconds, way.seconds),
        times_floor=_median_ratio(way.seconds, [flops / peak for peak in peaks]),
        tokens_agree=agree,
        refused=None,
    )


def _work(subject: Subject, way: Way, said: dict[str, list[list[int]]]) -> tuple[int, float | None]:
    """Operations of a window, and the share of windows that say what ``whisper.decode`` says."""
    dims, n_positions = subject.model.dims, subject.mels[way.context].shape[2] // 2
    if way.name == ENCODER:
        return encoder_flops(dims, n_positions), None
    tokens = said[way.key]
    if not subject.ends_itself:
        assert {len(row) for row in tokens} == {subject.n_tokens}, "a row has ended by itself"
    # A row that ends itself predicts its end too.
    n_tokens = round(statistics.mean(map(len, tokens))) + subject.ends_itself
    flops = encoder_flops(dims, n_positions)
    flops += decoder_flops(dims, n_positions, len(subject.prompt), n_tokens)
    theirs = said[f"{SEQUENTIAL}|{way.context}|1"]
    return flops, statistics.mean(ours == wanted for ours, wanted in zip(tokens, theirs, strict=False))


def _median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- telling


def hardware(device: torch.device) -> str:
    """What it was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {torch.get_num_threads()} torch threads"
    return platform.machine()


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=[DEMO, *SHAPES], default=[DEMO, "tiny"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="windows decoded at once")
    parser.add_argument("--contexts", nargs="+", choices=["full", "fit"], default=["full", "fit"])
    parser.add_argument("--window-s", type=float, default=3.0, help="audio in a window")
    parser.add_argument("--tokens", type=int, default=16, help="of each window with random weights")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--sequential", type=int, default=4, help="windows of whisper.decode, one by one")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        help="numbers that are computed with [default: float32 on a CPU, float16 on CUDA]",
    )
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is all cores but one")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--without-faster-whisper", action="store_true")
    parser.add_argument("--save", action="store_true", help=f"write to {RESULTS.name}/")
    asked = parser.parse_args(words)
    asked.dtype = asked.dtype or ("float16" if asked.device == "cuda" else "float32")
    if asked.clock == "cpu" and asked.device != "cpu":
        parser.error("--clock cpu counts nothing of what a GPU does")
    if asked.clock == "cpu":
        asked.threads = 1
    return asked


def main(words: list[str] | None = None) -> None:
    """Measure, print, and maybe save."""
    asked = parse(words)
    device = choose_device(asked.device)
    set_torch_threads(asked.threads)
    n_windows = max([*asked.batches, asked.sequential])
    lines: list[Line] = []
    for name in asked.shapes:
        print(f"{name} ", end="", file=sys.stderr, flush=True)
        subject = make_subject(
            name,
            n_windows,
            window_s=asked.window_s,
            n_tokens=asked.tokens,
            fits="fit" in asked.contexts,
            device=device,
            dtype=getattr(torch, asked.dtype),
        )
        lines += measure(subject, asked, device)
    date = datetime.date.today().isoformat()
    setting = f"{date}, {hardware(device)}, torch {torch.__version__}, windows of {asked.window_s:g} s, "
    setting += f"{asked.dtype}, clock: {asked.clock}, load {os.getloadavg()[0]:.0f}"
    report = [setting, "", *table(lines), "", *comparisons(lines), "", *verdicts(lines)]
    print("\n".join(report))
    if asked.save:
        RESULTS.mkdir(exist_ok=True)
        stem = RESULTS / f"engine-{device.type}-{date}"
        found = {"setting": setting, "asked": vars(asked), "lines": [asdict(line) for line in lines]}
        stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        stem.with_suffix(".txt").write_text("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
