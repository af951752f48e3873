"""ITU-T G.711 (11/1988) telephone companding, as two 256-entry tables.

Each code stands for one 14-bit (µ-law) or 13-bit (A-law) sample; the tables scale them to int16 in
the usual way (left-aligned), so that full scale is 32,124 and 32,256.
"""

import numpy as np
from numpy.typing import NDArray


def _mulaw_table() -> NDArray[np.int16]:
    # G.711 table 2: codes are sent inverted; 4-bit mantissa, 3-bit exponent, bias 33 (132 at 16 bits).
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4 & 0x07).astype(np.int32)
    magnitude = ((code & 0x0F).astype(np.int32) << 3) + 132 << exponent
    magnitude -= 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> NDArray[np.int16]:
    # G.711 table 1: even bits are sent inverted (0x55); segment 0 is linear, the others have a hidden bit.
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4 & 0x07).astype(np.int32)
    mantissa = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, mantissa + 256 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


MULAW_TO_INT16 = _mulaw_table()
"""int16 (256,): sample for each µ-law code."""
ALAW_TO_INT16 = _alaw_table()
"""int16 (256,): sample for each A-law code."""
