"""A model's folder: ``manifest.json`` says what the weights are, and every file is checked against it.

Or ``model.sealed`` holds all of that, encrypted but for the manifest: ``sealing.container``.

Knows neither torch nor whisper, so that the server can read it without loading a model.
"""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import msgspec

from stream_server.engine.guard import Thresholds
from stream_server.engine.pages import Pages
from stream_server.errors import ModelError
from stream_server.sealing.container import SealedFile
from stream_server.sealing.keys import Key
from stream_server.sealing.signing import Trust

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
"""Beside the manifest, where somebody vouches for it."""
SEALED_NAME = "model.sealed"
"""Alone in its folder: manifest, signature and files in one."""
WEIGHTS_NAME = "model.safetensors"
EMBEDDED_NAME = "demo-en"
"""The name of the model that the package carries; no other may have it."""
ENGLISH_VOCAB = 51_864
"""Tokens of the tokenizer for English alone; the multilingual ones have more."""
_HASH_BLOCK_BYTES = 1 << 20
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_WIDTH_MAX = 8_192
_LAYERS_MAX = 128
"""Far beyond any Whisper; what a damaged file says could fill the memory."""

ByteCount = Callable[[int], None]
"""Told how many bytes have been read so far."""


class Dimensions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """whisper's ``ModelDimensions``."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    def __post_init__(self) -> None:
        """Check what would fail only in the first decode, or not at all."""
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        _require("n_mels", self.n_mels, 80, 128)
        _require("n_audio_ctx", self.n_audio_ctx, 1500)
        # English, multilingual, multilingual with Cantonese: the tokenizers that whisper has.
        _require("n_vocab", self.n_vocab, 51_864, 51_865, 51_866)
        _require("n_text_ctx", self.n_text_ctx, 448)
        _require("n_text_state", self.n_text_state, self.n_audio_state)
        _limit("n_audio_state", self.n_audio_state, _WIDTH_MAX)
        _limit("n_audio_layer", self.n_audio_layer, _LAYERS_MAX)
        _limit("n_text_layer", self.n_text_layer, _LAYERS_MAX)
        for n_head in (self.n_audio_head, self.n_text_head):
            if self.n_audio_state % (2 * n_head):
                raise ValueError(f"a width of {self.n_audio_state} cannot be split among {n_head} heads")


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the model."""

    sha256: str


class Source(msgspec.Struct, frozen=True):
    """What the weights were made from."""

    format: str
    """``openai``: a checkpoint of openai-whisper. ``huggingface``: Hugging Face's layout."""
    file: str
    sha256: str
    """Of that file."""
    official: bool = False
    """The file is one that OpenAI published, by its sha256."""
    url: str | None = None
    """Where it was fetched from; None: it was brought as a file."""


class Manifest(msgspec.Struct, frozen=True):
    """What a model is and how its windows are prepared; further fields are for people."""

    id: str
    dims: Dimensions
    multilingual: bool
    files: dict[str, FileEntry]
    language: str | None = None
    """The one language of a model that is not multilingual."""
    audio_context: str = "full"
    """``full``: windows are padded to 30 s. ``fit``: to their own length, for models trained so."""
    context_tail_s: float = 0.0
    """Silence that a fitted window has at its end, seconds."""
    alignment_heads: str | None = None
    """whisper's base85 dump of the heads that align words."""
    prompts: bool = True
    """Whether the model was trained to read on from the text before; one that was not is given none."""
    guard: Thresholds = Thresholds()
    """Lines of the guard against invented text, where this model needs others."""
    version: str = "0"
    """One to four numbers with dots between them; of two the one with the higher numbers is newer."""
    licence: str | None = None
    """Of the weights, as an SPDX expression."""
    source: Source | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.audio_context not in ("full", "fit"):
            raise ValueError("audio_context must be full or fit")
        if not 0 <= self.context_tail_s <= 5:
            raise ValueError("context_tail_s must be between 0 and 5")
        if self.multilingual != (self.dims.n_vocab > ENGLISH_VOCAB):
            raise ValueError(f"n_vocab {self.dims.n_vocab} and multilingual disagree")
        if WEIGHTS_NAME not in self.files:
            raise ValueError(f"files must name {WEIGHTS_NAME} and its sha256")
        version_key(self.version)

    @property
    def n_languages(self) -> int:
        """How many languages its tokenizer has."""
        return self.dims.n_vocab - 51_766 if self.multilingual else 1


