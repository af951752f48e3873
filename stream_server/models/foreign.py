"""Files that are often given in place of a checkpoint, told by their first bytes and by their neighbours."""

from pathlib import Path

from stream_server.engine.manifest import WEIGHTS_NAME
from stream_server.errors import ModelError

_HEAD_BYTES = 512
ZIP_MAGIC = b"PK\x03\x04"

_ORIGINAL = "give the original: OpenAI's .pt file, or Hugging Face's model.safetensors with its config.json"


def check_is_checkpoint(path: Path) -> None:
    """Check that a file can be one of openai-whisper's checkpoints, before anything parses it.

    Raises:
        ModelError: It cannot; says what it is and what to do.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(ZIP_MAGIC):
        return
    raise ModelError(f"{path} {_what(head)}")


def _what(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "is empty; copy it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a checkpoint: a login or an error was saved in its place; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
    if head.startswith((b"GGUF", b"lmgg", b"fmgg", b"tjgg")):
        return f"is a whisper.cpp model, which is converted and perhaps quantised; {_ORIGINAL}"
    if head[8:9] == b"{":
        return "is a safetensors file; name it .safetensors, beside its config.json"
    return f"is not a checkpoint of openai-whisper, or an old one; {_ORIGINAL}"


def missing_weights(folder: Path) -> ModelError:
    """What to say of a folder that has no ``model.safetensors``."""
    here = f"{folder} has no {WEIGHTS_NAME}"
    if (folder / f"{WEIGHTS_NAME}.index.json").exists():
        return ModelError(
            f"{here} but parts of it; join them where transformers is installed: "
            "WhisperForConditionalGeneration.from_pretrained(FOLDER)"
            '.save_pretrained(NEW_FOLDER, max_shard_size="20GB")'
        )
    if (folder / "adapter_model.safetensors").exists():
        return ModelError(f"{here} but an adapter; merge it into its base model (peft: merge_and_unload)")
    if (folder / "pytorch_model.bin").exists():
        return ModelError(
            f"{here} but pytorch_model.bin; convert it where transformers is installed: "
            "WhisperForConditionalGeneration.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    if (folder / "model.bin").exists():
        return ModelError(f"{here} but model.bin, faster-whisper's converted format; {_ORIGINAL}")
    return ModelError(f"{here}; {_ORIGINAL}")
