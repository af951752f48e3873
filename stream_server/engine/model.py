"""From a model's folder to a ``whisper.Whisper`` with its weights.

``whisper.load_model`` is not used: it fetches a file again whose checksum is wrong, does not check a
local file at all, and loses the alignment heads.
"""

import zlib
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import LANGUAGES

from stream_server.core.settings import ModelFacts
from stream_server.engine.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest, verify_files
from stream_server.errors import ModelError


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a device.

    Raises:
        ModelError: The name is another, or CUDA was asked for and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ModelError(f"engine.device must be auto, cpu or cuda, not {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("engine.device is cuda, but torch finds no CUDA device; set it to auto or cpu")
    return torch.device(name)


def load_whisper(folder: Path, manifest: Manifest, device: torch.device) -> Whisper:
    """Load checked weights, for inference.

    Raises:
        ModelError: A file is missing or altered, or its tensors are not those of the dimensions.
    """
    verify_files(folder, manifest)
    path = folder / WEIGHTS_NAME
    try:
        weights = load_file(path)
    except SafetensorError as exc:
        raise ModelError(f"{path} is not a safetensors file: {exc}") from exc
    model = Whisper(ModelDimensions(**msgspec.structs.asdict(manifest.dims)))
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as exc:
        first = str(exc).splitlines()[1:2] or [str(exc)]
        raise ModelError(f"{path} does not fit the manifest's dimensions: {first[0].strip()}") from exc
    if manifest.alignment_heads is not None:
        _set_alignment_heads(model, folder, manifest.alignment_heads)
    return model.eval().requires_grad_(False).to(device)


def _set_alignment_heads(model: Whisper, folder: Path, dump: str) -> None:
    try:
        model.set_alignment_heads(dump.encode())
    except (ValueError, OSError, EOFError, zlib.error, RuntimeError) as exc:
        # Not base85, not gzip, cut short, or not as many heads as the decoder has.
        raise ModelError(
            f"{folder / MANIFEST_NAME}: alignment_heads is not whisper's dump for these dimensions; "
            "take it from the model's source, or set it to null"
        ) from exc


def facts_of(manifest: Manifest) -> ModelFacts:
    """What sessions must know of a model."""
    n_languages = manifest.dims.n_vocab - 51_765 - 1 if manifest.multilingual else 0
    languages = list(LANGUAGES)[:n_languages] if manifest.multilingual else [manifest.language or "en"]
    return ModelFacts(manifest.id, frozenset(languages), can_translate=manifest.multilingual)
