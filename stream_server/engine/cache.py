"""The keys and values of one batch: preallocated for the tokens, computed once for the audio.

Rows may hold different numbers of tokens. A pass writes each row's new keys behind those it has; what a
row holds beyond its own length is left from guesses that were wrong, is never attended to, and is
overwritten. In beam search, several rows in succession belong to one window: each has keys and values of its
own for its tokens, and they share those of the audio. Windows shorter than the longest are filled up, and
what fills them up is never attended to either. Shapes: B rows, W windows (as many, without beam search), T
audio positions, C capacity in tokens, L tokens of a pass, D model width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import MultiHeadAttention, ResidualAttentionBlock, TextDecoder

from stream_server.engine.products import linear


@dataclass(frozen=True, slots=True)
class Span:
    """Where the tokens of one pass stand in their rows."""

    positions: Tensor
    """int64 (L,) if all rows are equally long, else (B, L); padding may lie at the last position of all."""
    slots: Tensor
    """The same shape: where their keys and values are kept; their positions, but for branches."""
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
        positions = start + steps
        return Span(positions, positions, None, end, mask, is_causal=start == 0 and n_tokens > 1)
    positions = torch.tensor(starts, device=device)[:, None] + steps
    # The padding of a short row beside a long one may reach beyond the end: it meets at the last place,
    # which no row ever uses.
    positions.clamp_(max=capacity - 1)
    end = min(max(starts) + n_tokens, capacity)
    mask = (torch.arange(end, device=device) <= positions[:, :, None])[:, None]
    rows = torch.arange(len(starts), device=device)[:, None]
    return Span(positions, positions, rows, end, mask, is_causal=False)


def branched_span(
    starts: Sequence[int], stems: Sequence[Sequence[int]], capacity: int, device: torch.device
) -> Span:
    """The span of tokens of which some stand beside others.

    Args:
        starts: Where each row's tokens begin.
        stems: For each token of each row, the place among them of the one it follows, -1 for what is cached.
            It attends to all up to that one, which must follow each other, and to itself.
        capacity: Of the cache, a slot more than any row uses.
        device: Where the cache is.
    """
    n_tokens = max(map(len, stems))
    filled = [[*row, *range(len(row) - 1, n_tokens - 1)] for row in stems]
    start = torch.tensor(starts, device=device)[:, None]
    last_seen = start + torch.tensor(filled, device=device)
    slots = (start + torch.arange(n_tokens, device=device)).clamp_(max=capacity - 1)
    end = min(max(starts) + n_tokens, capacity)
    keys = torch.arange(end, device=device)
    mask = ((keys <= last_seen[:, :, None]) | (keys == slots[:, :, None]))[:, None]
    rows = torch.arange(len(starts), device=device)[:, None]
    return Span(last_seen + 1, slots, rows, end, mask, is_causal=False)


def step_span(positions: Tensor, capacity: int) -> Span:
    """The span of one token of each row, at positions int64 (B,), over the whole cache."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    mask = (torch.arange(capacity, device=positions.device) <= positions[:, None])[:, None, None]
    return Span(positions[:, None], positions[:, None], rows, capacity, mask, is_causal=False)


class LayerCache:
    """Keys and values of one decoder layer."""

    def __init__(self, cross_key: Tensor, cross_value: Tensor, capacity: int, n_beams: int = 1) -> None:
        self._cross_key = cross_key
        self._cross_value = cross_value
        n_windows, _, width = cross_key.shape
        # Zeros, for a masked value still counts times nought, and nought times a NaN is one.
        self._key = cross_key.new_zeros(n_windows * n_beams, capacity, width)
        self._value = cross_key.new_zeros(n_windows * n_beams, capacity, width)
        self._rows_per_window = 1

    def fill(self, cross_key: Tensor, cross_value: Tensor) -> None:
        """Take other audio (W, T, D) for the first windows, and forget all tokens, in place."""
        self._cross_key[: len(cross_key)] = cross_key
        self._cross_value[: len(cross_value)] = cross_value
        for tensor in (self._key, self._value):
            tensor.zero_()

    def attend(self, attention: MultiHeadAttention, x: Tensor, span: Span) -> Tensor:
        """Self-attention (B, L, D) of the new tokens over all, theirs stored first."""
        n_rows = len(x)
        rows = slice(0, n_rows) if span.rows is None else span.rows
        slots = slice(span.end - x.shape[1], span.end) if span.rows is None else span.slots
        self._key[rows, slots] = attention.key(x)
        self._value[rows, slots] = attention.value(x)
        key, value = self._key[:n_rows, : span.end], self._value[:n_rows, : span.end]
        return _attend(attention, x, key, value, span.mask, is_causal=span.is_causal)

    def attend_audio(self, attention: MultiHeadAttention, x: Tensor, mask: Tensor | None) -> Tensor:
        """Cross-attention (B, L, D), given ``BatchCache.audio_mask``."""
        n_windows = len(x) // self._rows_per_window
        # The tokens of a window's rows look at the same audio, in any order: as if they were one row's.
        by_window = x.view(n_windows, -1, x.shape[2])
        key, value = self._cross_key[:n_windows], self._cross_value[:n_windows]
        mixed = _attend(attention, by_window, key, value, None if mask is None else mask[:n_windows])
        return mixed.view(x.shape)

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

    def move_audio(self, source: int, target: int) -> None:
        """Put a window's audio in the place of another's."""
        for tensor in (self._cross_key, self._cross_value):
            tensor[target] = tensor[source]

    def gather(self, sources: Tensor, n_tokens: int, rows_per_window: int) -> None:
        """Let each row go on from the first tokens of another, int64 (B,), in place."""
        for tensor in (self._key, self._value):
            tensor[: len(sources), :n_tokens] = tensor[sources, :n_tokens]
        self._rows_per_window = rows_per_window

    def select(self, rows: Tensor, capacity: int) -> "LayerCache":
        """A cache over the audio of some rows, int64 (n,), without tokens."""
        return LayerCache(self._cross_key[rows], self._cross_value[rows], capacity)


class BatchCache:
    """Keys and values of all decoder layers; the first rows of it are those under way.

    Args:
        layers: Of the decoder.
        capacity: Tokens of a row.
        audio_mask: bool (W, 1, 1, T), see ``own_positions``; None: all positions are the windows' own.
    """

    def __init__(self, layers: list[LayerCache], capacity: int, audio_mask: Tensor | None) -> None:
        self.layers = layers
        self.capacity = capacity
        self.audio_mask = audio_mask

    @classmethod
    def over(
        cls,
        decoder: TextDecoder,
        features: Tensor,
        capacity: int,
        n_beams: int = 1,
        audio_mask: Tensor | None = None,
    ) -> "BatchCache":
        """A cache over audio features (W, T, D).

        Args:
            decoder: Computes the keys and values.
            features: Of the windows.
            capacity: Tokens of a row.
            n_beams: Rows of a window that ``gather`` may ask for; before, each window is one row.
            audio_mask: See ``BatchCache``.
        """
        layers = [LayerCache(*_audio_of(block, features), capacity, n_beams) for block in decoder.blocks]
        return cls(layers, capacity, audio_mask)

    def fill(self, decoder: TextDecoder, features: Tensor, audio_mask: Tensor | None) -> None:
        """Take other features (W, T, D) for the first windows, and forget all tokens, in place.

        There must be a mask if the cache was made with one, and none otherwise.
        """
        for block, layer in zip(decoder.blocks, self.layers, strict=True):
            layer.fill(*_audio_of(block, features))
        assert (self.audio_mask is None) == (audio_mask is None)
        if self.audio_mask is not None and audio_mask is not None:
            self.audio_mask[: len(audio_mask)] = audio_mask

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
        mask = None if self.audio_mask is None else self.audio_mask[index]
        return BatchCache([layer.select(index, capacity) for layer in self.layers], capacity, mask)

    def move(self, source: int, target: int) -> None:
        """Put a row in the place of another: so a batch closes up for the price of one row."""
        for layer in self.layers:
            layer.move(source, target)
        self._move_mask(source, target)

    def move_audio(self, source: int, target: int) -> None:
        """Put a window's audio in the place of another's; its rows follow by ``gather``."""
        for layer in self.layers:
            layer.move_audio(source, target)
        self._move_mask(source, target)

    def _move_mask(self, source: int, target: int) -> None:
        if self.audio_mask is not None:
            self.audio_mask[target] = self.audio_mask[source]

    def gather(self, sources: Sequence[int], n_tokens: int, n_beams: int) -> None:
        """Let each row go on from another.

        Args:
            sources: For each row to come, the one whose keys and values it takes over.
            n_tokens: Tokens of each row, at most.
            n_beams: Rows of a window from here on.
        """
        index = torch.tensor(sources, device=self.device)
        for layer in self.layers:
            layer.gather(index, n_tokens, n_beams)


def own_positions(lengths: Sequence[int] | None, n_positions: int, device: torch.device) -> Tensor | None:
    """Which positions are of each window and do not fill it up, bool (W, 1, 1, T); None if none does.

    Args:
        lengths: Of the windows, in positions; None: all are as long as ``n_positions``.
        n_positions: T.
        device: Where the windows are.
    """
    if lengths is None or all(length == n_positions for length in lengths):
        return None
    own = torch.arange(n_positions) < torch.tensor(lengths)[:, None]
    return own.to(device)[:, None, None]


def _audio_of(block: ResidualAttentionBlock, features: Tensor) -> tuple[Tensor, Tensor]:
    """The keys and values (W, T, D) of a decoder layer for audio features of that shape."""
    return linear(block.cross_attn.key, features), linear(block.cross_attn.value, features)


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
