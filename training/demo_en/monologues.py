"""Running speech by one voice: held-out sentences read in one breath, to measure what cutting it costs.

Each is a FLAC file at 16 kHz; ``manifest.json`` lists what is said, the sentences with their times, and the
words with theirs, as in ``recordings``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from . import heldout, script
from .studio import Studio, Take, write_audio, write_manifest

SEED = 9
VOICES = ("flite slt", "flite rms", "espeak-ng gmw/en-US", "espeak-ng gmw/en-US+m3")
SENTENCES = 8
"""In one monologue: about 28 s."""


def build(folder: Path) -> Path:
    """Write recordings and manifest into ``folder``, made if it is missing; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio()
    listed = []
    sentences = [*heldout.free_sentences(), *script.sentences()]
    for i, voice in enumerate(VOICES):
        # Each voice reads every other group, so that each group is read by two of them.
        for first in range(SENTENCES * (i % 2), len(sentences), 2 * SENTENCES):
            group = sentences[first : first + SENTENCES]
            rng = np.random.default_rng([SEED, i, first])
            take = studio.record([chunk for said in group for chunk in said], voice, rng)
            name = f"monologue-{i + 1}-{first:02}.flac"
            write_audio(folder / name, take.samples)
            listed.append(
                {
                    "file": name,
                    "condition": "monologue",
                    "voice": take.voice,
                    "text": take.text,
                    "utterances": _utterances(take, [len(said) for said in group]),
                    "words": take.words,
                }
            )
    return write_manifest(folder, listed)


def _utterances(take: Take, n_words: list[int]) -> list[dict[str, object]]:
    ends = np.cumsum(n_words).tolist()
    return [
        {
            "start": take.words[first]["start"],
            "end": take.words[end - 1]["end"],
            "text": " ".join(word["word"] for word in take.words[first:end]),
        }
        for first, end in pairwise([0, *ends])
    ]
