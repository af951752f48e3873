"""What drafts save: the included recordings as partials, a step of half a second each.

Prints the ratios of decoder passes and of wall time with drafts to those without, and of both to
``whisper.decode`` of the same audio padded to 30 s, which reads every partial anew. Then the same of windows
that are read once more at temperature 0.2, as finals are that the guard is not content with: their draft is
the first reading. One torch thread; all take turns window by window, so that a busy machine slows them alike.
How a wrong draft is mended was chosen on recordings of the same voices, so others may save somewhat less.
Run: ``python -m benchmarks.drafts`` in the repository.

Measured 2026-11-21, AMD EPYC, torch 2.13.0+cpu, 1 thread, ``demo-en``, 68 windows, nothing else running::

    with drafts             163 passes (0.31 of without)    19.7 ms a window (0.69)
    without                 519 passes (1.00 of without)    28.6 ms a window (1.00)
    whisper.decode, 30 s    494 passes (0.95 of without)   234.2 ms a window (8.20)
    again, with drafts       88 passes (0.17 of without)    15.5 ms a window (0.51)
    again, without          513 passes (1.00 of without)    30.5 ms a window (1.00)

Without branches (``engine.guesses``) the first was 217 passes (0.41) and, beside other work, 0.63 of the
time for 0.68: a model as small as this computes a place nearly as long as its share of a pass takes. On one
row of the shape ``tiny``, three places more made a pass 1.2 times as long.
"""

import datetime
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile
import torch
import whisper
from numpy.typing import NDArray
from whisper.audio import log_mel_spectrogram
from whisper.model import Whisper

from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.manifest import Manifest, embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.windows import log_mel, window_samples

CPU = torch.device("cpu")
STEP_SAMPLES = 8_000


@dataclass
class Tally:
    """What one way of decoding took."""

    passes: int = 0
    seconds: float = 0.0


def windows() -> Iterator[tuple[bool, NDArray[np.int16]]]:
    """Every recording from its start to each step, int16 (n,), and whether it is the recording's first."""
    for number in range(1, 13):
        path = resources.files("stream_server") / "assets" / "recordings" / f"{number:02}.flac"
        samples = soundfile.read(str(path), dtype="int16")[0]
        for end in [*range(STEP_SAMPLES, len(samples), STEP_SAMPLES), len(samples)]:
            yield end == STEP_SAMPLES, samples[:end]


def ours(
    decoder: BatchDecoder,
    manifest: Manifest,
    samples: NDArray[np.int16],
    options: DecodeOptions,
    tally: Tally,
) -> Decoded:
    """Decode one window, audio to text."""
    start_s = time.perf_counter()
    n_window = window_samples(len(samples), manifest)
    mel = log_mel(samples.tobytes(), n_window, manifest.dims.n_mels, CPU)
    (decoded,) = decoder.decode(mel[None], [options])
    tally.seconds += time.perf_counter() - start_s
    tally.passes += decoded.passes
    return decoded


def theirs(model: Whisper, samples: NDArray[np.int16], tally: Tally) -> None:
    """Decode one window as whisper does."""
    start_s = time.perf_counter()
    audio = whisper.pad_or_trim(samples.astype(np.float32) / 32_768)
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    result = whisper.decode(model, log_mel_spectrogram(audio, model.dims.n_mels), options)
    tally.seconds += time.perf_counter() - start_s
    tally.passes += len(result.tokens) + 1


def main() -> None:
    """Decode every window in all ways and print the ratios."""
    torch.set_num_threads(1)
    manifest = read_manifest(embedded_model())
    model = load_whisper(embedded_model(), manifest, CPU)
    decoder = BatchDecoder(model, manifest.language)
    plain, drafted, reference = Tally(), Tally(), Tally()
    again, again_drafted = Tally(), Tally()
    draft: tuple[int, ...] = ()
    n_windows = 0
    for is_first, samples in windows():
        options = DecodeOptions(None, "transcribe", 16 + 12 * len(samples) // 16_000)
        ours(decoder, manifest, samples, options, plain)
        draft = () if is_first else draft
        draft = ours(decoder, manifest, samples, replace(options, draft=draft), drafted).tokens
        theirs(model, samples, reference)
        sampled = replace(options, temperature=0.2, seed=n_windows)
        ours(decoder, manifest, samples, sampled, again)
        ours(decoder, manifest, samples, replace(sampled, draft=draft), again_drafted)
        n_windows += 1
    print(f"{datetime.date.today()}, {_cpu()}, torch {torch.__version__}, 1 thread, {n_windows} windows")
    for name, tally, without in (
        ("with drafts", drafted, plain),
        ("without", plain, plain),
        ("whisper.decode, 30 s", reference, plain),
        ("again, with drafts", again_drafted, again),
        ("again, without", again, again),
    ):
        print(
            f"{name:22}{tally.passes:5} passes ({tally.passes / without.passes:.2f} of without)"
            f"{1000 * tally.seconds / n_windows:8.1f} ms a window ({tally.seconds / without.seconds:.2f})"
        )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
