"""Hugging Face's names and files."""

import json

import checkpoints
import models
import pytest
from whisper.model import Whisper

from stream_server.engine.manifest import Dimensions
from stream_server.models.huggingface import (
    dimensions_of,
    openai_name,
    parse_config,
    parse_generation_config,
)

MODEL = Whisper(models.shape(64, 2, n_layer=2))


def test_every_tensor_gets_its_name_at_openai() -> None:
    theirs = list(MODEL.state_dict())
    assert [openai_name(name) for name in checkpoints.huggingface_tensors(MODEL)] == theirs
    # WhisperModel, without the output layer, is saved without the prefix.
    bare = [name.removeprefix("model.") for name in checkpoints.huggingface_tensors(MODEL)]
    assert [openai_name(name) for name in bare] == theirs


@pytest.mark.parametrize(
    "name", ["proj_out.weight", "lora.A", "decoder.layers.0.strange.weight", "encoder.embed_tokens", ""]
)
def test_a_name_that_is_none_of_whispers_becomes_none_of_whispers(name: str) -> None:
    assert openai_name(name) not in MODEL.state_dict()


def test_the_dimensions_are_those_of_the_configuration() -> None:
    text = json.dumps(checkpoints.huggingface_config(MODEL)).encode()
    assert dimensions_of(parse_config(text)) == Dimensions(**vars(MODEL.dims))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"model_type": "wav2vec2"}, "model_type is wav2vec2"),
        ({"d_model": None}, "Expected `int`"),
        ({"scale_embedding": True}, "scale_embedding"),
        ({"activation_function": "relu"}, "activation_function is relu"),
    ],
)
def test_what_is_no_whisper_is_named(changed: dict[str, object], what: str) -> None:
    text = json.dumps(checkpoints.huggingface_config(MODEL) | changed).encode()
    with pytest.raises(ValueError, match=what):
        parse_config(text)


def test_a_field_that_is_missing_is_named() -> None:
    config = checkpoints.huggingface_config(MODEL)
    del config["num_mel_bins"]
    with pytest.raises(ValueError, match="num_mel_bins"):
        parse_config(json.dumps(config).encode())


def test_alignment_heads_may_be_missing_but_not_of_another_form() -> None:
    assert parse_generation_config(b'{"max_length": 448}').alignment_heads is None
    assert parse_generation_config(b'{"alignment_heads": [[3, 1]]}').alignment_heads == [(3, 1)]
    with pytest.raises(ValueError, match="alignment_heads"):
        parse_generation_config(b'{"alignment_heads": [[3]]}')
