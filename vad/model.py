"""Silero VAD: how much each frame sounds like speech, for many streams in one batch.

The only module of the package that imports torch. The published wrapper keeps one stream's state inside the
model and silently resets it when the batch size changes; the network inside takes the state as an argument,
and that is what is called here. The package ``silero_vad`` itself is never imported: its import sets torch to
one thread for the whole process. Thread counts are the application's to choose and are not touched.
"""

import hashlib
import importlib.util
import io
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from vad.audio import FRAME_SAMPLES, Float32Array
from vad.states import CONTEXT_SAMPLES, HIDDEN_SIZE, SlotArray, VadStates

KNOWN_NETWORKS: Final = {
    "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720": "silero-vad 6.2.3",
}
"""SHA-256 of the network files that were read and tried, and where each was published.

A TorchScript file is a program: a changed one runs with the server's rights.
"""

_ROWS_MAX: Final = 256
"""Rows that the network is given at once; more gain nothing (``benchmarks/vad.py``)."""
_ROWS_STEP: Final = 8
_WARM_UP_CALLS: Final = 3  # TorchScript observes a graph's first calls and compiles it on the next.


class NetworkFileError(RuntimeError):
    """Raised when the network's file is missing, unreadable or not the one that was checked."""


def find_network() -> Path:
    """Return the path of the network in the installed package ``silero_vad``, without importing it.

    Raises:
        NetworkFileError: the package is not installed.
    """
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise NetworkFileError("the package silero-vad is not installed")
    return Path(spec.submodule_search_locations[0], "data", "silero_vad.jit")


class SileroVad:
    """The network. It holds no stream's state, so threads may share it; each ``VadStates`` has one owner.

    Args:
        path: the network's file; by default that of the installed package.
        sha256: the file's expected hash in hexadecimal, instead of those in ``KNOWN_NETWORKS``.

    Raises:
        NetworkFileError: the file cannot be read, or its hash is not the expected one.
    """

    def __init__(self, path: Path | None = None, sha256: str | None = None) -> None:
        self._network = _load(_read_checked(path or find_network(), sha256))

    def score(self, frames: Float32Array, slots: SlotArray, states: VadStates) -> Float32Array:
        """Score the next frames of streams and advance their states.

        What the network does before its recurrent part looks at each frame for itself, and is done for all at
        once; the rest is done in rounds of one frame a stream.

        Args:
            frames: float32 (B, 512) in [-1, 1), finite; row i is of stream ``slots[i]``. The rows of one
                stream are its next frames, in their order.
            slots: integers (B,), open in ``states``.
            states: the streams' states.

        Returns:
            float32 (B,): speech probabilities, the same, up to float32 rounding, whatever else is in the
            batch. Digital silence that has lasted for a second is 0, see ``VadStates.rest``.

        Raises:
            ValueError: wrong shape or type, or a slot not open; no state has changed.
        """
        if frames.dtype != np.float32 or frames.shape != (len(slots), FRAME_SAMPLES):
            expected = f"float32 ({len(slots)}, {FRAME_SAMPLES})"
            raise ValueError(f"frames must be {expected}, not {frames.dtype} {frames.shape}")
        states.check(slots)
        probabilities = np.zeros(len(slots), dtype=np.float32)
        if len(slots) == 0:
            return probabilities
        rounds, contexts = _rounds(slots), np.empty((len(slots), CONTEXT_SAMPLES), dtype=np.float32)
        _, contexts[rounds[0]] = states.gather(slots[rounds[0]])
        for before, rows in pairwise(rounds):
            contexts[rows] = frames[before[: len(rows)], -CONTEXT_SAMPLES:]
        is_silent = _is_silent(frames)
        is_resting = np.zeros(len(slots), dtype=np.bool_)
        for rows in rounds:
            is_resting[rows] = states.rest(slots[rows], is_silent[rows])
        features = self._encode(contexts, frames, np.flatnonzero(~is_resting))
        for rows in rounds:
            states.forget(slots[rows[is_resting[rows]]])
            awake = rows[~is_resting[rows]]
            hidden, _ = states.gather(slots[awake])
            probabilities[awake], hidden = self._decode(features[awake], hidden)
            states.scatter(slots[awake], hidden, frames[awake, -CONTEXT_SAMPLES:])
        return probabilities

    def score_stream(self, frames: Float32Array) -> Float32Array:
        """Score the frames of one whole stream, float32 (k, 512), from its beginning; return float32 (k,)."""
        states = VadStates()
        slots = np.full(_ROWS_MAX, states.open(), dtype=np.intp)
        parts = [frames[start : start + _ROWS_MAX] for start in range(0, len(frames), _ROWS_MAX)]
        scores = [self.score(part, slots[: len(part)], states) for part in parts]
        return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)

    def warm_up(self, batch_sizes: tuple[int, ...] = (1, 8, 64)) -> None:
        """Score silence, so that no stream pays for the network's compilation (70 ms where it was measured).

        Sizes need not be complete: the first batch of a number of rows (see ``_n_rows``) costs 1 to 3 ms more
        than the next, for memory and kernels, and compiles nothing. Call it in the thread that will score.
        """
        for size in batch_sizes:
            states = VadStates()
            slots = np.array([states.open() for _ in range(size)], dtype=np.intp)
            for _ in range(_WARM_UP_CALLS):
                self.score(np.zeros((size, FRAME_SAMPLES), dtype=np.float32), slots, states)

    def _encode(self, contexts: Float32Array, frames: Float32Array, rows: SlotArray) -> Float32Array:
        """Map float32 (B, 64) and (B, 512) to what the recurrent part is fed, (B, 128); these rows only."""
        features = np.empty((len(frames), HIDDEN_SIZE), dtype=np.float32)
        for start in range(0, len(rows), _ROWS_MAX):
            part = rows[start : start + _ROWS_MAX]
            samples = _padded(np.concatenate((contexts[part], frames[part]), axis=1))
            with torch.inference_mode():
                found = self._network.encoder(self._network.stft(torch.from_numpy(samples)))
            features[part] = found.numpy()[: len(part), :, 0]
        return features

    def _decode(self, features: Float32Array, hidden: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Map float32 (B, 128) and (2, B, 128) to probabilities (B,) and the next (2, B, 128)."""
        probabilities = np.empty(len(features), dtype=np.float32)
        next_hidden = np.empty_like(hidden)
        for start in range(0, len(features), _ROWS_MAX):
            part = slice(start, start + _ROWS_MAX)
            probabilities[part], next_hidden[:, part] = self._step(features[part], hidden[:, part])
        return probabilities, next_hidden

    def _step(self, features: Float32Array, hidden: Float32Array) -> tuple[Float32Array, Float32Array]:
        """The same for at most ``_ROWS_MAX`` rows."""
        n = len(features)
        with torch.inference_mode():
            scores, state = self._network.decoder(
                torch.from_numpy(_padded(features)[:, :, np.newaxis]),
                torch.from_numpy(_padded(hidden.swapaxes(0, 1)).swapaxes(0, 1)),
            )
        return scores.numpy().reshape(-1)[:n], state.numpy()[:, :n]


def _rounds(slots: SlotArray) -> list[SlotArray]:
    """Rows of ``slots``, integers (B,), B > 0: round k holds those of each stream's k-th frame.

    In every round the streams stand in the same order, those with more frames first.
    """
    counts = np.bincount(slots)
    if counts.max() == 1:
        return [np.arange(len(slots))]
    rows = np.lexsort((slots, -counts[slots]))
    begins = np.flatnonzero(np.diff(slots[rows], prepend=-1))
    lengths = counts[slots[rows[begins]]]
    return [rows[begins[lengths > turn] + turn] for turn in range(lengths[0])]


def _n_rows(n: int) -> int:
    """How many rows the network is given for 1 to ``_ROWS_MAX`` frames; those of no frame are zeros.

    Few numbers, since torch keeps up to 400 kB for each that it has seen, 38 MB in all before it forgets the
    first and makes them anew. And at least two rows: a single one takes another matrix kernel, whose rounding
    moves scores by up to 5e-6, where batches of 2 to 200 agreed within 1e-6.
    """
    return 2 if n <= 2 else 4 if n <= 4 else -(-n // _ROWS_STEP) * _ROWS_STEP


def _padded(rows: Float32Array) -> Float32Array:
    """``rows`` and as many rows of zeros as ``_n_rows`` asks for."""
    padded = np.zeros((_n_rows(len(rows)), *rows.shape[1:]), dtype=np.float32)
    padded[: len(rows)] = rows
    return padded


def _is_silent(frames: Float32Array) -> npt.NDArray[np.bool_]:
    """Which frames, float32 (B, 512), are zero throughout."""
    # One sample tells of nearly every frame with sound, for a fraction of the time.
    is_silent: npt.NDArray[np.bool_] = frames[:, 0] == 0.0
    if is_silent.any():
        is_silent[is_silent] = ~frames[is_silent].any(axis=1)
    return is_silent


def _read_checked(path: Path, sha256: str | None) -> bytes:
    try:
        program = path.read_bytes()
    except OSError as error:
        raise NetworkFileError(f"cannot read the VAD network {path}: {error.strerror}") from error
    found = hashlib.sha256(program).hexdigest()
    expected = KNOWN_NETWORKS if sha256 is None else (sha256.lower(),)
    if found not in expected:
        raise NetworkFileError(f"the VAD network {path} is not a known one: its SHA-256 is {found}")
    return program


def _load(program: bytes) -> Any:  # torch has no type for the attributes of a scripted module.
    """Load from the bytes that were checked: a path could name another file by now."""
    with warnings.catch_warnings():
        # The network is published as TorchScript only in a form whose loader torch deprecates.
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
        wrapper = torch.jit.load(  # type: ignore[no-untyped-call]  # torch gives it no types
            io.BytesIO(program), map_location="cpu"
        )
    return wrapper.eval()._model
