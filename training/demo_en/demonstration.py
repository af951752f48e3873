"""The recordings that show the product: a dialogue that ``stream-server demo`` streams, and short sentences.

They are easy and judge no model; ``recordings`` makes those that do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import script
from .studio import Studio, trim, write_audio, write_manifest

SEED = 5
_IN_DIALOGUE = 9
"""The first sentences; the others are festival's, whom no model was trained on."""


def build(folder: Path) -> Path:
    """Write recordings and manifest into ``folder``, made if it is missing; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio()
    listed = []
    for k, (voice, said) in enumerate(script.demonstration()):
        take = trim(studio.record(said, voice, np.random.default_rng([SEED, k])))
        name = f"{k + 1:02}.flac"
        seconds = write_audio(folder / name, take.samples)
        entry = take.entry()
        listed.append({"file": name, **entry, "speech_end": entry["end"], "seconds": seconds})
    turns = script.demonstration()[:_IN_DIALOGUE]
    samples, utterances = studio.converse(turns, np.random.default_rng([SEED, 100]))
    seconds = write_audio(folder / "dialogue.flac", samples)
    dialogue = {"file": "dialogue.flac", "seconds": seconds, "utterances": utterances}
    return write_manifest(folder, listed, dialogue=dialogue)
