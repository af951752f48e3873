"""Hours of sounds without speech through VAD, sessions, engine and guard: no final may have a text.

Sounds are synthesised from a seed: silence, noises, hum, tones, sirens, keyboards, knocks, breath and
music-like chords. Most never reach the engine, since the VAD hears no speech in them. So that the guard
is tried too, as much again by half is also given to the engine directly, as finals of 2 to 5 s; texts that
pass there are counted apart: nothing but the VAD stands between them and a client.

Run: ``make nonspeech`` (``HOURS=10 SEED=1 MODEL=DIR``). Prints a table; exits with 1 if a final had a text.
What a model says of sounds, and how sure it is, is told as it comes: by that its guard is drawn.
"""

import argparse
import datetime
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import models
import numpy as np
import torch
from nonspeech import RATE_HZ, nonspeech, sounds
from offline_product import rules_of, transcribe_all

from stream_server.core.jobs import Batch, DecodeResult
from stream_server.engine.manifest import embedded_model
from stream_server.engine.transcriber import WhisperTranscriber
from vad.model import SileroVad

STREAMS = 64
STREAM_S = 60.0
"""Each round is 64 streams of a minute."""
DIRECT_SHARE = 0.5


def direct_windows(seed: int, seconds: float) -> Iterator[tuple[str, bytes]]:
    """Kind and pcm of windows of 2 to 5 s; those of digital silence are left out."""
    random = np.random.default_rng(seed)
    for kind, samples in sounds(random, seconds):
        start = 0
        while start < len(samples):
            n_samples = int(random.uniform(2, 5) * RATE_HZ)
            window = samples[start : start + n_samples]
            if len(window) > RATE_HZ and window.any():
                yield kind, window.astype("<i2").tobytes()
            start += n_samples


def direct(transcriber: WhisperTranscriber, seed: int, seconds: float) -> list[tuple[str, DecodeResult]]:
    """Kind and result of each window, decoded as finals in batches."""
    windows = sorted(direct_windows(seed, seconds), key=lambda window: len(window[1]))
    results = []
    for start in range(0, len(windows), 8):
        part = windows[start : start + 8]
        batch = Batch(tuple(models.decode_job(pcm) for _, pcm in part))
        results += [
            (kind, result) for (kind, _), result in zip(part, transcriber.transcribe(batch), strict=True)
        ]
    return results


def main() -> int:
    """Synthesise, transcribe, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=embedded_model(), help="model folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, transcriber = SileroVad(), WhisperTranscriber(options.model, "cpu")
    started_s = time.monotonic()
    n_rounds = math.ceil(options.hours * 3_600 / (STREAMS * STREAM_S))
    streamed: Counter[str] = Counter()
    bypassed: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    n_texts = 0
    for number in range(n_rounds):
        first_seed = options.seed * 1_000_000 + number * STREAMS
        recordings = [nonspeech(first_seed + i, STREAM_S) for i in range(STREAMS)]
        finals, results = transcribe_all(recordings, network, transcriber)
        streamed["finals"] += sum(map(len, finals))
        streamed["partials"] += sum(not result.final for result in results)
        streamed += rules_of(results)
        n_texts += sum(bool(final.text) for said in finals for final in said)
        for result in results:
            if (result.final or result.early) and result.text:
                print(
                    f"{result.text!r} of {(result.end - result.start) / RATE_HZ:.1f} s, no speech "
                    f"{result.no_speech_prob:.4f}, log-probability {result.avg_logprob:.2f}"
                )
        answers = direct(transcriber, first_seed, STREAMS * STREAM_S * DIRECT_SHARE)
        bypassed["windows"] += len(answers)
        bypassed += rules_of([result for _, result in answers])
        passed.update(kind for kind, result in answers if result.text)
        print(f"{number + 1}/{n_rounds} rounds, {n_texts} finals with text", file=sys.stderr, flush=True)
    hours = n_rounds * STREAMS * STREAM_S / 3_600
    speed = hours * 3_600 / (time.monotonic() - started_s)
    print(
        f"{datetime.date.today()}, {transcriber.facts.name}, seed {options.seed}, {hours:.1f} h of non-speech"
    )
    print(f"{speed:.0f} times as fast as it sounds, 1 torch thread")
    for title, counts in (("through VAD and sessions", streamed), ("to the engine, past the VAD", bypassed)):
        print(f"\n{title}")
        for name, count in sorted(counts.items()):
            print(f"  {name:32}{count:8}")
    print(f"  {'texts that passed':32}{passed.total():8}  {dict(passed)}")
    print(f"\nfinals with text: {n_texts}")
    return int(n_texts > 0)


if __name__ == "__main__":
    sys.exit(main())
