"""What is different on a CUDA device: recorded steps, copies that nobody waits for, smaller weights.

Everything that only runs there stands in this module; on a CPU each of its parts is the plain call, so that
the code around it is the same, and tested. Not yet run on a device: see ``docs/gpu.md``.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from whisper.model import Whisper

_WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels and allocate (as torch's manual asks)."""
LAG_STEPS = 4
"""The host looks at the flags of so many steps ago: as many stay in the device's queue, which never runs dry,
and at most so many are computed for nothing."""


def is_accelerator(device: torch.device) -> bool:
    """Whether work on the device goes on while the host does something else."""
    return device.type == "cuda"


class Recording:
    """A step over tensors that stay where they are: recorded once, then replayed by one call.

    On a CUDA device a step of the text decoder is some hundred kernels that take less time to run than to
    launch; as a CUDA graph they are launched together. Elsewhere the step is called.

    Args:
        step: Reads and writes tensors that live as long as the recording; allocates nothing that it returns.
        state: What the step advances; it is afterwards as it was before.
        device: Where all of it lies.
    """

    def __init__(self, step: Callable[[], None], state: Sequence[Tensor], device: torch.device) -> None:
        self._step = step
        self._graph = _record(step, state) if is_accelerator(device) else None

    def __call__(self) -> None:
        """Take one step; on a CUDA device it is only queued."""
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()


def _record(step: Callable[[], None], state: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
    saved = [tensor.clone() for tensor in state]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch does not say
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    for tensor, before in zip(state, saved, strict=True):
        tensor.copy_(before)
    graph = torch.cuda.CUDAGraph()
    # Nothing is computed while it is recorded.
    with torch.cuda.graph(graph):
        step()
    return graph


class LateFlags:
    """Flags on the device, read by the host without the device waiting for it.

    Args:
        n_flags: How many.
        device: Where they lie.
    """

    def __init__(self, n_flags: int, device: torch.device) -> None:
        self._is_late = is_accelerator(device)
        n_copies = LAG_STEPS + 1 if self._is_late else 0
        self._free = [
            (torch.empty(n_flags, dtype=torch.bool, pin_memory=True), torch.cuda.Event())  # type: ignore[no-untyped-call]  # torch does not say
            for _ in range(n_copies)
        ]
        self._under_way: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def after_step(self, flags: Tensor) -> list[bool] | None:
        """Take note of bool (B,) after a step; returns what was noted ``LAG_STEPS`` ago, if it was."""
        if not self._is_late:
            noted: list[bool] = flags.tolist()
            return noted
        copy, event = self._free.pop()
        copy.copy_(flags, non_blocking=True)
        event.record()
        self._under_way.append((copy, event))
        if len(self._under_way) <= LAG_STEPS:
            return None
        copy, event = self._under_way.popleft()
        event.synchronize()
        noted = copy.tolist()
        self._free.append((copy, event))
        return noted


def upload(windows: Sequence[bytes], n_samples: int, device: torch.device) -> Tensor:
    """Samples to the device in one copy, during which the host goes on.

    Args:
        windows: int16 little-endian; what is longer than ``n_samples`` is cut.
        n_samples: Each is padded to, with zeros.
        device: Where they are to lie.

    Returns:
        float32 (B, n_samples), the int16 values divided by 32,768.
    """
    is_pinned = is_accelerator(device)
    samples = torch.zeros((len(windows), n_samples), dtype=torch.int16, pin_memory=is_pinned)
    for row, window in zip(samples.numpy(), windows, strict=True):
        given = np.frombuffer(window, dtype="<i2")[:n_samples]
        row[: len(given)] = given
    return samples.to(device, non_blocking=is_pinned).float() / 32768


def lower_precision(model: Whisper, dtype: torch.dtype) -> None:
    """Keep the weights of products in ``dtype``, in place; results are those of float32 weights.

    whisper casts these weights to its input's type in each call. Layer normalisation computes in float32
    whatever the input, and the embedding of tokens is added to their positions in float32: they stay.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            module.to(dtype)
