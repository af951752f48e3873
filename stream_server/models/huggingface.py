"""Hugging Face's layout of Whisper: its two JSON files, and its names of the tensors; pure.

The names are those of ``WhisperForConditionalGeneration`` in transformers.
"""

import re
from typing import TypeVar

import msgspec

from stream_server.engine.manifest import Dimensions

Struct = TypeVar("Struct", bound=msgspec.Struct)


class Config(msgspec.Struct, frozen=True):
    """What of ``config.json`` says the model's shape; its other fields are for transformers."""

    model_type: str
    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    decoder_layers: int
    decoder_attention_heads: int
    num_mel_bins: int
    vocab_size: int
    max_source_positions: int
    max_target_positions: int
    scale_embedding: bool = False
    activation_function: str = "gelu"


class GenerationConfig(msgspec.Struct, frozen=True):
    """What of ``generation_config.json`` is the model's."""

    alignment_heads: list[tuple[int, int]] | None = None
    """Pairs of layer and head."""


def parse_config(text: bytes) -> Config:
    """Read ``config.json``.

    Raises:
        ValueError: It is not JSON, lacks a field, or describes what Whisper's modules do not compute.
    """
    config = _decode(text, Config)
    if config.model_type != "whisper":
        raise ValueError(f"model_type is {config.model_type}, not whisper")
    if config.scale_embedding:
        raise ValueError("scale_embedding is true, which Whisper does not do")
    if config.activation_function != "gelu":
        raise ValueError(f"activation_function is {config.activation_function}, not gelu")
    return config


def parse_generation_config(text: bytes) -> GenerationConfig:
    """Read ``generation_config.json``.

    Raises:
        ValueError: It is not JSON, or its alignment heads are not pairs of numbers.
    """
    return _decode(text, GenerationConfig)


def _decode(text: bytes, kind: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def dimensions_of(config: Config) -> Dimensions:
    """The same as whisper's dimensions.

    Raises:
        ValueError: They are not those of a Whisper.
    """
    return Dimensions(
        n_mels=config.num_mel_bins,
        n_audio_ctx=config.max_source_positions,
        n_audio_state=config.d_model,
        n_audio_head=config.encoder_attention_heads,
        n_audio_layer=config.encoder_layers,
        n_vocab=config.vocab_size,
        n_text_ctx=config.max_target_positions,
        n_text_state=config.d_model,
        n_text_head=config.decoder_attention_heads,
        n_text_layer=config.decoder_layers,
    )


_TOP = {
    "encoder.layer_norm": "encoder.ln_post",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.layer_norm": "decoder.ln",
    "decoder.embed_tokens": "decoder.token_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
}
_IN_LAYER = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")


def openai_name(name: str) -> str:
    """openai-whisper's name of a tensor; one that is none of Whisper's is returned as it is."""
    name = name.removeprefix("model.")
    layer = _LAYER.fullmatch(name)
    if layer:
        stack, number, part, kind = layer.groups()
        return f"{stack}.blocks.{number}.{_IN_LAYER.get(part, part)}.{kind}"
    if name in _TOP:
        return _TOP[name]
    part, _, kind = name.rpartition(".")
    return f"{_TOP[part]}.{kind}" if part in _TOP else name
