"""The optimiser: directions made alike, shapes worked on together, and nothing forgotten in a checkpoint."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from training.demo_en.optimiser import Muon, Optimiser, orthogonal


class Layers(nn.Module):
    """Matrices of three shapes in ``blocks``, an embedding outside of them, and vectors in both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inside = nn.Module()
        self.inside.blocks = nn.ModuleList(nn.Linear(*sizes) for sizes in ((8, 8), (8, 8), (8, 32), (32, 8)))
        self.embedding = nn.Embedding(5, 8)

    def loss(self, wanted: Tensor) -> Tensor:
        x = self.embedding.weight
        for block in self.inside.blocks:
            x = block(x)
        return (x - wanted).square().mean()


def descend(layers: Layers, optimiser: Optimiser, steps: int) -> float:
    wanted = torch.linspace(-1.0, 1.0, 40).reshape(5, 8)
    loss = layers.loss(wanted)
    for _ in range(steps):
        layers.zero_grad()
        loss = layers.loss(wanted)
        loss.backward()
        optimiser.step(0.01)
    return loss.item()


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(2)
    matrices = torch.randn(3, 16, 48) * torch.tensor([1e-3, 1.0, 1e3]).reshape(3, 1, 1)
    values = torch.linalg.svdvals(orthogonal(matrices).float())
    assert values.min() > 0.5
    assert values.max() < 1.4


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_a_step_is_as_long_as_adamws_whatever_the_shape_and_the_gradient(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    for scale in (1e-4, 1e4):
        matrix = nn.Parameter(torch.zeros(shape))
        muon = Muon([matrix], weight_decay=0.0)
        muon.param_groups[0]["lr"] = 0.1
        matrix.grad = torch.randn(shape) * scale
        muon.step()
        assert matrix.detach().square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.3)


def test_matrices_of_one_shape_move_as_each_would_alone() -> None:
    torch.manual_seed(4)
    gradients = [torch.randn(shape) for shape in ((8, 8), (8, 24), (24, 8), (8, 8))]
    together = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    alone = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    optimisers = [Muon(together, 0.0), *(Muon([p], 0.0) for p in alone)]
    for p, q, g in zip(together, alone, gradients, strict=True):
        p.grad, q.grad = g.clone(), g.clone()
    for muon in optimisers:
        muon.param_groups[0]["lr"] = 1.0
        muon.step()
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q, rtol=0.02, atol=0.02)


def test_both_halves_learn() -> None:
    layers = Layers()
    before = layers.embedding.weight.detach().clone()
    optimiser = Optimiser(layers, weight_decay=0.0)
    first = descend(layers, optimiser, 1)
    assert descend(layers, optimiser, 60) < 0.1 * first
    assert not torch.equal(layers.embedding.weight, before)


def test_a_training_goes_on_from_its_state_as_if_never_interrupted() -> None:
    whole, again = Layers(), Layers()
    optimiser = Optimiser(whole, weight_decay=0.01)
    descend(whole, optimiser, 5)
    again.load_state_dict(whole.state_dict())
    resumed = Optimiser(again, weight_decay=0.01)
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    assert descend(again, resumed, 3) == descend(whole, optimiser, 3)
