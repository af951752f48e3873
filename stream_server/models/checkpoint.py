"""Reads checkpoints: openai-whisper's ``.pt`` and Hugging Face's layout of Whisper, into one form.

Nothing in a file is run: ``.pt`` files are unpickled with ``weights_only``, the others are safetensors.
"""

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stream_server.engine.manifest import WEIGHTS_NAME, Dimensions
from stream_server.errors import ModelError
from stream_server.models.alignment import dump_heads
from stream_server.models.foreign import check_is_checkpoint, missing_weights
from stream_server.models.huggingface import (
    Config,
    GenerationConfig,
    dimensions_of,
    openai_name,
    parse_config,
    parse_generation_config,
)
from stream_server.models.shapes import mismatch

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_JSON_BYTES_MAX = 4 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights under openai-whisper's names, which fit their dimensions."""

    dims: Dimensions
    tensors: dict[str, Tensor]
    alignment_heads: str | None
    """whisper's dump, if the checkpoint itself says which heads align words."""


def read_openai(path: Path) -> Checkpoint:
    """Read a checkpoint of openai-whisper.

    Raises:
        ModelError: It is another kind of file, damaged, or its tensors do not fit its dimensions.
        OSError: The file cannot be opened.
    """
    check_is_checkpoint(path)
    loaded = _unpickle(path)
    if not isinstance(loaded, dict) or not {"dims", "model_state_dict"} <= loaded.keys():
        raise ModelError(
            f"{path} is not a checkpoint of openai-whisper: it has no dims and model_state_dict; "
            "for a model of Hugging Face give the folder with model.safetensors and config.json"
        )
    try:
        dims = msgspec.convert(loaded["dims"], Dimensions)
    except msgspec.ValidationError as exc:
        raise ModelError(f"{path}: its dims are not those of a Whisper: {exc}") from exc
    return Checkpoint(dims, _checked(loaded["model_state_dict"], dims, path), None)


def _unpickle(path: Path) -> Any:  # anything may be in a pickle
    try:
        with warnings.catch_warnings():
            # That the file is TorchScript, which it then refuses.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise ModelError(
            f"{path} holds more than weights, which could be code, and is not opened; "
            "OpenAI's checkpoints hold none: fetch the original again"
        ) from exc
    except OSError:
        raise
    except Exception as exc:
        # A damaged pickle may raise anything, as pickle's documentation says.
        raise ModelError(
            f"{path} is cut short, damaged, or a zip file of another kind; copy it again and compare sizes"
        ) from exc


def read_huggingface(folder: Path) -> Checkpoint:
    """Read ``model.safetensors``, ``config.json`` and, if there, ``generation_config.json`` of a folder.

    Raises:
        ModelError: A file is missing, damaged, or says what is not Whisper.
        OSError: A file cannot be opened.
    """
    weights, config_path = folder / WEIGHTS_NAME, folder / "config.json"
    if not weights.exists():
        raise missing_weights(folder)
    config = _read_config(config_path)
    try:
        dims = dimensions_of(config)
    except ValueError as exc:
        raise ModelError(f"{config_path}: {exc}") from exc
    tensors = _renamed(_load(weights), weights)
    return Checkpoint(dims, _checked(tensors, dims, weights), _read_heads(folder, dims))


def _read_config(path: Path) -> Config:
    if not path.exists():
        raise ModelError(f"{path} is missing; it comes with model.safetensors and says its dimensions")
    try:
        return parse_config(_read_json(path))
    except ValueError as exc:
        raise ModelError(f"{path} is not the config.json of a Whisper: {exc}") from exc


def _read_heads(folder: Path, dims: Dimensions) -> str | None:
    path = folder / "generation_config.json"
    if not path.exists():
        return None
    try:
        generation: GenerationConfig = parse_generation_config(_read_json(path))
        return dump_heads(generation.alignment_heads, dims) if generation.alignment_heads else None
    except ValueError as exc:
        raise ModelError(f"{path}: alignment_heads: {exc}; correct it, or remove the file") from exc


def _read_json(path: Path) -> bytes:
    if path.stat().st_size > _JSON_BYTES_MAX:
        raise ModelError(f"{path} is larger than {_JSON_BYTES_MAX >> 20} MB; it is not a configuration")
    return path.read_bytes()


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as exc:
        raise ModelError(
            f"{path} is not a safetensors file, or cut short; copy it again and compare sizes ({exc})"
        ) from exc


def _renamed(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors under openai-whisper's names; the output layer, which is the token embedding, is left out."""
    renamed = {openai_name(name): tensor for name, tensor in tensors.items()}
    output = renamed.pop("proj_out.weight", None)
    embedding = renamed.get("decoder.token_embedding.weight")
    if output is not None and embedding is not None and not torch.equal(output, embedding):
        raise ModelError(f"{path}: proj_out differs from embed_tokens; in Whisper they are one")
    return renamed


def _checked(tensors: Any, dims: Dimensions, path: Path) -> dict[str, Tensor]:  # a pickle may hold anything
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(f"{path}: model_state_dict is not tensors by name; fetch the original again")
    problem = mismatch({str(name): tuple(tensor.shape) for name, tensor in tensors.items()}, dims)
    if problem is not None:
        raise ModelError(f"{path}: its tensors are not those of its dimensions: {problem}")
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided:
            raise ModelError(
                f"{path}: {name} is {tensor.dtype}; quantised weights cannot be imported, give the original"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not numbers; fetch the original again")
    return tensors
