"""From a checkpoint to an installed model: checked, converted once, and put in place whole."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from stream_server.engine.manifest import (
    ENGLISH_VOCAB,
    MANIFEST_NAME,
    SEALED_NAME,
    SIGNATURE_NAME,
    WEIGHTS_NAME,
    ByteCount,
    FileEntry,
    Manifest,
    Source,
    is_sealed,
    read_manifest,
    sha256_of,
    verify_files,
)
from stream_server.errors import ModelError
from stream_server.models.checkpoint import Checkpoint, read_huggingface, read_openai
from stream_server.models.foreign import missing_weights
from stream_server.models.official import Official, official_by_sha256, official_models
from stream_server.models.store import ModelStore, folder_bytes, is_model_folder
from stream_server.sealing.container import SealedFile

OFFICIAL_LICENCE = "MIT"
"""Of the weights that OpenAI published: https://github.com/openai/whisper, "License"."""
_SPARE_BYTES = 1 << 20

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it is, and how much it is in all; bytes, or tensors while converting."""

Gate = Callable[[Path], None]
"""Looks at a complete model folder before it is installed; raises what forbids it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a model is to be installed."""

    name: str | None = None
    """None: as OpenAI names it, else as the file or folder is named."""
    version: str | None = None
    """None: 1, or what the manifest of a model folder says."""
    audio_context: str | None = None
    """None: ``full``, or what the manifest of a model folder says."""
    licence: str | None = None
    url: str | None = None
    """Where the file was fetched from."""
    allow_downgrade: bool = False

    def __post_init__(self) -> None:
        """Check what would fail only after the conversion."""
        if self.audio_context not in (None, "full", "fit"):
            raise ModelError(f"the audio context is full or fit, not {self.audio_context}")

    @property
    def new_version(self) -> str:
        """The version of a model that has none of its own."""
        return self.version or "1"


def import_model(
    source: Path,
    store: ModelStore,
    wish: Wish,
    *,
    progress: Progress,
    gate: Gate | None = None,
) -> Path:
    """Install the model in a file or folder.

    Args:
        source: A ``.pt`` of openai-whisper; a folder in Hugging Face's layout, or its ``model.safetensors``;
            or a model folder, such as STATE/models/NAME of another machine.
        store: Where to.
        wish: How.
        progress: Told how far it is.
        gate: Called with the complete folder before it takes its place.

    Returns:
        The folder of the installed model.

    Raises:
        ModelError: The source cannot be used, or the gate or the store refuses; nothing is changed.
    """
    try:
        with store.changing(), store.staging() as staged:
            name = _Staging(store, wish, staged, progress).fill(_place_of(source))
            if gate is not None:
                gate(staged)
            return store.install(staged, name)
    except OSError as exc:
        raise ModelError(f"{exc.filename or source}: {exc.strerror or exc}; nothing was installed") from exc


def _place_of(source: Path) -> Path:
    """The folder if a file in it was given that is nothing without the others, else the source."""
    if not source.exists():
        raise ModelError(f"{source} does not exist; give a .pt file, or a folder with {WEIGHTS_NAME}")
    is_part = source.is_file() and source.suffix == ".safetensors"
    if is_part and source.name != WEIGHTS_NAME:
        if source.with_name(f"{WEIGHTS_NAME}.index.json").exists():
            raise missing_weights(source.parent)
        raise ModelError(f"{source} must be named {WEIGHTS_NAME} and lie beside its config.json")
    # Not resolved: Hugging Face's cache keeps its files elsewhere, and links to them side by side.
    return source.absolute().parent if is_part else source


@dataclass(frozen=True, slots=True)
class _Staging:
    """A model folder under way."""

    store: ModelStore
    wish: Wish
    folder: Path
    progress: Progress

    def fill(self, place: Path) -> str:
        """Write the model folder; returns the name that it is to have."""
        if is_model_folder(place):
            return self._copy(place)
        if place.is_dir():
            return self._convert_huggingface(place)
        return self._convert_openai(place)

    def _convert_openai(self, path: Path) -> str:
        sha256 = _hash(path, "checking the file", self.progress)
        official = official_by_sha256(sha256)
        name = self.wish.name or (official.name if official else path.stem)
        _check_is_not_passed_off(path, name, sha256, official)
        self._check_place(name, self.wish.new_version)
        checkpoint = read_openai(path)
        if official is not None:
            checkpoint = replace(checkpoint, alignment_heads=official.alignment_heads)
        source = Source("openai", path.name, sha256, official is not None, self.wish.url)
        self._write(checkpoint, source, name)
        return name

    def _convert_huggingface(self, place: Path) -> str:
        name = self.wish.name or place.resolve().name
        if name in official_models():
            raise ModelError(
                f"{name} is the name of OpenAI's checkpoint, and a folder in Hugging Face's layout has no "
                f"checksum to know it by; set another --name, such as {name}-hf"
            )
        self._check_place(name, self.wish.new_version)
        checkpoint = read_huggingface(place)
        sha256 = _hash(place / WEIGHTS_NAME, "checking the file", self.progress)
        self._write(checkpoint, Source("huggingface", WEIGHTS_NAME, sha256), name)
        return name

    def _copy(self, place: Path) -> str:
        manifest = read_manifest(place)
        if self.wish.version or self.wish.audio_context or self.wish.licence:
            raise ModelError(
                f"{place} has a {MANIFEST_NAME} that says its version, context and licence; change them there"
            )
        name = self.wish.name or place.resolve().name
        self._check_place(name, manifest.version)
        n_bytes = folder_bytes(place)
        if is_sealed(place):
            self._copy_sealed(place / SEALED_NAME, n_bytes)
            return name
        verify_files(place, manifest, _counting("checking the files", n_bytes, self.progress))
        self.store.check_room(n_bytes + _SPARE_BYTES)
        for file in (MANIFEST_NAME, *manifest.files):
            shutil.copyfile(place / file, self.folder / file)
        if (place / SIGNATURE_NAME).is_file():
            shutil.copyfile(place / SIGNATURE_NAME, self.folder / SIGNATURE_NAME)
        # What was read a second time is checked a second time.
        verify_files(self.folder, manifest, _counting("checking the copy", n_bytes, self.progress))
        return name

    def _copy_sealed(self, source: Path, n_bytes: int) -> None:
        """Without the key nothing of it can be checked but its length; loading it checks everything."""
        self.store.check_room(n_bytes + _SPARE_BYTES)
        with SealedFile(source):
            shutil.copyfile(source, self.folder / SEALED_NAME)
        with SealedFile(self.folder / SEALED_NAME):
            pass

    def _check_place(self, name: str, version: str) -> None:
        self.store.check_place(name, version, allow_downgrade=self.wish.allow_downgrade)

    def _write(self, checkpoint: Checkpoint, source: Source, name: str) -> None:
        tensors = _narrowed(checkpoint.tensors, self.progress)
        n_bytes = sum(tensor.nbytes for tensor in tensors.values())
        self.store.check_room(n_bytes + _SPARE_BYTES)
        weights = self.folder / WEIGHTS_NAME
        self.progress("writing", 0, n_bytes)
        write_weights(tensors, weights)
        multilingual = checkpoint.dims.n_vocab > ENGLISH_VOCAB
        manifest = Manifest(
            id=name,
            dims=checkpoint.dims,
            multilingual=multilingual,
            files={WEIGHTS_NAME: FileEntry(_hash(weights, "checking what was written", self.progress))},
            language=None if multilingual else "en",
            audio_context=self.wish.audio_context or "full",
            alignment_heads=checkpoint.alignment_heads,
            version=self.wish.new_version,
            licence=self.wish.licence or (OFFICIAL_LICENCE if source.official else None),
            source=source,
        )
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        (self.folder / MANIFEST_NAME).write_bytes(encoded + b"\n")


def _check_is_not_passed_off(path: Path, name: str, sha256: str, official: Official | None) -> None:
    named = official_models().get(name)
    if named is None or named == official:
        return
    raise ModelError(
        f"{path} is not OpenAI's {name}: its sha256 is {sha256}, not {named.sha256}; "
        "it was cut short or altered: fetch it again, or, if it is a model of yours, set another --name"
    )


def _narrowed(tensors: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
    narrowed = {}
    for i, (name, tensor) in enumerate(tensors.items()):
        progress("converting", i, len(tensors))
        narrowed[name] = narrow(tensor)
    return narrowed


def narrow(tensor: Tensor) -> Tensor:
    """The tensor as float16 if that loses nothing, else as it is; contiguous, in memory of its own.

    OpenAI published float16; what others store as float32 is often the same numbers in twice the space.
    """
    half = tensor.to(torch.float16)
    kept = half if torch.equal(half.to(tensor.dtype), tensor) else tensor
    return kept.contiguous().clone()


def write_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file.

    Raises:
        ModelError: The disk is full or refuses; names the file.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as exc:
        raise ModelError(f"{path} cannot be written, and nothing was installed: {exc}") from exc


def _hash(path: Path, what: str, progress: Progress) -> str:
    return sha256_of(path, _counting(what, path.stat().st_size, progress))


def _counting(what: str, n_bytes: int, progress: Progress) -> ByteCount:
    return lambda n_done: progress(what, n_done, n_bytes)
