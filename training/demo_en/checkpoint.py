"""Checkpoints: one file, replaced as a whole, that holds all a training needs to go on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import Shape
from .model import Trainee
from .vocabulary import Vocabulary, of_text_tokens


@dataclass(slots=True)
class Checkpoint:
    """The state after ``step`` steps."""

    step: int
    shape: Shape
    text_tokens: list[int]
    """Whisper's ids of the vocabulary's text rows"""
    phones: dict[str, int]
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    """Exponential mean of the parameters: what is measured and exported"""
    optimiser: dict[str, Any]
    trained_s: float
    """Seconds spent in training, over all runs"""
    hours: float
    """Hours of speech that were there to learn from"""

    def save(self, path: Path) -> None:
        """Write beside the old one, then replace it."""
        partial = path.with_suffix(".part")
        state = {name: getattr(self, name) for name in self.__slots__} | {"shape": asdict(self.shape)}
        torch.save(state, partial)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read one; tensors arrive on the CPU."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        return cls(**(state | {"shape": Shape(**state["shape"])}))

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary it was trained with."""
        return of_text_tokens(self.text_tokens)

    def averaged(self) -> Trainee:
        """Return the network with the mean weights."""
        model = Trainee(self.shape, self.vocabulary, len(self.phones))
        model.load_state_dict(self.model)
        model.load_state_dict(self.average, strict=False)
        return model.eval()
