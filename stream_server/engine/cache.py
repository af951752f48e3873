"""The keys and values of one batch: preallocated for the tokens, computed once for the audio.

Rows may hold different numbers of tokens. A pass writes each row's new keys behind those it has; what a
row holds beyond its own length is left from guesses that were wrong, is never attended to, and is
overwritten. Shapes: B rows, T audio positions, C capacity in tokens, L tokens of a pass, D model width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import MultiHeadAttention, TextDecoder


@dataclass(frozen=True, slots=True)
class Span:
    """Where the tokens of one pass stand in their rows."""

    positions: Tensor
    """int64 (L,) if all rows are equally long, else (B, L); padding may lie at the last position of all."""
    rows: Tensor | None
    """int64 (B, 1) if ``positions`` differ from row to row."""
    end: int
    """Keys before this are attended to."""
    mask: Tensor | None
    """bool (B, 1, L, end): what each token may attend to; None: all, or what stands before it."""
    is_causal: bool


def make_span(starts: Sequence[int], n_tokens: int, capacity: int, device: torch.device) -> Span:
    """The span of ``n_tokens`` tokens of each row, that begin at ``starts``."""
    start = starts[0]
    steps = torch.arange(n_tokens, device=device)
    if all(other == start for other in starts):
        end = start + n_tokens
        mask = None
        if start > 0 and n_tokens > 1:
            mask = torch.arange(end, device=device) <= (start + steps)[:, None]
        return Span(start + steps, None, end, mask, is_causal=start == 0 and n_tokens > 1)
    positions = torch.tensor(starts, device=device)[:, None] + steps
    # The padding of a short row beside a long one may reach beyond the end: it meets at the last place,
    # which no row ever uses.
    positions.clamp_(max=capacity - 1)
    end = min(max(starts) + n_tokens, capacity)
    mask = (torch.arange(end, device=device) <= positions[:, :, None])[:, None]
    return Span(positions, torch.arange(len(starts), device=device)[:, None], end, mask, is_causal=False)


class LayerCache:
    """Keys and values of one decoder layer."""

    def __init__(self, cross_key: Tensor, cross_value: Tensor, capacity: int) -> None:
        self._cross_key = cross_key
        self._cross_value = cross_value
        n_rows, _, width = cross_key.shape
        # Zeros, for a masked value still counts times nought, and nought times a NaN is one.
        self._key = cross_key.new_zeros(n_rows, capacity, width)
        self._value = cross_key.new_zeros(n_rows, capacity, width)

    def attend(self, attention: MultiHeadAttention, x: Tensor, span: Span) -> Tensor:
        """Self-attention (B, L, D) of the new tokens over all, theirs stored first."""
        n_rows = len(x)
        rows = slice(0, n_rows) if span.rows is None else span.rows
        positions = slice(span.end - x.shape[1], span.end) if span.rows is None else span.positions
        self._key[rows, positions] = attention.key(x)
        self._value[rows, positions] = attention.value(x)
        key, value = self._key[:n_rows, : span.end], self._value[:n_rows, : span.end]
        return _attend(attention, x, key, value, span.mask, is_causal=span.is_causal)

    def attend_audio(self, attention: MultiHeadAttention, x: Tensor) -> Tensor:
        """Cross-attention (B, L, D)."""
        n_rows = len(x)
        return _attend(attention, x, self._cross_key[:n_rows], self._cross_value[:n_rows])

    def audio_scores(self, attention: MultiHeadAttention, x: Tensor, heads: Sequence[int]) -> Tensor:
        """What some heads look at in the audio, before the softmax: float32 (B, heads, L, T)."""
        query = _split_heads(attention.query(x), attention.n_head)[:, heads]
        key = _split_heads(self._cross_key[: len(x)], attention.n_head)[:, heads]
        scale: float = query.shape[-1] ** -0.5
        return (query @ key.transpose(-1, -2)).float() * scale

    @property
    def audio(self) -> Tensor:
        """The audio's keys (B, T, D)."""
        return self._cross_key

    def move(self, source: int, target: int) -> None:
        """Put a row in the place of another."""
        for tensor in (self._key, self._value, self._cross_key, self._cross_value):
            tensor[target] = tensor[source]

    def select(self, rows: Tensor, capacity: int) -> "LayerCache":
        """A cache over the audio of some rows, int64 (n,), without tokens."""
        return LayerCache(self._cross_key[rows], self._cross_value[rows], capacity)


class BatchCache:
    """Keys and values of all decoder layers; the first rows of it are those under way."""

    def __init__(self, layers: list[LayerCache], capacity: int) -> None:
        self.layers = layers
        self.capacity = capacity

    @classmethod
    def over(cls, decoder: TextDecoder, features: Tensor, capacity: int) -> "BatchCache":
        """A cache over audio features (B, T, D), with room for ``capacity`` tokens a row."""
        layers = [
            LayerCache(block.cross_attn.key(features), block.cross_attn.value(features), capacity)
            for block in decoder.blocks
        ]
        return cls(layers, capacity)

    @property
    def device(self) -> torch.device:
        """Where the cache is."""
        return self.layers[0].audio.device

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder computes in."""
        return self.layers[0].audio.dtype

    def select(self, rows: Sequence[int], capacity: int) -> "BatchCache":
        """A cache over the audio of some rows, without tokens."""
        index = torch.tensor(rows, device=self.device)
        return BatchCache([layer.select(index, capacity) for layer in self.layers], capacity)

    def move(self, source: int, target: int) -> None:
        """Put a row in the place of another: so a batch closes up for the price of one row."""
        for layer in self.layers:
            layer.move(source, target)


def _attend(
    attention: MultiHeadAttention,
    x: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
) -> Tensor:
    query, key, value = (
        _split_heads(tensor, attention.n_head) for tensor in (attention.query(x), key, value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
    out: Tensor = attention.out(mixed.permute(0, 2, 1, 3).flatten(start_dim=2))
    return out


def _split_heads(x: Tensor, n_head: int) -> Tensor:
    """(B, L, D) → (B, heads, L, D / heads)."""
    return x.view(*x.shape[:2], n_head, -1).permute(0, 2, 1, 3)
