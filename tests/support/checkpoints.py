"""Checkpoints as others publish them: openai-whisper's ``.pt`` and Hugging Face's folder, random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from whisper.model import Whisper

_HF_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def halve(model: Whisper) -> Whisper:
    """Round the weights to float16, the precision of the published ones; they stay float32."""
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return model


def write_openai(path: Path, model: Whisper, dtype: torch.dtype = torch.float16) -> Path:
    weights = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    torch.save({"dims": dict(vars(model.dims)), "model_state_dict": weights}, path)
    return path


def huggingface_config(model: Whisper) -> dict[str, Any]:
    dims = model.dims
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "d_model": dims.n_audio_state,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_ffn_dim": 4 * dims.n_text_state,
        "num_mel_bins": dims.n_mels,
        "vocab_size": dims.n_vocab,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
        "scale_embedding": False,
        "activation_function": "gelu",
        "torch_dtype": "float32",
    }


def huggingface_tensors(model: Whisper) -> dict[str, Tensor]:
    """The weights as ``WhisperForConditionalGeneration.save_pretrained`` names them, float32."""
    return {_hf_name(name): tensor.float().contiguous() for name, tensor in model.state_dict().items()}


def _hf_name(name: str) -> str:
    stack, *parts = name.split(".")
    match parts:
        case ["positional_embedding"]:
            return f"model.{stack}.embed_positions.weight"
        case ["token_embedding", kind]:
            return f"model.{stack}.embed_tokens.{kind}"
        case ["ln" | "ln_post", kind]:
            return f"model.{stack}.layer_norm.{kind}"
        case ["conv1" | "conv2", kind]:
            return f"model.{stack}.{parts[0]}.{kind}"
        case ["blocks", layer, "mlp", index, kind]:
            return f"model.{stack}.layers.{layer}.{'fc1' if index == '0' else 'fc2'}.{kind}"
        case ["blocks", layer, "mlp_ln", kind]:
            return f"model.{stack}.layers.{layer}.final_layer_norm.{kind}"
        case ["blocks", layer, "attn_ln" | "cross_attn_ln" as norm, kind]:
            which = "self_attn" if norm == "attn_ln" else "encoder_attn"
            return f"model.{stack}.layers.{layer}.{which}_layer_norm.{kind}"
        case ["blocks", layer, "attn" | "cross_attn" as attention, part, kind]:
            which = "self_attn" if attention == "attn" else "encoder_attn"
            return f"model.{stack}.layers.{layer}.{which}.{_HF_ATTENTION[part]}.{kind}"
    raise AssertionError(name)


def write_huggingface(
    folder: Path,
    model: Whisper,
    *,
    heads: list[list[int]] | None = None,
    tensors: dict[str, Tensor] | None = None,
    **config: Any,
) -> Path:
    """Write the folder; ``tensors`` are added to the weights, ``config`` to ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(huggingface_tensors(model) | (tensors or {}), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(model) | config))
    if heads is not None:
        generation = {"alignment_heads": heads, "max_length": 448, "is_multilingual": True}
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder
