"""Numbers, money, times, dates and digits: what is written, and what a speaker says for it."""

from __future__ import annotations

import numpy as np

from . import lexicon

Chunk = tuple[str, str]
"""(written, spoken): written has no space within, spoken may be several words."""

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINAL = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def spell(n: int) -> str:
    """Return the words for 0 ≤ n < 1,000,000 as they are read aloud."""
    if n < 20:
        return _SMALL[n]
    if n < 100:
        return _TENS[n // 10] + (f" {_SMALL[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{_SMALL[n // 100]} hundred" + (f" {spell(n % 100)}" if n % 100 else "")
    return f"{spell(n // 1000)} thousand" + (f" {spell(n % 1000)}" if n % 1000 else "")


def spell_ordinal(n: int) -> str:
    """Return the words for the n-th, 1 ≤ n < 100."""
    *head, last = spell(n).split()
    if last in _ORDINAL:
        return " ".join([*head, _ORDINAL[last]])
    return " ".join([*head, last[:-1] + "ieth" if last.endswith("y") else last + "th"])


def number(rng: np.random.Generator) -> list[Chunk]:
    """Return a count, small ones more often: 25, 340, 1,200."""
    scale = rng.random()
    if scale < 0.6:
        n = int(rng.integers(10, 100))
    elif scale < 0.85:
        n = int(rng.integers(1, 10) * 100 + rng.choice([0, 0, 50, int(rng.integers(1, 100))]))
    else:
        n = int(rng.integers(1, 100) * 1000 + rng.choice([0, 0, 500, int(rng.integers(1, 1000))]))
    return [(f"{n:,}", spell(n))]


def year(rng: np.random.Generator) -> list[Chunk]:
    """Return a year between 1900 and 2040."""
    n = int(rng.integers(1900, 2041))
    if 2000 <= n < 2010:
        return [(str(n), "two thousand" + (f" {spell(n % 100)}" if n % 100 else ""))]
    low = n % 100
    tail = "hundred" if low == 0 else f"oh {spell(low)}" if low < 10 else spell(low)
    return [(str(n), f"{spell(n // 100)} {tail}")]


def percent(rng: np.random.Generator) -> list[Chunk]:
    """Return a percentage, now and then with one decimal."""
    n = int(rng.integers(1, 101))
    if rng.random() < 0.2:
        digit = int(rng.integers(1, 10))
        return [(f"{n}.{digit}%", f"{spell(n)} point {spell(digit)} percent")]
    return [(f"{n}%", f"{spell(n)} percent")]


def money(rng: np.random.Generator) -> list[Chunk]:
    """Return an amount in dollars."""
    n = int(rng.choice([rng.integers(2, 100), rng.integers(1, 10) * 100, rng.integers(1, 90) * 1000]))
    return [(f"${n:,}", f"{spell(n)} dollars")]


def clock(rng: np.random.Generator) -> list[Chunk]:
    """Return a time of day: 3:30, 10:15 a.m., 4 p.m."""
    hour, minute = int(rng.integers(1, 13)), int(rng.choice([0, 15, 30, 45, 5, 10, 20, 25, 40, 50, 55]))
    half = str(rng.choice(["", "a.m.", "p.m."]))
    if minute == 0:
        chunks = [(f"{hour}", spell(hour))] if half else [(f"{hour}", spell(hour)), ("o'clock", "o'clock")]
    else:
        low = f"oh {spell(minute)}" if minute < 10 else spell(minute)
        chunks = [(f"{hour}:{minute:02d}", f"{spell(hour)} {low}")]
    return chunks + ([(half, " ".join(half.replace(".", "")))] if half else [])


def date(rng: np.random.Generator) -> list[Chunk]:
    """Return a date: May 5th, or May 5th 2024."""
    month, n = str(rng.choice(lexicon.MONTHS)), int(rng.integers(1, 32))
    chunks = [(month, month), ordinal_of(n)]
    return chunks + (year(rng) if rng.random() < 0.25 else [])


def ordinal_of(n: int) -> Chunk:
    """Return the written and spoken n-th."""
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}", spell_ordinal(n)


def digits(rng: np.random.Generator) -> list[Chunk]:
    """Return digits read one by one, each a word of its own: 4 7 1 9."""
    return [(str(d), "oh" if d == 0 and rng.random() < 0.3 else _SMALL[d]) for d in
            rng.integers(0, 10, size=int(rng.integers(3, 8))).tolist()]  # fmt: skip


def acronym(rng: np.random.Generator) -> list[Chunk]:
    """Return an abbreviation that is read letter by letter."""
    written = str(rng.choice(list(lexicon.ACRONYMS)))
    return [(written, lexicon.ACRONYMS[written])]
