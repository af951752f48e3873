"""Products by other libraries are those of torch, whatever their shape, and whether or not they are there."""

import pytest
import torch
from torch import Tensor, nn
from whisper.model import MultiHeadAttention

from stream_server.engine import products
from stream_server.engine.products import (
    BLOCK_MAX,
    BLOCKED_POSITIONS_MIN,
    ROWS_MIN,
    HalfMatrix,
    attend,
    linear,
)

N_HEAD = 3
WIDTH = 64 * N_HEAD


@pytest.fixture(params=[True, False], ids=["with oneDNN", "without"], autouse=True)
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_HAS_ONEDNN", products._HAS_ONEDNN and request.param)


def random_of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (ROWS_MIN - 1,), (ROWS_MIN,), (3, 50), (2, 1_500)])
@pytest.mark.parametrize("has_bias", [True, False])
@torch.inference_mode()
def test_a_layer_makes_the_same_of_any_number_of_rows(shape: tuple[int, ...], has_bias: bool) -> None:
    layer = nn.Linear(96, 40, bias=has_bias)
    x = random_of(*shape, 96)
    exact = layer.double()(x.double())
    torch.testing.assert_close(linear(layer.float(), x), exact.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "n_positions", [1, BLOCKED_POSITIONS_MIN - 1, BLOCKED_POSITIONS_MIN, 2 * BLOCK_MAX, 2 * BLOCK_MAX + 1]
)
@torch.inference_mode()
def test_attention_is_whispers(n_positions: int) -> None:
    query, key, value = (random_of(2 + i, n_positions, WIDTH)[:2] for i in range(3))
    exact, _ = MultiHeadAttention(WIDTH, N_HEAD).qkv_attention(query.double(), key.double(), value.double())
    mixed = attend(query, key, value, N_HEAD)
    torch.testing.assert_close(mixed, exact.float(), rtol=1e-5, atol=3e-6)


@torch.inference_mode()
def test_smaller_numbers_are_left_to_torch() -> None:
    x = random_of(1, BLOCKED_POSITIONS_MIN, WIDTH).bfloat16()
    layer = nn.Linear(WIDTH, 8).bfloat16()
    assert linear(layer, x).equal(layer(x))
    assert attend(x, x, x, N_HEAD).dtype == torch.bfloat16


def test_torch_has_the_operator_that_the_speed_hangs_on() -> None:
    assert products._has_onednn() == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("n_rows", [1, 2, 7, 64, 129])
@torch.inference_mode()
def test_a_matrix_of_small_numbers_is_read_without_loss(n_rows: int) -> None:
    weight, x = random_of(1_001, 96).half(), random_of(n_rows, 96)
    matrix = HalfMatrix.of(weight.float())
    assert matrix is not None
    exact = x.double() @ weight.double().T
    torch.testing.assert_close(matrix.product(x), exact.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [1e-9, 0.1, 70_000, float("nan")])
def test_a_matrix_that_would_lose_by_it_is_not_halved(number: float) -> None:
    weight = torch.zeros(4, 4)
    weight[1, 2] = number
    assert HalfMatrix.of(weight) is None


def test_a_matrix_is_not_halved_where_nothing_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_HAS_FBGEMM", False)
    assert HalfMatrix.of(torch.zeros(4, 4)) is None
