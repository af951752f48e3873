"""How weights follow their gradients: matrices of the layers by Muon, everything else by AdamW.

Muon (Jordan et al., 2024; scaled to AdamW's steps as in Liu et al., 2025, arXiv:2502.16982) moves a matrix
in all its directions alike. torch's own takes one matrix after the other, on a processor twenty times as
long as all of a shape at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of a quintic that drives singular values to 1; five steps bring most within 0.7 to 1.2."""
_NEWTON_SCHULZ_STEPS = 5
_MOMENTUM = 0.95
_ADAMW_RMS = 0.2
"""Size of AdamW's typical step, so that both halves share a learning rate."""


class Optimiser:
    """Both halves behind one rate.

    Args:
        model: Its ``blocks`` hold the layers; their matrices go to Muon.
        weight_decay: Of both.
    """

    def __init__(self, model: nn.Module, weight_decay: float) -> None:
        named = list(model.named_parameters())
        matrices = [p for name, p in named if ".blocks." in name and p.ndim == 2]
        others = [p for name, p in named if not (".blocks." in name and p.ndim == 2)]
        self._halves: dict[str, torch.optim.Optimizer] = {
            "matrices": Muon(matrices, weight_decay),
            "others": torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True),
        }

    def step(self, rate: float) -> None:
        """Move the weights."""
        for half in self._halves.values():
            for group in half.param_groups:
                group["lr"] = rate
            half.step()

    def state_dict(self) -> dict[str, object]:
        """Return what goes into a checkpoint."""
        return {name: half.state_dict() for name, half in self._halves.items()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a checkpoint's."""
        for name, half in self._halves.items():
            half.load_state_dict(state[name])  # type: ignore[arg-type]  # what state_dict gave


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; matrices of one shape are worked on together."""

    def __init__(self, matrices: Iterable[nn.Parameter], weight_decay: float) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Move the matrices that have a gradient."""
        for group in self.param_groups:
            moving = sorted((p for p in group["params"] if p.grad is not None), key=_flat_shape)
            for _, alike in groupby(moving, key=_flat_shape):
                self._move(list(alike), group["lr"], group["weight_decay"])

    def _move(self, matrices: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        gradients = [p.grad for p in matrices if p.grad is not None]
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1.0 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
        flat = torch.stack([g.T if g.shape[0] > g.shape[1] else g for g in ahead])
        steps = orthogonal(flat).to(gradients[0].dtype) * (_ADAMW_RMS * max(flat.shape[1:]) ** 0.5)
        torch._foreach_mul_(matrices, 1.0 - rate * weight_decay)
        moves = [s.T if p.shape[0] > p.shape[1] else s for p, s in zip(matrices, steps, strict=True)]
        torch._foreach_add_(matrices, moves, alpha=-rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the nearest matrices with singular values about 1: bfloat16 (N, rows, columns ≥ rows)."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _flat_shape(parameter: nn.Parameter) -> tuple[int, int]:
    rows, columns = sorted(parameter.shape)
    return rows, columns
