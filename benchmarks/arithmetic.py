"""How many floating-point operations decoding takes, and how many a second this machine does at best.

Counted are matrix products, two operations for each multiplication with addition, as they must be done
with a cache of keys and values: nothing twice, nothing padded. All else (normalisation, softmax, copies)
counts as nothing, so that the floor is one that no engine reaches.
"""

from collections.abc import Callable

import torch
from torch import nn
from whisper.model import ModelDimensions

from stream_server.engine.products import linear


def encoder_flops(dims: ModelDimensions, n_positions: int) -> int:
    """Of one window of ``n_positions`` audio positions, 20 ms each."""
    width = dims.n_audio_state
    convolutions = 2 * 3 * width * (dims.n_mels * 2 * n_positions + width * n_positions)
    # Query, key, value and output: 4 D²; the two layers of the MLP: 8 D²; scores and their sum: 2 T D.
    layer = 2 * n_positions * (12 * width**2 + 2 * n_positions * width)
    return convolutions + dims.n_audio_layer * layer


def decoder_flops(dims: ModelDimensions, n_positions: int, n_prompt: int, n_tokens: int) -> int:
    """Of one window whose prompt is followed by ``n_tokens``, whether one by one or as a draft."""
    width = dims.n_text_state
    audio = 2 * 2 * n_positions * width**2
    n_fed = n_prompt + n_tokens - 1
    # Attention to the text before: position i sees i + 1 places.
    text = 2 * 2 * width * n_fed * (n_fed + 1) // 2
    fed = 2 * n_fed * (14 * width**2 + 2 * n_positions * width)
    predicted = 2 * n_tokens * width * dims.n_vocab
    return dims.n_text_layer * (audio + text + fed) + predicted


def peak_flops_per_s(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """What a large matrix product reaches by the faster of torch's libraries, once, by a clock in seconds."""
    size = 8_192 if device.type == "cuda" else 1_024
    x = torch.randn(size, size, device=device, dtype=dtype)
    layer = nn.Linear(size, size, bias=False, device=device, dtype=dtype).requires_grad_(False)
    ways = [lambda: layer(x)]
    if device.type == "cpu":
        ways.append(lambda: linear(layer, x))
    n_products = 4
    seconds = [_seconds(product, n_products, device, clock) for product in ways]
    return n_products * 2 * size**3 / min(seconds)


def _seconds(
    product: Callable[[], torch.Tensor], n_products: int, device: torch.device, clock: Callable[[], float]
) -> float:
    product()
    _wait_for(device)
    start_s = clock()
    for _ in range(n_products):
        product()
    _wait_for(device)
    return clock() - start_s


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
