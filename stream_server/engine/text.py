"""Whisper's English text normaliser, for error rates that compare with published ones."""

import warnings
from functools import cache

from whisper.normalizers import EnglishTextNormalizer


@cache
def _normaliser() -> EnglishTextNormalizer:
    with warnings.catch_warnings():
        # whisper leaves closing its table of spellings to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return EnglishTextNormalizer()


def normalise_english(text: str) -> str:
    """Lower case, no punctuation, numbers and spellings in one form."""
    normalised: str = _normaliser()(text)
    return normalised