def _require(name: str, value: int, *allowed: int) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(str, allowed))}, not {value}")


def _limit(name: str, value: int, highest: int) -> None:
    if value > highest:
        raise ValueError(f"{name} must be at most {highest}, not {value}")


def version_key(version: str) -> tuple[int, ...]:
    """A version as numbers that compare as versions do; ``1``, ``1.0`` and ``1.0.0`` are the same.

    Raises:
        ValueError: It is not one to four numbers with dots between them.
    """
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version must be numbers with dots between them, such as 1.2, not {version!r}")
    numbers = [int(number) for number in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def embedded_model() -> Path:
    """The folder of the model that the package carries."""
    # The package is installed as files (not zipped): safetensors maps the weights from disk.
    return Path(str(resources.files("stream_server") / "assets" / "demo_en"))


def find_model(wanted: str | None, state: Path) -> Path:
    """The folder of a model: a path, a name in the state folder's ``models``, or the embedded one.

    Raises:
        ModelError: Neither exists; names both places.
    """
    if wanted is None:
        return embedded_model()
    installed = state / "models" / wanted
    for folder in (Path(wanted), installed):
        if folder.is_dir():
            return folder
    if wanted == EMBEDDED_NAME:
        return embedded_model()
    raise ModelError(
        f"there is no model folder {wanted}, nor {installed}; --model takes a folder with {MANIFEST_NAME} "
        f"and {WEIGHTS_NAME}, or a name that `stream-server models list` shows; "
        "`stream-server models import` adds one"
    )


def read_manifest(folder: Path, trust: Trust | None = None) -> Manifest:
    """Read a model folder's manifest.

    Args:
        folder: The model, sealed or not.
        trust: Who must have signed it, checked before it is parsed; None for a command that only shows it.
            The embedded model is a part of the program and needs no signature.

    Raises:
        ModelError: The folder or the manifest is missing, not signed as it must be, or says something
            impossible.
    """
    text = read_manifest_text(folder)
    if trust is not None and folder != embedded_model():
        trust.check(text.manifest, text.signature, text.path)
    try:
        return msgspec.json.decode(text.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ModelError(f"{text.path} is not a model manifest: {exc}") from exc


class ManifestText(msgspec.Struct, frozen=True):
    """A manifest as it was written, which is what a signature vouches for."""

    path: Path
    manifest: bytes
    signature: bytes | None


def read_manifest_text(folder: Path) -> ManifestText:
    """The bytes of a model folder's manifest and of its signature.

    Raises:
        ModelError: There is none.
    """
    if is_sealed(folder):
        with SealedFile(folder / SEALED_NAME) as sealed:
            public = sealed.public
            signature = None if public.signature is None else public.signature.encode()
            return ManifestText(sealed.path, public.manifest.encode(), signature)
    path, signed = folder / MANIFEST_NAME, folder / SIGNATURE_NAME
    try:
        return ManifestText(path, path.read_bytes(), signed.read_bytes() if signed.exists() else None)
    except (FileNotFoundError, NotADirectoryError) as exc:
        missing = f"{path} does not exist" if folder.is_dir() else f"{folder} is not a folder"
        raise ModelError(
            f"{missing}; --model takes a folder with {MANIFEST_NAME} and {WEIGHTS_NAME}, or {SEALED_NAME}"
        ) from exc
    except OSError as exc:
        raise ModelError(f"{exc.filename} cannot be read: {exc.strerror}") from exc


def manifest_sha256(folder: Path) -> str:
    """Tells models apart: the manifest names the sha256 of every file.

    Raises:
        ModelError: There is none.
    """
    return hashlib.sha256(read_manifest_text(folder).manifest).hexdigest()


def is_sealed(folder: Path) -> bool:
    """Whether a model folder holds a sealed file."""
    return (folder / SEALED_NAME).is_file()


def unsealed_pieces(sealed: SealedFile, manifest: Manifest, key: Key) -> Iterator[tuple[str, memoryview]]:
    """Decrypt the files of a sealed model: name, and the next bytes of it, in order.

    A thread computes the sha256 of a piece while the next one is read and decrypted: of all that a sealed
    model costs, sha256 takes the longest by far (`python -m benchmarks.sealing`).

    Nothing may be parsed before the iterator has ended without an error: only then is every file known to be
    whole and the one that the manifest names.

    Raises:
        ModelError: The key is another, or the file was altered or does not hold what the manifest names.
    """
    digests = {name: hashlib.sha256() for name in manifest.files}
    if sorted(entry.name for entry in sealed.public.files) != sorted(digests):
        raise ModelError(f"{sealed.path} holds other files than its manifest names; copy it again")
    with ThreadPoolExecutor(1, "sha256") as hasher:
        before: Future[None] | None = None
        for name, piece in sealed.pieces(key):
            if before is not None:
                before.result()  # So that no more than two pieces are kept.
            before = hasher.submit(digests[name].update, piece)
            yield name, piece
    for name, digest in digests.items():
        if digest.hexdigest() != manifest.files[name].sha256:
            raise ModelError(
                f"{sealed.path} holds another {name} than its manifest names; take it from its source"
            )


def verify_files(folder: Path, manifest: Manifest, count: ByteCount | None = None) -> None:
    """Check every file of the manifest against its sha256, before anything parses it.

    Raises:
        ModelError: A file is missing, empty, or not the one the manifest was made for.
    """
    n_before = 0
    for name in manifest.files:
        digest_of = functools.partial(sha256_of, count=count and _counting_from(n_before, count))
        _check_file(folder, manifest, name, digest_of)
        n_before += (folder / name).stat().st_size


def read_verified(folder: Path, manifest: Manifest, name: str) -> Pages:
    """Read a file of the manifest once: what is returned is what was checked.

    Raises:
        ModelError: As ``verify_files``.
    """
    content = Pages(0)

    def digest(path: Path) -> str:
        nonlocal content
        content, found = _read_and_hash(path)
        return found

    _check_file(folder, manifest, name, digest)
    return content


def _read_and_hash(path: Path) -> tuple[Pages, str]:
    """The content of a file and its sha256, which a thread computes while the next bytes are read."""
    digest, n_done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        content = Pages(os.fstat(file.fileno()).st_size)
        view = content.view
        with ThreadPoolExecutor(1, "sha256") as hasher:
            # A file that is cut meanwhile ends in zeros, and so has another sha256.
            while n_read := file.readinto(view[n_done : n_done + _HASH_BLOCK_BYTES]):
                hasher.submit(digest.update, view[n_done : n_done + n_read])
                n_done += n_read
            hasher.shutdown()
            digest.update(view[n_done:])
    return content, digest.hexdigest()


def _check_file(folder: Path, manifest: Manifest, name: str, digest_of: Callable[[Path], str]) -> None:
    path = folder / name
    if name == "" or Path(name).name != name or "\0" in name:
        raise ModelError(f"{folder / MANIFEST_NAME} names {name!r}; files must lie in the folder itself")
    try:
        digest = digest_of(path)
        size = path.stat().st_size
    except FileNotFoundError as exc:
        raise ModelError(f"{path} is missing; copy the model's folder again") from exc
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}") from exc
    if size == 0:
        raise ModelError(f"{path} is empty; copy the model's folder again")
    expected = manifest.files[name].sha256
    if digest != expected:
        raise ModelError(
            f"{path} is truncated or altered: sha256 {digest}, the manifest says {expected}; "
            "copy the model's folder again"
        )


def _counting_from(n_before: int, count: ByteCount) -> ByteCount:
    return lambda n_bytes: count(n_before + n_bytes)


def sha256_of(path: Path, count: ByteCount | None = None) -> str:
    """The sha256 of a file, in hex.

    Raises:
        OSError: It cannot be read.
    """
    digest, n_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            n_bytes += len(block)
            if count is not None:
                count(n_bytes)
    return digest.hexdigest()
