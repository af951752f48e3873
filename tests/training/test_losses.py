"""The side losses reward what the timings say, and the schedule of the rate keeps its promises."""

import pytest
import torch

from training.demo_en import losses, measure
from training.demo_en.config import TrainConfig
from training.demo_en.features import log_mel
from training.demo_en.model import attend


def looked(at: int, n: int = 40) -> torch.Tensor:
    weights = torch.full((1, 3, 1, n), 1e-6)
    weights[..., at] = 1.0
    return weights / weights.sum(dim=-1, keepdim=True)


def test_attention_costs_nothing_on_the_word_and_much_elsewhere():
    spans = torch.tensor([[[10.0, 14.0]]])
    assert losses.attention_loss(looked(12), spans).item() == pytest.approx(0.0, abs=1e-2)
    assert losses.attention_loss(looked(30), spans).item() > 5


def test_attention_is_free_where_nothing_is_heard():
    assert losses.attention_loss(looked(30), torch.full((1, 1, 2), -1.0)).item() == 0


def test_a_row_of_the_spectrogram_does_not_depend_on_its_neighbour():
    quiet, loud = torch.randn(16_000) * 0.01, torch.randn(16_000)
    assert torch.allclose(log_mel(torch.stack([quiet, loud]))[0], log_mel(quiet[None])[0], atol=1e-5)


def test_attention_with_weights_is_the_layer_itself():
    from whisper.model import MultiHeadAttention

    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 3)
    x, features = torch.randn(2, 4, 12), torch.randn(2, 7, 12)
    assert torch.allclose(attend(layer, x, features)[0], layer(x, features)[0], atol=1e-5)


def test_the_rate_rises_holds_falls_and_a_finish_ends_at_zero():
    config = TrainConfig()
    assert config.rate_at(0) < config.rate_at(config.warmup_steps) == config.rate
    assert config.rate_at(4 * config.hold_steps) == pytest.approx(config.rate / 2)
    finish = config.finishing(1_000)
    assert finish.steps == 1_000 + finish.decay_steps
    assert finish.rate_at(finish.steps) == 0


def test_error_rates_forgive_case_punctuation_and_spelled_numbers():
    assert measure.error_rate(["It costs twenty five dollars."], ["it costs $25"]) == 0
    assert measure.error_rate(["We met Anna today."], ["we met hannah"]) == pytest.approx(0.5)
