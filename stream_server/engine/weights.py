"""From a safetensors file in memory to float32 tensors, each of which takes the place of its source.

The library's ``load`` copies all tensors before it returns, and ``load_file`` parses what nobody has checked.
Here the file's pages go back as its tensors are converted: loading takes as much memory as the larger of file
and tensors, and one tensor more. The format: a length (u64, little-endian), then JSON with type, shape and
place of each tensor, then their numbers without gaps.
"""

import math
import struct
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from stream_server.engine.pages import Pages
from stream_server.errors import ModelError

HEADER_BYTES_MAX = 8 << 20
"""A hundred times what the largest Whisper needs."""
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class _Entry(msgspec.Struct, frozen=True):
    """One tensor of the header."""

    dtype: str
    shape: list[Annotated[int, msgspec.Meta(gt=0)]]
    data_offsets: tuple[int, int]
    """First byte and the one after the last, counted from the end of the header."""


def take_weights(path: Path, content: Pages, device: torch.device) -> dict[str, Tensor]:
    """Make float32 tensors of a file, whose memory is given back meanwhile.

    Args:
        path: For messages.
        content: The file, checked; nothing is left of it afterwards.
        device: Where the tensors are to lie.

    Raises:
        ModelError: It is no safetensors file, or holds what no weight is: integers, or numbers that are not
            finite.
    """
    start, entries = _read_header(path, content.view)
    weights = {}
    for name, entry in entries:
        weights[name] = _float32(entry, content.view, start, device)
        content.release(start + entry.data_offsets[1])
        # The extremes of a tensor with a NaN are NaN; unlike isfinite() they need no memory of its size.
        if not torch.stack(weights[name].aminmax()).isfinite().all():
            raise ModelError(
                f"{path}: {name} holds numbers that are not finite; take the model from its source"
            )
    return weights


def _float32(entry: _Entry, content: memoryview, start: int, device: torch.device) -> Tensor:
    n_numbers, offset = math.prod(entry.shape), start + entry.data_offsets[0]
    source = torch.frombuffer(content, dtype=_DTYPES[entry.dtype], count=n_numbers, offset=offset)
    return source.to(device, torch.float32, copy=True).reshape(entry.shape)


def _read_header(path: Path, content: memoryview) -> tuple[int, list[tuple[str, _Entry]]]:
    """Where the numbers start, and the tensors in the order in which they lie there."""
    try:
        (n_header,) = _LENGTH.unpack_from(content)
        if n_header > HEADER_BYTES_MAX:
            raise ValueError(f"its header is longer than {HEADER_BYTES_MAX >> 20} MiB")
        start = _LENGTH.size + n_header
        header = msgspec.json.decode(content[_LENGTH.size : start], type=dict[str, msgspec.Raw])
        header.pop(_METADATA, None)
        entries = [(name, msgspec.json.decode(raw, type=_Entry)) for name, raw in header.items()]
        entries.sort(key=lambda item: item[1].data_offsets)
        _check_places(entries, len(content) - start)
    except (struct.error, ValueError, RecursionError) as exc:
        # msgspec's errors and those of UTF-8 are ValueErrors.
        raise ModelError(f"{path} is not a safetensors file of weights: {exc}") from exc
    return start, entries


def _check_places(entries: list[tuple[str, _Entry]], n_bytes: int) -> None:
    """Check that tensors fill the file's rest without gap or overlap, and have the sizes of their shapes."""
    end = 0
    for name, entry in entries:
        begin, next_end = entry.data_offsets
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise ValueError(f"{name} is {entry.dtype}, not one of {', '.join(_DTYPES)}")
        if begin != end or next_end - begin != math.prod(entry.shape) * dtype.itemsize:
            raise ValueError(f"{name} does not lie where its shape and its neighbours say")
        end = next_end
    if end != n_bytes:
        raise ValueError(f"it has {n_bytes} bytes of numbers where its header says {end}")
