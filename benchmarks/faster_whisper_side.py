"""The other side of ``benchmarks.faster_whisper``: runs in its virtual environment, with CTranslate2.

Converts weights under openai-whisper's names into CTranslate2's form, as its own converter does with
those of transformers, and decodes windows when told to on standard input. Needs ctranslate2 and numpy.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, whisper_spec


class Weights:
    """Tensors by name, float32."""

    def __init__(self, path: str) -> None:
        self._arrays = np.load(path)

    def fill(self, spec: Any, name: str) -> None:
        """Fill a linear layer or a convolution; whisper's keys have no bias."""
        spec.weight = self._arrays[f"{name}.weight"]
        if f"{name}.bias" in self._arrays:
            spec.bias = self._arrays[f"{name}.bias"]

    def fill_norm(self, spec: Any, name: str) -> None:
        """Fill a layer normalisation."""
        spec.gamma = self._arrays[f"{name}.weight"]
        spec.beta = self._arrays[f"{name}.bias"]

    def fill_attention(self, spec: Any, name: str, *, is_self: bool) -> None:
        """Fill an attention; CTranslate2 keeps what has the same input in one matrix."""
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, which in zip(parts, ("query", "key", "value"), strict=True):
            self.fill(part, f"{name}.{which}")
        linear = spec.linear
        if is_self:
            utils.fuse_linear(linear[0], parts)
        else:
            utils.fuse_linear(linear[0], parts[:1])
            utils.fuse_linear(linear[1], parts[1:])
        self.fill(linear[-1], f"{name}.out")
        self.fill_norm(spec.layer_norm, f"{name}_ln")

    def fill_layer(self, spec: Any, name: str) -> None:
        """Fill a layer of the encoder or decoder."""
        self.fill_attention(spec.self_attention, f"{name}.attn", is_self=True)
        if hasattr(spec, "attention"):
            self.fill_attention(spec.attention, f"{name}.cross_attn", is_self=False)
        ffn = spec.ffn
        self.fill(ffn.linear_0, f"{name}.mlp.0")
        self.fill(ffn.linear_1, f"{name}.mlp.2")
        self.fill_norm(ffn.layer_norm, f"{name}.mlp_ln")

    def spec(self, dims: dict[str, int]) -> whisper_spec.WhisperSpec:
        """All of them in CTranslate2's form."""
        spec = whisper_spec.WhisperSpec(
            dims["n_audio_layer"], dims["n_audio_head"], dims["n_text_layer"], dims["n_text_head"]
        )
        self.fill(spec.encoder.conv1, "encoder.conv1")
        self.fill(spec.encoder.conv2, "encoder.conv2")
        spec.encoder.position_encodings.encodings = self._arrays["encoder.positional_embedding"]
        self.fill_norm(spec.encoder.layer_norm, "encoder.ln_post")
        spec.decoder.position_encodings.encodings = self._arrays["decoder.positional_embedding"]
        self.fill_norm(spec.decoder.layer_norm, "decoder.ln")
        spec.decoder.embeddings.weight = self._arrays["decoder.token_embedding.weight"]
        spec.decoder.projection.weight = self._arrays["decoder.token_embedding.weight"]
        for stack, layers in (("encoder", spec.encoder.layer), ("decoder", spec.decoder.layer)):
            for i, layer in enumerate(layers):
                self.fill_layer(layer, f"{stack}.blocks.{i}")
        return spec


def main() -> None:
    """Convert, load, and then answer each line with what decoding took."""
    settings = json.loads(sys.stdin.readline())
    spec = Weights(settings["weights"]).spec(settings["dims"])
    spec.register_vocabulary(settings["vocabulary"])
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = settings["language_ids"]
    spec.config.alignment_heads = []
    spec.validate()
    spec.optimize()
    Path(settings["folder"]).mkdir()
    spec.save(settings["folder"])
    model = ctranslate2.models.Whisper(
        settings["folder"],
        device=settings["device"],
        compute_type=settings["compute_type"],
        intra_threads=settings["threads"],
        inter_threads=1,
    )
    print(json.dumps({"version": ctranslate2.__version__, "compute_type": model.compute_type}), flush=True)
    clock = time.process_time if settings["clock"] == "cpu" else time.perf_counter
    for line in sys.stdin:
        try:
            print(json.dumps(decode(model, json.loads(line), clock)), flush=True)
        except (RuntimeError, ValueError) as exc:
            print(json.dumps({"refused": str(exc)}), flush=True)


def decode(
    model: ctranslate2.models.Whisper, asked: dict[str, Any], clock: Callable[[], float]
) -> dict[str, object]:
    """Decode a batch; the features are copied to the device within the time, as ours are."""
    mel = np.load(asked["mel"])
    start_s = clock()
    found = model.generate(
        ctranslate2.StorageView.from_array(mel),
        [asked["prompt"]] * len(mel),
        beam_size=1,
        suppress_blank=False,
        # CTranslate2 lets half of it be text.
        max_length=2 * asked["n_tokens"],
    )
    seconds = clock() - start_s
    return {"seconds": seconds, "tokens": [row.sequences_ids[0] for row in found]}


if __name__ == "__main__":
    main()
