"""faster-whisper's engine, CTranslate2, with the same weights, in a process of its own.

Its virtual environment is made by the first run, from the package index that pip uses, and kept.
"""

import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer

ENVIRONMENT = Path(__file__).parent / ".faster-whisper"
REQUIREMENTS = ("faster-whisper==1.2.1", "ctranslate2==4.8.5")


class Unavailable(Exception):
    """Raised when there can be no comparison; says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """One batch, decoded."""

    seconds: float
    """By the clock that was asked for, from mel on."""
    tokens: list[list[int]]


def ensure_environment() -> Path:
    """The environment's Python, made if there is none.

    Raises:
        Unavailable: The packages cannot be installed.
    """
    python = ENVIRONMENT / "bin" / "python"
    if (ENVIRONMENT / ".complete").exists():
        return python
    print(f"making {ENVIRONMENT} with {', '.join(REQUIREMENTS)} …", file=sys.stderr)
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", *REQUIREMENTS]
    done = subprocess.run(install, capture_output=True, text=True)  # noqa: S603 - our own arguments
    if done.returncode:
        raise Unavailable(f"pip install failed: {done.stderr.strip().splitlines()[-1:]}")
    (ENVIRONMENT / ".complete").touch()
    return python


class FasterWhisper:
    """One model, loaded in the other environment for the length of the block.

    Raises:
        Unavailable: It cannot be loaded there.
    """

    def __init__(
        self,
        python: Path,
        model: Whisper,
        tokenizer: Tokenizer,
        *,
        device: str,
        compute_type: str,
        n_threads: int,
        clock: str,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faster-whisper-")
        program = Path(__file__).with_name("faster_whisper_side.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments
            [str(python), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        weights = {name: tensor.float().cpu().numpy() for name, tensor in model.state_dict().items()}
        np.savez(self.folder / "weights.npz", **weights)
        self._settings = {
            "weights": str(self.folder / "weights.npz"),
            "dims": dict(vars(model.dims)),
            "vocabulary": vocabulary_of(tokenizer, model.dims.n_vocab),
            "language_ids": list(tokenizer.all_language_tokens) if model.is_multilingual else [],
            "folder": str(self.folder / "model"),
            "device": device,
            "compute_type": compute_type,
            "threads": n_threads,
            "clock": clock,
        }

    @property
    def folder(self) -> Path:
        """Where the two sides leave files for each other."""
        return Path(self._folder.name)

    def __enter__(self) -> Self:
        try:
            self._ask(self._settings)
        except Unavailable:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._folder.cleanup()

    def decode(self, mel: torch.Tensor, prompt: list[int], n_tokens: int) -> Run:
        """Decode float (B, n_mels, 2T) greedily, each row up to ``n_tokens``.

        Raises:
            Unavailable: CTranslate2 refuses this shape.
        """
        path = self.folder / f"{mel.shape[0]}-{mel.shape[2]}.npy"
        if not path.exists():
            np.save(path, mel.float().cpu().numpy())
        answer = self._ask({"mel": str(path), "prompt": prompt, "n_tokens": n_tokens})
        return Run(float(answer["seconds"]), answer["tokens"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise Unavailable(f"CTranslate2 ended with code {self._process.wait()}") from exc
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"CTranslate2 ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise Unavailable(str(answer["refused"]))
        return answer


def vocabulary_of(tokenizer: Tokenizer, n_vocab: int) -> list[str]:
    """A name for each token; CTranslate2 knows the special ones by theirs."""
    special = {index: name for name, index in tokenizer.special_tokens.items()}
    return [special.get(i, f"token{i}") for i in range(n_vocab)]
