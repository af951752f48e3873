"""Whisper's tokenizer as the file ``tokenizer.json`` of Hugging Face's tokenizers; pure.

faster-whisper reads that file and fetches it from a hub where a model has none. openai-whisper has only the
rank of each token: which two parts it was merged from is what merging its bytes by rank leaves before it.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def byte_names() -> dict[int, str]:
    """A printable character for each byte, as GPT-2 has them: itself, or one from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def merges_of(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two parts of each token of several bytes, in the order of ranks.

    Raises:
        ValueError: A token cannot be merged from two others.
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _merge(token, ranks, rank)
            if len(parts) != 2:
                raise ValueError(f"token {rank} is merged from {len(parts)} parts")
            yield parts[0], parts[1]


def _merge(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """What merging by the ranks before ``below`` makes of a token's bytes."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        pairs = [(ranks.get(parts[i] + parts[i + 1], below), i) for i in range(len(parts) - 1)]
        rank, i = min(pairs)
        if rank >= below:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def tokenizer_json(ranks: Mapping[bytes, int], special: Mapping[str, int]) -> dict[str, Any]:
    """The content of the file.

    Args:
        ranks: Token → number, of the tokens of text.
        special: Name → number, of the others.
    """
    names = byte_names()

    def name(token: bytes) -> str:
        return "".join(names[byte] for byte in token)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for text, number in sorted(special.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {name(token): number for token, number in ranks.items()},
            "merges": [f"{name(left)} {name(right)}" for left, right in merges_of(ranks)],
        },
    }
