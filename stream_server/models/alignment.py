"""Which attention heads align words: whisper's dump of them, and pairs of layer and head; pure."""

import base64
import gzip
import zlib
from collections.abc import Iterable

from stream_server.engine.manifest import Dimensions


def dump_heads(heads: Iterable[tuple[int, int]], dims: Dimensions) -> str:
    """Pairs of layer and head, both from 0, as whisper's ``set_alignment_heads`` takes them.

    Raises:
        ValueError: There are none, or the decoder has no such head.
    """
    mask = bytearray(dims.n_text_layer * dims.n_text_head)
    for layer, head in heads:
        if not (0 <= layer < dims.n_text_layer and 0 <= head < dims.n_text_head):
            raise ValueError(f"there is no head {head} in layer {layer}")
        mask[layer * dims.n_text_head + head] = 1
    if not any(mask):
        raise ValueError("no heads are named")
    return base64.b85encode(gzip.compress(bytes(mask), mtime=0)).decode("ascii")


def heads_of(dump: str, dims: Dimensions) -> list[tuple[int, int]]:
    """The pairs of layer and head in whisper's dump.

    Raises:
        ValueError: It is no such dump, or one for another decoder.
    """
    try:
        mask = gzip.decompress(base64.b85decode(dump))
    except (OSError, EOFError, zlib.error) as exc:
        raise ValueError("not whisper's dump") from exc
    if len(mask) != dims.n_text_layer * dims.n_text_head:
        raise ValueError("made for a decoder with another number of heads")
    return [divmod(i, dims.n_text_head) for i, is_aligned in enumerate(mask) if is_aligned]
