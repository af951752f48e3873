"""Windows per second of the engine, beside ``whisper.decode`` and faster-whisper's CTranslate2.

Published shapes have random weights, so that no checkpoint is needed, and a fixed number of tokens a window;
``demo-en`` has its own weights, the included recordings, and ends where it ends. Ways of decoding take
turns, round by round, and what is told are medians of ratios within a round: a busy machine slows all
alike. Everything starts from the log-mel, which costs all the same.

The floor is the time that the matrix products alone would take at the speed of a large one, measured in
the same rounds (``benchmarks/arithmetic.py``). Run in the repository: ``python -m benchmarks.engine``;
``--save`` writes what it finds to ``benchmarks/results``.
"""

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path

import soundfile
import torch
import whisper
from torch import Tensor
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

from benchmarks.arithmetic import decoder_flops, encoder_flops, peak_flops_per_s
from benchmarks.engine_report import (
    BATCHED,
    DEMO,
    DRAFT,
    ENCODER,
    OTHER,
    OURS,
    SEQUENTIAL,
    Line,
    comparisons,
    table,
    verdicts,
)
from benchmarks.faster_whisper import FasterWhisper, Unavailable, ensure_environment
from stream_server.audio.decoder import SAMPLE_RATE_HZ
from stream_server.engine.decoder import GreedyDecoder
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import choose_device, load_whisper
from stream_server.engine.rows import DecodeOptions
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.windows import WINDOW_SAMPLES_MAX, log_mel

RESULTS = Path(__file__).parent / "results"
POSITIONS_PER_S = 50

