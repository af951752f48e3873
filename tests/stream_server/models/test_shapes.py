"""The tensors of a Whisper, said without making one."""

import models
import pytest
from whisper.model import ModelDimensions, Whisper

from stream_server.engine.manifest import Dimensions
from stream_server.models.shapes import mismatch, n_parameters, tensor_shapes


def dimensions(dims: ModelDimensions) -> Dimensions:
    return Dimensions(**vars(dims))


@pytest.mark.parametrize(
    "dims",
    [
        pytest.param(models.tiny(), id="tiny"),
        pytest.param(models.base(n_layer=2), id="base, cut"),
        pytest.param(models.tiny(n_layer=1, n_vocab=models.ENGLISH_VOCAB), id="tiny.en, cut"),
        pytest.param(models.large_v3(n_layer=1, n_head=2), id="large-v3, cut"),
        pytest.param(
            ModelDimensions(128, 1500, 128, 2, 3, 51_866, 448, 128, 2, 1), id="decoder less deep, as turbo"
        ),
    ],
)
def test_they_are_those_of_whisper(dims: ModelDimensions) -> None:
    weights = {name: tuple(tensor.shape) for name, tensor in Whisper(dims).state_dict().items()}
    assert tensor_shapes(dimensions(dims)) == weights
    assert mismatch(weights, dimensions(dims)) is None
    assert n_parameters(dimensions(dims)) == sum(t.numel() for t in Whisper(dims).state_dict().values())


def test_large_v3_is_as_large_as_published() -> None:
    assert n_parameters(dimensions(models.large_v3())) == pytest.approx(1_550e6, rel=0.01)


def test_what_differs_is_named_three_at_a_time() -> None:
    dims = dimensions(models.tiny(n_layer=1))
    shapes = tensor_shapes(dims)
    assert mismatch(shapes | {"lora.A": (1,)}, dims) == "lora.A is not a tensor of Whisper's"
    wrong = shapes | {"decoder.ln.bias": (512,)}
    assert mismatch(wrong, dims) == "decoder.ln.bias is [512], not [384]"
    del wrong["encoder.conv1.weight"]
    assert mismatch(wrong, dims) == "encoder.conv1.weight is missing; decoder.ln.bias is [512], not [384]"
    words = mismatch({}, dims)
    assert words is not None
    assert words.startswith("encoder.conv1.weight is missing; encoder.conv1.bias is missing; ")
    assert words.endswith(f"; and {len(shapes) - 3} more")
