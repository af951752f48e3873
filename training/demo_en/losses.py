"""What training minimises: the text, and three side losses that the synthesisers' timings make possible."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .batches import Batch
from .config import Stage
from .features import log_mel
from .model import Trainee
from .targets import IGNORE

GUIDED_HEADS = 2
"""Of the last decoder layer; the others look where they like. The manifest names them as alignment heads."""
_SLACK_FRAMES = 3.0


def compute(model: Trainee, batch: Batch, stage: Stage) -> dict[str, Tensor]:
    """Return scalar losses: ``total`` and its parts."""
    features = model.encode(log_mel(batch.audio))
    hidden, looked = model.decode(batch.inputs, features)
    parts = {
        "text": text_loss(model, hidden, batch.targets),
        "phones": phone_loss(model, features, batch.phones),
        "tokens": token_loss(model, features, batch.token_frames),
        "attention": attention_loss(looked, batch.spans),
    }
    weights = {"phones": stage.w_phones, "tokens": stage.w_tokens, "attention": stage.w_attention}
    total = parts["text"] + sum(weight * parts[name] for name, weight in weights.items())
    return {"total": total, **parts}


def text_loss(model: Trainee, hidden: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy over the vocabulary's rows, padding and prompts left out."""
    asked = wanted != IGNORE
    return F.cross_entropy(model.logits(hidden[asked]).float(), wanted[asked])


def phone_loss(model: Trainee, features: Tensor, phones: Tensor) -> Tensor:
    """Which phone is heard at each position of the encoder: teaches it faster than text alone."""
    known = phones != IGNORE
    if not known.any():
        return features.sum() * 0.0
    return F.cross_entropy(model.phone_head(features[known]).float(), phones[known])


def token_loss(model: Trainee, features: Tensor, frames: Tensor) -> Tensor:
    """Which token is being spoken at drawn positions, scored with the decoder's own rows.

    So a position already knows its word, and the decoder need only look there.
    """
    if not len(frames):
        return features.sum() * 0.0
    row, position, token = frames.unbind(dim=1)
    return F.cross_entropy(model.logits(model.token_head(features[row, position])).float(), token)


def attention_loss(looked: Tensor, spans: Tensor) -> Tensor:
    """Minus the logarithm of the attention that falls on the token being written, a little slack allowed."""
    heard = spans[..., 0] >= 0
    if not heard.any():
        return looked.sum() * 0.0
    position = torch.arange(looked.shape[-1], device=looked.device) + 0.5
    start, end = (edge[heard].unsqueeze(1) for edge in spans.unbind(dim=2))
    within = (position >= start - _SLACK_FRAMES) & (position <= end + _SLACK_FRAMES)
    weights = looked[:, :GUIDED_HEADS].transpose(1, 2)[heard]  # (tokens, heads, T)
    mass = (weights * within.unsqueeze(1)).sum(dim=-1)
    return -(mass + 1e-4).log().mean()
