"""Matrix products on a CPU by oneDNN and FBGEMM, where they are faster than what torch chooses by itself.

torch gives products of float32 to MKL, which leaves AVX-512 unused on processors of other makers than its
own. oneDNN, which torch carries as well, uses it wherever it is. Measured 2026-11-21 on an AMD EPYC with
AVX-512, one thread: products of 64 rows and more took 0.4 to 0.6 times as long, those of fewer up to 3 times.
Sums are added up in float32 by both.

oneDNN compiles a kernel for each shape that it has not met before, in about 1 ms. So it is for shapes that
come again and again: those of windows, not those of prompts and drafts.

FBGEMM, which torch carries as well, reads a matrix of float16 and computes in float32. A text decoder spends
much of its time on reading the vocabulary, once for each token; published weights are float16, so reading
them as such changes nothing. Measured as above, 51,864 tokens of width 192: 0.5 instead of 1.7 ms for one
row, 0.7 instead of 4 ms for eight, 12 instead of 35 ms for 128.

Shapes: B rows, T audio positions, D model width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS_MIN = 64
"""Fewer rows are faster by MKL: oneDNN brings the weights into another order in each call."""
BLOCKED_POSITIONS_MIN = 500
"""Shorter windows are as fast by torch's own attention, which takes less memory."""
BLOCK_MAX = 384
"""Positions whose scores are computed at a time: over 30 s they are 2.3 MB, and stay in the cache."""


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """What ``layer`` makes of x (..., D)."""
    if not (x.numel() >= ROWS_MIN * x.shape[-1] and _takes(x)):
        out: Tensor = layer(x)
        return out
    return _product(x, layer.weight, layer.bias)


def attend(query: Tensor, key: Tensor, value: Tensor, n_head: int) -> Tensor:
    """Attention (B, T, D) of all positions to all, each tensor of this shape."""
    n_rows, n_positions, width = query.shape
    heads = (n_rows, n_positions, n_head, width // n_head)
    query, key, value = (tensor.view(heads).transpose(1, 2) for tensor in (query, key, value))
    if n_positions < BLOCKED_POSITIONS_MIN or not _takes(query):
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(start_dim=2)
    return _attend_in_blocks(query, key, value)


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same of (B, heads, T, D / heads) by products of oneDNN, which torch's own attention cannot use."""
    n_rows, n_head, n_positions, head_width = query.shape
    # oneDNN is slow beyond measure where rows of a matrix lie apart in memory.
    query = (query * head_width**-0.5).contiguous()
    key, value = key.contiguous(), value.transpose(2, 3).contiguous()
    mixed = query.new_empty(n_rows, n_positions, n_head, head_width)
    # Of one size as far as may be: each needs a kernel.
    block = math.ceil(n_positions / math.ceil(n_positions / BLOCK_MAX))
    for row in range(n_rows):
        for head in range(n_head):
            for start in range(0, n_positions, block):
                here = slice(start, start + block)
                scores = _product(query[row, head, here], key[row, head])
                mixed[row, here, head] = _product(scores.softmax(dim=-1), value[row, head])
    return mixed.flatten(start_dim=2)


class HalfMatrix:
    """A matrix (N, K) whose numbers are those of float16; products with it are computed in float32.

    A copy in an order of FBGEMM's own: 2 bytes a number.
    """

    def __init__(self, weight: Tensor) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, None)

    @classmethod
    def of(cls, weight: Tensor) -> "HalfMatrix | None":
        """The matrix of these numbers; None if float16 cannot hold them, or nothing here reads it."""
        if weight.dtype != torch.float32 or weight.device.type != "cpu" or not _HAS_FBGEMM:
            return None
        return cls(weight) if weight.half().float().equal(weight) else None

    def product(self, x: Tensor) -> Tensor:
        """float32 (M, N) of x float32 (M, K), as ``x @ weight.T``."""
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return out


def _takes(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and _HAS_ONEDNN


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (..., K) times the transposed weight (N, K), both dense."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _has_onednn() -> bool:
    # The operator is what torch's compiler calls; a torch without it computes the same more slowly.
    is_there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch does not say
    return is_there and hasattr(torch.ops.mkldnn, "_linear_pointwise")


_HAS_ONEDNN = _has_onednn()
_HAS_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines
