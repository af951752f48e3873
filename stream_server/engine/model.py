"""From a model's folder to a ``whisper.Whisper`` with its weights.

``whisper.load_model`` is not used: it fetches a file again whose checksum is wrong, does not check a
local file at all, and loses the alignment heads.
"""

import zlib
from pathlib import Path

import msgspec
import torch
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper
from whisper.tokenizer import LANGUAGES

from stream_server.core.settings import ModelFacts
from stream_server.engine.access import NO_ACCESS, ModelAccess
from stream_server.engine.manifest import (
    MANIFEST_NAME,
    SEALED_NAME,
    WEIGHTS_NAME,
    Manifest,
    is_sealed,
    read_verified,
    unsealed_pieces,
)
from stream_server.engine.pages import Pages
from stream_server.engine.weights import take_weights
from stream_server.errors import ModelError
from stream_server.sealing.container import SealedFile


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


def load_whisper(
    folder: Path, manifest: Manifest, device: torch.device, access: ModelAccess = NO_ACCESS
) -> Whisper:
    """Load checked weights, for inference.

    Each file is read once, and the weights are parsed from the bytes that were checked. A sealed model is
    decrypted in memory; its key is gone when this returns, as far as Python can see to that. Either way the
    peak of memory is the larger of the file and the float32 weights, and one tensor (``engine.weights``).

    Args:
        folder: The model, sealed or not.
        manifest: As ``read_manifest`` returned it, its signature checked.
        device: Where the weights are to lie.
        access: Where the key of a sealed model lies.

    Raises:
        ModelError: A file is missing or altered, or its tensors are not those of the dimensions, or not
            finite; or it is sealed, and there is no key, or a wrong one.
    """
    if is_sealed(folder):
        path = folder / SEALED_NAME
        content = read_unsealed(folder, manifest, access)
    else:
        path = folder / WEIGHTS_NAME
        for name in manifest.files.keys() - {WEIGHTS_NAME}:
            read_verified(folder, manifest, name)
        content = read_verified(folder, manifest, WEIGHTS_NAME)
    weights = take_weights(path, content, device)
    model = bare_whisper(ModelDimensions(**msgspec.structs.asdict(manifest.dims)))
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as exc:
        first = str(exc).splitlines()[1:2] or [str(exc)]
        raise ModelError(f"{path} does not fit the manifest's dimensions: {first[0].strip()}") from exc
    _restore_constants(model)
    if manifest.alignment_heads is not None:
        _set_alignment_heads(model, folder, manifest.alignment_heads)
    return model.eval().requires_grad_(False).to(device)


def read_unsealed(folder: Path, manifest: Manifest, access: ModelAccess) -> Pages:
    """The weights' file, decrypted and checked.

    In ordinary memory, as a plain one is read, and not in a memory file (``memfd_create``): that one has no
    name either, but its pages are not counted as the process's.
    """
    with SealedFile(folder / SEALED_NAME) as sealed:
        sizes = {entry.name: entry.size for entry in sealed.public.files}
        content, n_done = Pages(sizes.get(WEIGHTS_NAME, 0)), 0
        for name, piece in unsealed_pieces(sealed, manifest, access.read_key(sealed.path)):
            if name == WEIGHTS_NAME:
                content.view[n_done : n_done + len(piece)] = piece
                n_done += len(piece)
    return content


def bare_whisper(dims: ModelDimensions) -> Whisper:
    """What whisper's constructor makes, with shapes and without numbers: none are drawn to be overwritten."""
    model = Whisper.__new__(Whisper)
    torch.nn.Module.__init__(model)
    model.dims = dims
    with torch.device("meta"):
        model.encoder = AudioEncoder(
            dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer
        )
        model.decoder = TextDecoder(
            dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
        )
    return model


def _restore_constants(model: Whisper) -> None:
    """Give the buffers that whisper computes and does not save their values, as its constructors do."""
    dims = model.dims
    mask = torch.full((dims.n_text_ctx, dims.n_text_ctx), -torch.inf).triu_(1)
    model.decoder.register_buffer("mask", mask, persistent=False)
    heads = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
    heads[dims.n_text_layer // 2 :] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)


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
    return ModelFacts(
        manifest.id,
        frozenset(languages),
        can_translate=manifest.multilingual,
        can_time_words=manifest.alignment_heads is not None,
        reads_prompts=manifest.prompts,
    )