_SHAPES = {
    # name: width, heads, layers of the encoder and of the decoder, tokens, mel bands
    "tiny": (384, 6, 4, 4, 51_865, 80),
    "base": (512, 8, 6, 6, 51_865, 80),
    "small": (768, 12, 12, 12, 51_865, 80),
    "medium": (1_024, 16, 24, 24, 51_865, 80),
    "large-v3": (1_280, 20, 32, 32, 51_866, 128),
    "large-v3-turbo": (1_280, 20, 32, 4, 51_866, 128),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the windows that it is to read."""

    name: str
    model: Whisper
    tokenizer: Tokenizer
    mels: dict[str, Tensor]
    """By context, float (B, n_mels, 2T) with the most rows that are asked for."""
    n_tokens: int
    ends_itself: bool

    @property
    def prompt(self) -> list[int]:
        """What each window is asked: transcribe English, no timestamps."""
        return [*self.tokenizer.sot_sequence_including_notimestamps]


@dataclass
class Way:
    """A way of decoding under measurement."""

    name: str
    context: str
    batch: int
    decode: Callable[[], list[list[int]]]
    seconds: list[float] = field(default_factory=list)
    """A window, by round."""
    refused: str | None = None

    @property
    def key(self) -> str:
        """Name, context and batch."""
        return f"{self.name}|{self.context}|{self.batch}"


# ---------------------------------------------------------------- models and windows


def random_model(name: str) -> Whisper:
    """A published shape whose rows never end by themselves."""
    width, n_head, n_encoder, n_decoder, n_vocab, n_mels = _SHAPES[name]
    dims = ModelDimensions(n_mels, 1500, width, n_head, n_encoder, n_vocab, 448, width, n_head, n_decoder)
    generator = torch.Generator().manual_seed(0)
    model = Whisper(dims)
    for parameter in model.parameters():
        std = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data.normal_(std=std, generator=generator)
    # Its logit is 0, and among 51,864 others there is always a higher one.
    model.decoder.token_embedding.weight.data[_tokenizer(model).eot] = 0
    return model.eval().requires_grad_(False)


def _tokenizer(model: Whisper) -> Tokenizer:
    with warnings.catch_warnings():
        # whisper leaves closing its vocabulary to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(
            model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe"
        )


def recordings(n_windows: int, window_s: float) -> list[bytes]:
    """The beginnings of the included recordings, in turn, int16."""
    folder = resources.files("stream_server") / "assets" / "recordings"
    n_samples = round(window_s * SAMPLE_RATE_HZ)
    return [
        soundfile.read(str(folder / f"{1 + i % 12:02}.flac"), dtype="int16")[0][:n_samples].tobytes()
        for i in range(n_windows)
    ]


def make_subject(name: str, n_windows: int, asked: argparse.Namespace, device: torch.device) -> Subject:
    """Load or make a model, and its windows on the device."""
    if name == DEMO:
        model = load_whisper(embedded_model(), read_manifest(embedded_model()), device)
    else:
        model = random_model(name).to(device)
    n_fitted = round(asked.window_s * SAMPLE_RATE_HZ)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    mels = {
        context: torch.stack(
            [log_mel(pcm, n, model.dims.n_mels, device) for pcm in recordings(n_windows, asked.window_s)]
        ).to(dtype)
        for context, n in (("full", WINDOW_SAMPLES_MAX), ("fit", n_fitted))
        if context == "full" or context in asked.contexts
    }
    n_tokens = 16 + round(12 * asked.window_s) if name == DEMO else asked.tokens
    return Subject(name, model, _tokenizer(model), mels, n_tokens, name == DEMO)


def fitted_whisper(model: Whisper, n_positions: int) -> Whisper:
    """The same weights as a whisper whose audio context is cut."""
    dims = ModelDimensions(**{**vars(model.dims), "n_audio_ctx": n_positions})
    reference = Whisper(dims)
    weights = dict(model.state_dict())
    key = "encoder.positional_embedding"
    weights[key] = weights[key][:n_positions]
    reference.load_state_dict(weights)
    return reference.eval().requires_grad_(False).to(model.device)


# ---------------------------------------------------------------- ways of decoding


def ways_of(subject: Subject, asked: argparse.Namespace, other: FasterWhisper | None) -> Iterator[Way]:
    """All that is to be measured of a model; the reference is the first."""
    decoder = GreedyDecoder(subject.model, "en")
    for context in dict.fromkeys(["full", *asked.contexts]):
        mels = subject.mels[context]
        reference = (
            subject.model
            if context == "full"
            else fitted_whisper(subject.model, subject.mels[context].shape[2] // 2)
        )
        yield Way(SEQUENTIAL, context, 1, _theirs(reference, mels[: asked.sequential], subject, batch=1))
        if context not in asked.contexts:
            continue
        for batch in asked.batches:
            rows = mels[:batch]
            yield Way(OURS, context, batch, _ours(decoder, rows, subject))
            yield Way(DRAFT, context, batch, _ours(decoder, rows, subject, holds=True))
            yield Way(ENCODER, context, batch, _encoder(decoder, rows))
            if batch > 1:
                yield Way(BATCHED, context, batch, _theirs(reference, rows, subject, batch=batch))
            if other is not None:
                yield Way(OTHER, context, batch, _others(other, rows, subject))


def _ours(
    decoder: GreedyDecoder, rows: Tensor, subject: Subject, *, holds: bool = False
) -> Callable[[], list[list[int]]]:
    options = [DecodeOptions("en", "transcribe", subject.n_tokens)] * len(rows)
    if holds:
        options = [
            DecodeOptions("en", "transcribe", subject.n_tokens, draft=said.tokens)
            for said in decoder.decode(rows, options)
        ]
    return lambda: [list(said.tokens) for said in decoder.decode(rows, options)]


def _encoder(decoder: GreedyDecoder, rows: Tensor) -> Callable[[], list[list[int]]]:
    def encode() -> list[list[int]]:
        with torch.inference_mode():
            # Reading a number waits for the device.
            float(decoder.encode(rows)[0, 0, 0])
        return [[]] * len(rows)

    return encode


def _theirs(model: Whisper, rows: Tensor, subject: Subject, *, batch: int) -> Callable[[], list[list[int]]]:
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


def _others(other: FasterWhisper, rows: Tensor, subject: Subject) -> Callable[[], list[list[int]]]:
    return lambda: other.decode(rows, subject.prompt, subject.n_tokens).tokens


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
                        python, subject.model, subject.tokenizer, device.type, torch.get_num_threads()
                    )
                )
            except Unavailable as exc:
                why_not = str(exc)
        ways = list(ways_of(subject, asked, other))
        said, peaks = _take_turns(ways, asked.repeats, device)
        lines = [_line(subject, way, ways[0], said, peaks) for way in ways]
    if other is None:
        lines.append(Line(subject.name, OTHER, "", 0, None, None, None, None, why_not))
    return lines


def _take_turns(
    ways: list[Way], n_rounds: int, device: torch.device
) -> tuple[dict[str, list[list[int]]], list[float]]:
    said: dict[str, list[list[int]]] = {}
    peaks = []
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    for turn in range(1 + n_rounds):
        peak = peak_flops_per_s(device, dtype)
        for way in ways:
            if way.refused:
                continue
            try:
                start_s = time.perf_counter()
                said[way.key] = way.decode()
                seconds = (time.perf_counter() - start_s) / len(said[way.key])
            except Unavailable as exc:
                way.refused = str(exc)
                continue
            if turn:
                way.seconds.append(seconds)
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
    parser.add_argument("--shapes", nargs="+", choices=[DEMO, *_SHAPES], default=[DEMO, "tiny"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="windows decoded at once")
    parser.add_argument("--contexts", nargs="+", choices=["full", "fit"], default=["full", "fit"])
    parser.add_argument("--window-s", type=float, default=3.0, help="audio in a window")
    parser.add_argument("--tokens", type=int, default=16, help="of each window with random weights")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--sequential", type=int, default=4, help="windows of whisper.decode, one by one")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is all cores but one")
    parser.add_argument("--without-faster-whisper", action="store_true")
    parser.add_argument("--save", action="store_true", help=f"write to {RESULTS.name}/")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Measure, print, and maybe save."""
    asked = parse(words)
    device = choose_device(asked.device)
    set_torch_threads(asked.threads)
    n_windows = max([*asked.batches, asked.sequential])
    lines: list[Line] = []
    for name in asked.shapes:
        print(f"{name} ", end="", file=sys.stderr, flush=True)
        lines += measure(make_subject(name, n_windows, asked, device), asked, device)
    date = datetime.date.today().isoformat()
    setting = f"{date}, {hardware(device)}, torch {torch.__version__}, windows of {asked.window_s:g} s"
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
