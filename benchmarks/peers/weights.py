"""A model of ours in the forms that the peers read: openai-whisper's checkpoint, CTranslate2's folder."""

import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

from benchmarks.faster_whisper import vocabulary_of
from benchmarks.peers.bpe import tokenizer_json
from benchmarks.peers.environments import REPOSITORY, Unavailable
from stream_server.engine.manifest import read_manifest
from stream_server.engine.model import load_whisper


def convert(model: Path, python: Path, folder: Path) -> None:
    """Write both forms into one folder, as WhisperLiveKit takes them.

    Args:
        model: Ours: ``manifest.json`` and ``model.safetensors``.
        python: Of an environment with ctranslate2.
        folder: Where to write; made.

    Raises:
        Unavailable: CTranslate2 does not take the weights.
    """
    manifest = read_manifest(model)
    whisper = load_whisper(model, manifest, torch.device("cpu"))
    folder.mkdir(parents=True)
    state = {name: tensor.float() for name, tensor in whisper.state_dict().items()}
    torch.save({"dims": vars(whisper.dims), "model_state_dict": state}, folder / "model.pt")
    np.savez(folder / "weights.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    tokenizer = get_tokenizer(whisper.is_multilingual, num_languages=whisper.num_languages)
    (folder / "settings.json").write_text(json.dumps(_settings(whisper, tokenizer)), encoding="utf-8")
    encoding = tokenizer.encoding
    # tiktoken has the ranks in no public place.
    content = tokenizer_json(encoding._mergeable_ranks, encoding._special_tokens)
    command = [str(python), "-m", "benchmarks.peers.convert", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)  # noqa: S603 - our own arguments
    if done.returncode:
        raise Unavailable(f"CTranslate2 does not take the weights: {done.stderr.strip().splitlines()[-1:]}")
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "weights.npz").unlink()
    (folder / "settings.json").unlink()


def _settings(whisper: Whisper, tokenizer: Tokenizer) -> dict[str, object]:
    return {
        "dims": vars(whisper.dims),
        "vocabulary": vocabulary_of(tokenizer, whisper.dims.n_vocab),
        "language_ids": list(tokenizer.all_language_tokens) if whisper.is_multilingual else [],
        "alignment_heads": whisper.alignment_heads.to_dense().nonzero().tolist(),
        # As in what OpenAI's models are published with: no text begins with a blank or ends at once.
        "suppress_ids_begin": [*tokenizer.encode(" "), tokenizer.eot],
    }
