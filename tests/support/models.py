"""Whisper models with random weights, in the shapes of the published ones, their folders, and jobs.

The weights are scaled so that what a model says depends on the audio, varies from token to token and
ends by itself now and then: a decoder that mixes up rows, positions or caches says something else.
"""

import copy
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

from stream_server.core.hops import Hops
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId, Task

ENGLISH_VOCAB = 51_864
MULTILINGUAL_VOCAB = 51_865

_EMBEDDING_STD = 0.15
_POSITION_STD = 0.6
_END_BIAS = 11.0
"""Added to the logit of end-of-text, so that rows end after some tokens, each at its own."""
_NO_SPEECH_BIAS = 10.0
"""Added to the logit of no-speech, so that its probability is more than rounding."""


def shape(
    n_state: int, n_head: int, *, n_layer: int, n_vocab: int = MULTILINGUAL_VOCAB, n_mels: int = 80
) -> ModelDimensions:
    """Dimensions of a model; encoder and decoder are equally deep."""
    return ModelDimensions(n_mels, 1500, n_state, n_head, n_layer, n_vocab, 448, n_state, n_head, n_layer)


def tiny(*, n_layer: int = 4, n_vocab: int = MULTILINGUAL_VOCAB) -> ModelDimensions:
    """``tiny`` (or ``tiny.en``), cut to ``n_layer`` layers."""
    return shape(384, 6, n_layer=n_layer, n_vocab=n_vocab)


def base(*, n_layer: int = 6) -> ModelDimensions:
    """``base``, cut to ``n_layer`` layers."""
    return shape(512, 8, n_layer=n_layer)


def large_v3(*, n_layer: int = 32, n_head: int = 20) -> ModelDimensions:
    """``large-v3``, cut to ``n_layer`` layers and ``n_head`` heads."""
    return shape(64 * n_head, n_head, n_layer=n_layer, n_vocab=51_866, n_mels=128)


def random_whisper(dims: ModelDimensions, seed: int = 0) -> Whisper:
    """A model whose weights are a function of its dimensions and the seed."""
    generator = torch.Generator().manual_seed(seed)
    model = Whisper(dims)
    for name, parameter in model.named_parameters():
        parameter.data.normal_(std=_std(name, parameter), generator=generator)
        if "ln" in name.split(".")[-2] and name.endswith("weight"):
            parameter.data.add_(1.0)
    tokenizer = tokenizer_of(model)
    for token, bias in ((tokenizer.eot, _END_BIAS), (tokenizer.no_speech, _NO_SPEECH_BIAS)):
        direction = model.decoder.token_embedding.weight.data[token]
        model.decoder.ln.bias.data.add_(direction, alpha=bias / float(direction.square().sum()))
    return model.eval().requires_grad_(False)


def tokenizer_of(model: Whisper) -> Tokenizer:
    """The model's tokenizer; afterwards whisper has its vocabulary in memory."""
    with warnings.catch_warnings():
        # whisper does not close the file.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(model.is_multilingual, num_languages=model.num_languages)


def _std(name: str, parameter: torch.Tensor) -> float:
    if "token_embedding" in name:
        return _EMBEDDING_STD
    if "positional_embedding" in name:
        return _POSITION_STD
    if parameter.ndim == 1:
        return 0.1
    # Queries and keys of this size make attention look at few places, so that order and audio matter.
    gain = 2.0 if ".query." in name or ".key." in name else 1.0
    return gain * float(parameter[0].numel()) ** -0.5


def fitted_reference(model: Whisper, n_positions: int) -> Whisper:
    """The same weights as a whisper whose audio context is ``n_positions``."""
    dims = copy.copy(model.dims)
    dims.n_audio_ctx = n_positions
    reference = Whisper(dims)
    weights = model.state_dict()
    key = "encoder.positional_embedding"
    weights[key] = weights[key][:n_positions]
    reference.load_state_dict(weights)
    return reference.eval().requires_grad_(False).to(model.device)


def write_model(folder: Path, model: Whisper, **fields: Any) -> Path:
    """Write a model folder, safetensors and manifest; ``fields`` go into the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    write_manifest(folder, model.dims, **fields)
    return folder


def write_manifest(folder: Path, dims: ModelDimensions, **fields: Any) -> None:
    """Write ``manifest.json`` for the weights that lie in ``folder``."""
    weights = folder / "model.safetensors"
    manifest: dict[str, Any] = {
        "id": "random",
        "dims": dict(vars(dims)),
        "multilingual": dims.n_vocab >= MULTILINGUAL_VOCAB,
        "files": {weights.name: {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))


def decode_job(
    pcm: bytes,
    *,
    session: str = "one",
    segment: int = 0,
    revision: int = 1,
    final: bool = True,
    start: int = 0,
    language: str | None = None,
    submitted_s: float = 0.0,
    draft: tuple[int, ...] = (),
) -> DecodeJob:
    """A job for a window of int16 samples."""
    return DecodeJob(
        session=SessionId(session),
        segment=segment,
        revision=revision,
        final=final,
        start=start,
        pcm=pcm,
        language=language,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(submitted_s=submitted_s),
        draft=draft,
    )
