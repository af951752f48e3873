"""Whisper's own modules with two heads that exist only while it trains.

The encoder runs on windows of any length; Whisper's own forward insists on 30 s.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from whisper.model import ModelDimensions, MultiHeadAttention, ResidualAttentionBlock, Whisper, sinusoids

from .config import Shape
from .vocabulary import N_TIMESTAMPS, Vocabulary


class Trainee(nn.Module):
    """The network in training: ``whisper`` is what remains, over the rows of the vocabulary only."""

    shares: Tensor
    """float32 (rows,), added to the scores"""

    def __init__(self, shape: Shape, vocabulary: Vocabulary, n_phones: int) -> None:
        super().__init__()
        self.whisper = Whisper(dimensions(shape, len(vocabulary)))
        self.phone_head = nn.Linear(shape.width, n_phones)
        self.token_head = nn.Linear(shape.width, shape.width)
        shares = torch.zeros(len(vocabulary))
        shares[vocabulary.unknown] = math.log(vocabulary.n_unused)
        self.register_buffer("shares", shares, persistent=False)
        self._listen = _encoder_block
        self._initialise()

    def compile_encoder(self) -> None:
        """Fuse what lies between the encoder's products; needs a C++ compiler, saves a fifth of a step."""
        self._listen = torch.compile(_encoder_block, dynamic=True)

    def encode(self, mel: Tensor) -> Tensor:
        """Return features (B, T, width) of mel (B, 80, 2 T), T ≤ 1500."""
        encoder = self.whisper.encoder
        x = F.gelu(encoder.conv1(mel))
        x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = x + encoder.positional_embedding[: x.shape[1]]
        for block in encoder.blocks:
            x = self._listen(block, x)
        features: Tensor = encoder.ln_post(x)
        return features

    def decode(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (B, L, width) and where the last layer looked (B, heads, L, T)."""
        decoder = self.whisper.decoder
        x = decoder.token_embedding(tokens) + decoder.positional_embedding[: tokens.shape[1]]
        *blocks, last = decoder.blocks
        for block in blocks:
            x = block(x, features, mask=decoder.mask)
        x = x + last.attn(last.attn_ln(x), mask=decoder.mask)[0]
        seen, looked = attend(last.cross_attn, last.cross_attn_ln(x), features)
        x = x + seen
        x = x + last.mlp(last.mlp_ln(x))
        return decoder.ln(x), looked

    def logits(self, hidden: Tensor) -> Tensor:
        """Return scores (..., rows of the vocabulary).

        The unknown row counts as often as export will copy it, so the softmax is that of the full
        51,864 tokens, and training itself sees to it that the copies never win.
        """
        rows = self.whisper.decoder.token_embedding.weight.to(hidden.dtype)
        scores: Tensor = hidden @ rows.T + self.shares
        return scores

    def _initialise(self) -> None:
        """Give the embeddings sizes that suit shared input and output rows.

        Timestamps start as points on a smooth curve: neighbours in time are neighbours in space, so that
        the 1,501 of them need not be learned one by one.
        """
        decoder = self.whisper.decoder
        nn.init.normal_(decoder.token_embedding.weight, std=0.05)
        nn.init.normal_(decoder.positional_embedding, std=0.01)
        curve = sinusoids(N_TIMESTAMPS, decoder.token_embedding.weight.shape[1])
        with torch.no_grad():
            decoder.token_embedding.weight[-N_TIMESTAMPS:] = 0.07 * curve


def _encoder_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Do what Whisper's block does, by plain products, half of whose backward pass torch's own would take."""
    layer, normal = block.attn, block.attn_ln(x)
    q, k, v = (
        part.unflatten(-1, (layer.n_head, -1)).transpose(1, 2)
        for part in (layer.query(normal), layer.key(normal), layer.value(normal))
    )
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    with torch.autocast(x.device.type, enabled=False):  # it would keep the weights in twice the bytes
        weights = scores.softmax(dim=-1)
    x = x + layer.out((weights @ v).transpose(1, 2).flatten(start_dim=2))
    heard: Tensor = x + block.mlp(block.mlp_ln(x))
    return heard


def dimensions(shape: Shape, n_vocab: int) -> ModelDimensions:
    """Return Whisper's dimensions for a shape."""
    return ModelDimensions(
        n_mels=shape.n_mels,
        n_audio_ctx=shape.n_audio_ctx,
        n_audio_state=shape.width,
        n_audio_head=shape.heads,
        n_audio_layer=shape.encoder_layers,
        n_vocab=n_vocab,
        n_text_ctx=shape.n_text_ctx,
        n_text_state=shape.width,
        n_text_head=shape.heads,
        n_text_layer=shape.decoder_layers,
    )


def attend(layer: MultiHeadAttention, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Do what the layer does, and return the weights (B, heads, L, T) with their gradient too."""
    q, k, v = (
        part.unflatten(-1, (layer.n_head, -1)).transpose(1, 2)
        for part in (layer.query(x), layer.key(features), layer.value(features))
    )
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).float().softmax(dim=-1)
    seen = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(start_dim=2)
    return layer.out(seen), weights
