"""The fourth step: the mean weights as a Whisper checkpoint in fp16, and the manifest that describes it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from whisper.model import Whisper

from . import measure, windows
from .checkpoint import Checkpoint
from .config import CorpusConfig, Shape, SpeechConfig, TrainConfig
from .losses import GUIDED_HEADS
from .model import Trainee, dimensions
from .progress import tracked
from .vocabulary import N_WHISPER, UNKNOWN, Vocabulary

BYTES_MAX = 30_000_000
LICENCE = "Apache-2.0"
SYNTHETIC_ONLY = "synthetic voices only: trained on espeak-ng and flite, not for human speech"
GUARD = {"logprob_min": -1.5, "logprob_floor": -1.5, "sure_no_speech": 0.002}
"""The probability of no speech parts speech from sounds: it is at most 0.0003 for the 76 finals of the
recordings, one of which has a log-probability below -1.5 (step 14,487), and 0.0053 for the one sound in
21 h that passed a line of 0.006. The line for log-probabilities is that of a checkpoint before, of which a
sound with 0.0005 had -1.53. ``make nonspeech`` tells whether both hold for another checkpoint."""
_N_SILENT = 24


def run(work: Path, device_name: str) -> Path:
    """Write weights and manifest of the checkpoint into ``work/export``; return that folder."""
    saved = Checkpoint.load(work / "checkpoint.pt")
    model = _rounded(saved.averaged())
    folder = work / "export"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    weights = widened(model.whisper.state_dict(), saved.vocabulary)
    save_file(weights, path)
    path.chmod(0o644)  # safetensors writes for the owner only
    if path.stat().st_size > BYTES_MAX:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {BYTES_MAX}")
    reader = Whisper(dimensions(saved.shape, N_WHISPER)).eval()
    reader.load_state_dict(weights)
    measured = _measure(work, saved, model.to(device_name), reader, torch.device(device_name))
    manifest = describe(work, saved, path, measured)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return folder


def _measure(
    work: Path, saved: Checkpoint, model: Trainee, reader: Whisper, device: torch.device
) -> dict[str, float]:
    """Return all figures: our reading of every held-out set, plain Whisper's of the first, and silence."""
    sets = measure.held_out_sets(work / "speech")
    clean = sets[0]

    def ours(held_out: measure.HeldOutSet) -> float:
        texts = measure.transcribe(model, saved.vocabulary, held_out.audio, device)
        return measure.error_rate(held_out.texts, texts)

    def whispers(timed: bool) -> float:
        texts = measure.transcribe_with_whisper(reader, clean.audio, timed)
        return measure.error_rate(clean.texts, texts)

    figures: dict[str, Callable[[], float]] = {f"wer_{one.name}": partial(ours, one) for one in sets}
    figures["wer_clean_whisper_decode"] = partial(whispers, False)
    figures["wer_clean_whisper_decode_timestamps"] = partial(whispers, True)
    figures["silent_windows_with_text"] = partial(invented, model, saved.vocabulary, device)
    shown = tracked(figures.items(), "export: measuring", len(figures))
    return {name: round(figure(), 4) for name, figure in shown}


def widened(weights: dict[str, Tensor], vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Return fp16 weights with Whisper's 51,864 rows; tokens the corpus never used share the unknown row."""
    name = "decoder.token_embedding.weight"
    trained = weights[name]
    wide = trained[vocabulary.unknown].repeat(N_WHISPER, 1)
    used = [
        (whisper_id, row) for row, whisper_id in enumerate(vocabulary.whisper_ids) if whisper_id != UNKNOWN
    ]
    ids, rows = (torch.tensor(column) for column in zip(*used, strict=True))
    wide[ids] = trained[rows]
    return {k: t.half().cpu().contiguous() for k, t in (weights | {name: wide}).items()}


def invented(model: Trainee, vocabulary: Vocabulary, device: torch.device) -> float:
    """Return the share of windows with silence or noise in which the model reads something."""
    rng = np.random.default_rng(11)
    audio = [windows.without_speech(float(rng.uniform(1, 6)), rng).samples for _ in range(_N_SILENT)]
    texts = measure.transcribe(model, vocabulary, audio, device)
    return sum(bool(text) for text in texts) / _N_SILENT


def alignment_heads(shape: Shape) -> str:
    """Return the heads that training led to the words, in the base85 form that Whisper reads."""
    heads = np.zeros((shape.decoder_layers, shape.heads), dtype=bool)
    heads[-1, :GUIDED_HEADS] = True
    return base64.b85encode(gzip.compress(heads.tobytes(), mtime=0)).decode()


def commands(work: Path, step: int) -> list[str]:
    """Return the commands that made the checkpoint after ``step`` steps."""
    steps = ["corpus", "speech", "train"]
    noted = work / "decay_from.txt"
    if noted.exists() and step > (began := int(noted.read_text())):
        steps[-1:] = [f"train --steps {began}", "train --finish"]
    else:
        steps[-1] = f"train --steps {step}"
    return [f"python -m training.demo_en {step}" for step in [*steps, "export"]]


def describe(work: Path, saved: Checkpoint, weights: Path, measured: dict[str, float]) -> dict[str, Any]:
    """Return the manifest: what the engine must know, and what people ask."""
    stage = TrainConfig().stage_at(saved.step)
    return {
        "id": "demo-en",
        "dims": vars(dimensions(saved.shape, N_WHISPER)),
        "language": "en",
        "multilingual": False,
        "tokenizer": "openai-whisper get_tokenizer(multilingual=False), 51,864 rows",
        "audio_context": "fit",
        "context_tail_s": 0.3,
        "timestamps": stage.p_timestamps > 0,
        "prompts": stage.p_prompt > 0,
        "alignment_heads": alignment_heads(saved.shape),
        "guard": GUARD,
        "files": {weights.name: {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}},
        "trained": {
            "commands": commands(work, saved.step),
            "date": datetime.now(UTC).date().isoformat(),
            "voices": "espeak-ng (6 accents, 54 variants), flite (slt, rms, awb, kal16)",
            "seeds": {
                "corpus": CorpusConfig().seed,
                "speech": SpeechConfig().seed,
                "train": TrainConfig().seed,
            },
            "steps": saved.step,
            "stage": stage.name,
            "hours_of_speech": round(saved.hours, 1),
            "hours_of_training": round(saved.trained_s / 3600, 2),
        },
        "measured": {
            "sentences": {
                "command": "python -m training.demo_en export",
                "how": "greedy, fitted context, whole sentences of heldout.py",
                **measured,
            }
        },
        "licence": LICENCE,
        "note": SYNTHETIC_ONLY,
    }


def _rounded(model: Trainee) -> Trainee:
    """Return the model with weights as fp16 holds them, so that what is measured is what is shipped."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model
