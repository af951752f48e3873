"""Whether models fit into memory, asked before they are read.

A machine that runs out of memory while it loads is not told so by an exception: the system kills a process,
and not always this one. So the weights are added up from the manifests, and what one batch needs beside them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from whisper.model import ModelDimensions

from stream_server.core.messages import Tier
from stream_server.engine.manifest import (
    SEALED_NAME,
    WEIGHTS_NAME,
    Dimensions,
    Manifest,
    is_sealed,
    read_manifest,
)
from stream_server.engine.model import bare_whisper, choose_device
from stream_server.engine.spec import EngineSpec
from stream_server.errors import ModelError

FLOAT32_BYTES = 4
FLOAT16_BYTES = 2
FITTED_POSITIONS = 400
"""Of the encoder's output for 8 s, more than a segment and its tail: what a batch of a fitted model needs."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes, bytes."""

    weights: int
    """As float32, wherever they are computed with; on a CPU with a smaller copy of the vocabulary."""
    reading: int
    """More than that while it is loaded, for its file: see ``engine.weights``."""
    decoding: int
    """Keys and values of one batch; only one model decodes at a time."""


def check_room(folders: Mapping[Tier, Path], spec: EngineSpec) -> None:
    """Check that the models of all tiers fit into memory together.

    Args:
        folders: Of each tier.
        spec: How they are loaded. On CUDA only one window of a batch is counted: there a batch that does not
            fit is decoded in halves, while a host kills processes.

    Raises:
        ModelError: They do not fit; names each tier and what it takes, and says what to do. Or a manifest
            cannot be read.
    """
    is_cuda = choose_device(spec.device).type == "cuda"
    manifests = {tier: read_manifest(folder, spec.access.trust) for tier, folder in folders.items()}
    needs = {
        tier: need_of(folders[tier], manifest, is_cuda=is_cuda, n_rows=1 if is_cuda else spec.batch_max)
        for tier, manifest in manifests.items()
    }
    wanted = bytes_wanted(needs.values(), is_cuda=is_cuda)
    available = int(torch.cuda.mem_get_info()[0]) if is_cuda else host_bytes_available()
    if wanted <= available:
        return
    models = ", ".join(
        f"{tier} = {manifests[tier].id} {need.weights / GB:.1f} GB" for tier, need in needs.items()
    )
    where = "on the GPU" if is_cuda else "here"
    where += " beside the models in use, which stay until the last session on them has ended" * spec.is_beside
    raise ModelError(
        f"the models do not fit into memory: {wanted / GB:.1f} GB are needed ({models}, and what a batch "
        f"takes), and {available / GB:.1f} GB are free {where}; "
        + ("restart the server to load them in their place, " if spec.is_beside else "")
        + ("leave a tier out of [engine.tiers], " if len(needs) > 1 else "")
        + ("take a smaller model" if is_cuda else "take a smaller model, lower engine.batch")
        + ", or give the server more memory"
    )


def need_of(folder: Path, manifest: Manifest, *, is_cuda: bool, n_rows: int) -> Need:
    """What the model of a folder takes."""
    file = folder / (SEALED_NAME if is_sealed(folder) else WEIGHTS_NAME)
    n_file = file.stat().st_size if file.exists() else 0
    dims = manifest.dims
    weights = weight_bytes(dims)
    if not is_cuda:
        # The vocabulary once more, see ``products.HalfMatrix``.
        weights += FLOAT16_BYTES * dims.n_vocab * dims.n_text_state
    # The file's pages go back as its tensors are converted; the largest one lies there twice.
    reading = max(0, n_file - weights) + FLOAT32_BYTES * dims.n_vocab * dims.n_text_state
    n_positions = FITTED_POSITIONS if manifest.audio_context == "fit" else dims.n_audio_ctx
    n_values = 2 * dims.n_text_layer * dims.n_text_state * (n_positions + dims.n_text_ctx)
    return Need(weights, reading, n_rows * n_values * (FLOAT16_BYTES if is_cuda else FLOAT32_BYTES))


def bytes_wanted(needs: Iterable[Need], *, is_cuda: bool) -> int:
    """All weights, and the larger of loading one more and decoding; a GPU is not loaded from a file."""
    needs = list(needs)
    peak = max(need.decoding if is_cuda else max(need.reading, need.decoding) for need in needs)
    return sum(need.weights for need in needs) + peak


def weight_bytes(dims: Dimensions) -> int:
    """Memory of a model's weights as they are computed with, float32."""
    model = bare_whisper(ModelDimensions(**msgspec.structs.asdict(dims)))
    n_numbers: int = sum(tensor.numel() for tensor in model.state_dict().values())
    return FLOAT32_BYTES * n_numbers


def host_bytes_available(
    meminfo: Path = Path("/proc/meminfo"),
    membership: Path = Path("/proc/self/cgroup"),
    cgroups: Path = Path("/sys/fs/cgroup"),
) -> int:
    """Memory that this process can still have: what the machine has, or its control groups allow.

    A group's file cache counts as free, for it is given up first. A file that is not there limits nothing.
    """
    free = [_kib(meminfo.read_text(), "MemAvailable:")]
    own = next((line[3:] for line in _lines(membership) if line.startswith("0::")), "/")
    group = cgroups / own.strip().lstrip("/")
    while group == cgroups or cgroups in group.parents:
        free += _group_room(group)
        group = group.parent
    return min(free)


def _group_room(group: Path) -> list[int]:
    limit = "".join(_lines(group / "memory.max")).strip()
    if not limit.isdigit():
        return []  # "max", or the root's, which has none.
    used = int("".join(_lines(group / "memory.current")) or 0)
    cached = sum(
        int(line.split()[1])
        for line in _lines(group / "memory.stat")
        if line.startswith(("active_file ", "inactive_file "))
    )
    return [max(0, int(limit) - used + cached)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _kib(text: str, key: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key))
