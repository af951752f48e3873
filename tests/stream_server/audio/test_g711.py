"""G.711 against the recommendation's own numbers."""

import numpy as np
import pytest

from stream_server.audio.g711 import ALAW_TO_INT16, MULAW_TO_INT16


@pytest.mark.parametrize(
    ("code", "sample"),
    [
        # G.711 tables 2a and 2b: decoder output values 8031, 0 and those at segment ends, times 4.
        (0x00, -8031 * 4),
        (0x80, 8031 * 4),
        (0x8F, 4191 * 4),
        (0x90, 3999 * 4),
        (0xFF, 0),
        (0x7F, 0),
        (0xFE, 2 * 4),
        (0xEF, 33 * 4),
        (0x6F, -33 * 4),
    ],
)
def test_mulaw_codes_mean_what_the_recommendation_says(code: int, sample: int) -> None:
    assert MULAW_TO_INT16[code] == sample


@pytest.mark.parametrize(
    ("code", "sample"),
    [
        # G.711 tables 1a and 1b: decoder output values 4032, 1, 3, 66, times 8; even bits inverted.
        (0xAA, 4032 * 8),
        (0x2A, -4032 * 8),
        (0xD5, 1 * 8),
        (0x55, -1 * 8),
        (0xD4, 3 * 8),
        (0xC5, 33 * 8),
        (0xF5, 66 * 8),
        (0xE5, 132 * 8),
    ],
)
def test_alaw_codes_mean_what_the_recommendation_says(code: int, sample: int) -> None:
    assert ALAW_TO_INT16[code] == sample


def test_all_mulaw_codes_follow_the_formula() -> None:
    for code in range(256):
        segment, step = (~code >> 4) & 7, ~code & 15
        value = ((2 * step + 33) * 2**segment - 33) * 4
        assert MULAW_TO_INT16[code] == (value if code & 0x80 else -value), code


def test_all_alaw_codes_follow_the_formula() -> None:
    for code in range(256):
        plain = code ^ 0x55
        segment, step = plain >> 4 & 7, plain & 15
        value = (2 * step + 1) * 8 if segment == 0 else (2 * step + 33) * 2 ** (segment - 1) * 8
        assert ALAW_TO_INT16[code] == (value if plain & 0x80 else -value), code


@pytest.mark.parametrize("table", [MULAW_TO_INT16, ALAW_TO_INT16])
def test_tables_are_int16_and_odd_symmetric(table: np.ndarray) -> None:
    assert table.dtype == np.int16
    assert np.array_equal(table[:128], -table[128:])
