"""What counts as a word of a transcript, in any script.

A character of a script written without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer) is a word.
Combining marks belong to the character before them. Punctuation is a token of its own.
"""

import re
import unicodedata

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_MARKS = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")
_LETTERS = rf"(?:[^\W{_UNSPACED}][{_MARKS}]*)+"
TOKEN = re.compile(
    rf"[{_UNSPACED}][{_MARKS}]*"  # a character that is a word
    rf"|{_LETTERS}(?:['’.,-]{_LETTERS})*"  # a word; its inner punctuation belongs to it: don't, 3.5
    r"|[^\w\s]+"  # punctuation
)
"""Finds words and runs of punctuation, in order."""

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Written without spaces between words, as in whisper."""


def word_gap(language: str | None) -> str:
    """What stands between two pieces of text of a language: a space, or nothing."""
    return "" if language in UNSPACED_LANGUAGES else " "
