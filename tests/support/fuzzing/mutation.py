"""Inputs near those that are known: a few hundred of them, the same in every run."""

import random
from collections.abc import Iterator, Sequence

_NUMBERS = (b"0", b"-1", b"1e999", b"99999999999999999999", b"0.5", b"")


def mutations(seeds: Sequence[bytes], words: Sequence[bytes], n_inputs: int, seed: int) -> Iterator[bytes]:
    """Seeds with one to four changes each.

    Args:
        seeds: What to begin from; at least one.
        words: Pieces to put in.
        n_inputs: How many to make.
        seed: Of the chance.
    """
    chance = random.Random(seed)
    for _ in range(n_inputs):
        data = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            data = _changed(data, seeds, words, chance)
        yield data


def _changed(data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
    end = min(end, start + 64)
    match chance.randrange(7):
        case 0:
            return data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data[:start] + chance.choice([*words, b"\0"]) + data[start:]
        case 4:
            return data[:start] + chance.choice(seeds)[start:]
        case 5:
            return data[:start]
        case _:
            digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
            at = chance.choice(digits) if digits else 0
            return data[:at] + chance.choice(_NUMBERS) + data[at + 1 :]
