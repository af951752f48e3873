"""Which tensors a Whisper of given dimensions has, so that weights are checked before they are used; pure."""

from collections.abc import Iterator, Mapping

from stream_server.engine.manifest import Dimensions

Shape = tuple[int, ...]

_NAMED_MAX = 3


def tensor_shapes(dims: Dimensions) -> dict[str, Shape]:
    """Name and shape of every tensor, named as openai-whisper names them."""
    return dict(_encoder(dims)) | dict(_decoder(dims))


def n_parameters(dims: Dimensions) -> int:
    """How many numbers a model's tensors hold."""
    total = 0
    for shape in tensor_shapes(dims).values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def mismatch(found: Mapping[str, Shape], dims: Dimensions) -> str | None:
    """How tensors differ from those of the dimensions, in words; None if they do not."""
    wanted = tensor_shapes(dims)
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not a tensor of Whisper's" for name in found if name not in wanted]
    problems += [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if not problems:
        return None
    rest = len(problems) - _NAMED_MAX
    return "; ".join(problems[:_NAMED_MAX]) + (f"; and {rest} more" if rest > 0 else "")


def _encoder(dims: Dimensions) -> Iterator[tuple[str, Shape]]:
    width = dims.n_audio_state
    yield "encoder.conv1.weight", (width, dims.n_mels, 3)
    yield "encoder.conv1.bias", (width,)
    yield "encoder.conv2.weight", (width, width, 3)
    yield "encoder.conv2.bias", (width,)
    yield "encoder.positional_embedding", (dims.n_audio_ctx, width)
    for layer in range(dims.n_audio_layer):
        yield from _block(f"encoder.blocks.{layer}", width, ("attn",))
    yield from _scale_and_shift("encoder.ln_post", width)


def _decoder(dims: Dimensions) -> Iterator[tuple[str, Shape]]:
    width = dims.n_text_state
    yield "decoder.token_embedding.weight", (dims.n_vocab, width)
    yield "decoder.positional_embedding", (dims.n_text_ctx, width)
    for layer in range(dims.n_text_layer):
        yield from _block(f"decoder.blocks.{layer}", width, ("attn", "cross_attn"))
    yield from _scale_and_shift("decoder.ln", width)


def _block(name: str, width: int, attentions: tuple[str, ...]) -> Iterator[tuple[str, Shape]]:
    for attention in attentions:
        for part in ("query", "key", "value", "out"):
            yield f"{name}.{attention}.{part}.weight", (width, width)
            if part != "key":
                yield f"{name}.{attention}.{part}.bias", (width,)
        yield from _scale_and_shift(f"{name}.{attention}_ln", width)
    yield f"{name}.mlp.0.weight", (4 * width, width)
    yield f"{name}.mlp.0.bias", (4 * width,)
    yield f"{name}.mlp.2.weight", (width, 4 * width)
    yield f"{name}.mlp.2.bias", (width,)
    yield from _scale_and_shift(f"{name}.mlp_ln", width)


def _scale_and_shift(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
