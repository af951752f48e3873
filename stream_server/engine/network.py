"""One pass of whisper's modules over a batch: mel to features, tokens to hidden states, states to logits.

The mathematics of each module is whisper's own. What is fed to which row, and what becomes of the logits,
is decided in ``engine.decoder``.

Shapes: B rows, T audio positions (20 ms each), L tokens of a pass, D model width, N places to be predicted.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import ResidualAttentionBlock, Whisper

from stream_server.engine.accelerator import is_accelerator
from stream_server.engine.cache import BatchCache, Span, branched_span, make_span, step_span
from stream_server.engine.products import HalfMatrix, attend, linear

PLACES_MAX = 128
"""Places that callers project on the vocabulary at a time: their logits are 27 MB."""
_NARROW_PLACES_MAX = 6
"""Up to so many, another layout of the product is faster on a CPU, see ``Network.logits``."""
_POSITIONS_AT_ONCE = 3_000
"""Audio positions that a CPU encodes at a time: what a layer computes then stays in the processor's cache."""


class Network:
    """The modules of one model; used by one thread at a time.

    Args:
        model: Its weights are not changed.
        filler: The token that fills up short rows of a pass; what it becomes is never looked at.
    """

    def __init__(self, model: Whisper, filler: int) -> None:
        self._model = model
        self._filler = filler
        self._alignment_heads: dict[int, list[int]] = {}
        """By layer."""
        for layer, head in model.alignment_heads.indices().T.tolist():
            self._alignment_heads.setdefault(layer, []).append(head)
        self._converted: Tensor | None = None
        self._half_vocabulary = HalfMatrix.of(model.decoder.token_embedding.weight)

    def encode(self, mel: Tensor) -> Tensor:
        """Audio features (B, T, D) of mel (B, n_mels, 2T), T at most the model's context.

        whisper's encoder insists on 30 s; this is the same with the positions cut to T.
        """
        if is_accelerator(mel.device):
            return self._encode(mel)
        n_at_once = max(1, 2 * _POSITIONS_AT_ONCE // mel.shape[2])
        return torch.cat([self._encode(part) for part in torch.split(mel, n_at_once)])

    def _encode(self, mel: Tensor) -> Tensor:
        encoder = self._model.encoder
        x = F.gelu(encoder.conv1(mel))
        x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
        for block in encoder.blocks:
            x = _encode_further(block, x)
        features: Tensor = encoder.ln_post(x)
        return features

    def cache(
        self, features: Tensor, capacity: int, n_beams: int = 1, audio_mask: Tensor | None = None
    ) -> BatchCache:
        """An empty cache over features (B, T, D), see ``BatchCache.over``."""
        return BatchCache.over(self._model.decoder, features, capacity, n_beams, audio_mask)

    def refill(self, cache: BatchCache, features: Tensor, audio_mask: Tensor | None) -> None:
        """Empty a cache and give it other features (B, T, D), at most as many as it has rows."""
        cache.fill(self._model.decoder, features, audio_mask)

    def hidden(
        self,
        feeds: Sequence[Sequence[int]],
        starts: Sequence[int],
        cache: BatchCache,
        scores: list[Tensor] | None = None,
        stems: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Hidden states (B, L, D) of the tokens fed to each row, short rows filled up at their ends.

        Args:
            feeds: Tokens by row, in the cache's order.
            starts: How many tokens each row has in the cache already.
            cache: Takes the keys and values.
            scores: If given, what the alignment heads look at is added to it, layer by layer.
            stems: For each token, the place in its feed of the one it follows, see ``branched_span``; None:
                each follows the one before it.
        """
        n_tokens = max(map(len, feeds))
        padded = [[*feed, *[self._filler] * (n_tokens - len(feed))] for feed in feeds]
        if stems is None:
            span = make_span(starts, n_tokens, cache.capacity, cache.device)
        else:
            span = branched_span(starts, stems, cache.capacity, cache.device)
        return self._pass(torch.tensor(padded, device=cache.device), span, cache, scores)

    def step(self, tokens: Tensor, positions: Tensor, cache: BatchCache) -> Tensor:
        """Hidden states (B, D) of one token of each row, without asking the host for anything.

        Args:
            tokens: int64 (B,).
            positions: int64 (B,): where they stand in their rows.
            cache: Takes the keys and values; its first B rows.
        """
        return self._pass(tokens[:, None], step_span(positions, cache.capacity), cache)[:, 0]

    def _pass(
        self, tokens: Tensor, span: Span, cache: BatchCache, scores: list[Tensor] | None = None
    ) -> Tensor:
        """Hidden states (B, L, D) of tokens int64 (B, L)."""
        decoder = self._model.decoder
        positions = decoder.positional_embedding[span.positions.clamp(max=self._model.dims.n_text_ctx - 1)]
        x = (decoder.token_embedding(tokens) + positions).to(cache.dtype)
        for i, (block, layer) in enumerate(zip(decoder.blocks, cache.layers, strict=True)):
            x = x + layer.attend(block.attn, block.attn_ln(x), span)
            normed = block.cross_attn_ln(x)
            if scores is not None and i in self._alignment_heads:
                scores.append(layer.audio_scores(block.cross_attn, normed, self._alignment_heads[i]))
            x = x + layer.attend_audio(block.cross_attn, normed, cache.audio_mask)
            x = x + block.mlp(block.mlp_ln(x))
        hidden: Tensor = decoder.ln(x)
        return hidden

    def logits(self, x: Tensor) -> Tensor:
        """float32 (N, n_vocab) of hidden states (N, D)."""
        if self._half_vocabulary is not None and x.dtype == torch.float32:
            return self._half_vocabulary.product(x)
        vocabulary = self._vocabulary(x.dtype)
        if x.device.type != "cpu" or len(x) > _NARROW_PLACES_MAX:
            return F.linear(x, vocabulary).float()
        # Reading the vocabulary is what takes time here. A product of a matrix with a few columns
        # reads it at the memory's speed, one with a single column, or the transposed one, at half of it.
        wide = x if len(x) > 1 else x.repeat(2, 1)
        return (vocabulary @ wide.T).T[: len(x)].contiguous()

    def logits_of(self, x: Tensor, tokens: Sequence[int]) -> Tensor:
        """float32 (N, len(tokens)): the logits of some tokens only."""
        chosen = torch.tensor(tokens, device=x.device)
        return F.linear(x, self._vocabulary(x.dtype)[chosen]).float()

    def _vocabulary(self, dtype: torch.dtype) -> Tensor:
        """The token embedding (n_vocab, D) in the type that the decoder computes in."""
        weight: Tensor = self._model.decoder.token_embedding.weight
        if weight.dtype == dtype:
            return weight
        if self._converted is None or self._converted.dtype != dtype:
            self._converted = weight.to(dtype)
        return self._converted


def _encode_further(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """What a layer of the encoder makes of (B, T, D)."""
    attention, (widen, _, narrow) = block.attn, block.mlp
    normed = block.attn_ln(x)
    query, key, value = (linear(layer, normed) for layer in (attention.query, attention.key, attention.value))
    x = x + linear(attention.out, attend(query, key, value, attention.n_head))
    return x + linear(narrow, F.gelu(linear(widen, block.mlp_ln(x))))
