"""What a fuzzing target is, and what counts as a crash."""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPU_S_MAX = 2.0
"""Of one input, with the slowdown of instrumented code and of a busy machine."""
REFUSAL_LENGTH_MAX = 4_096
"""Characters of a refusal, which is logged or sent."""


class Hung(AssertionError):
    """An input took more time on the processor than any may."""


DEEP = b"[" * 2_000
"""A word for formats that nest: deeper than Python's stack."""


@dataclass(frozen=True)
class Target:
    """One parser, and how it is fed."""

    feed: Callable[[bytes], None]
    """Gives the parser one input and checks what comes of it; raises what the parser raises."""
    refusals: tuple[type[Exception], ...]
    """What the parser's docstring says that it raises. Every other exception is a crash."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to begin from: some that are accepted, some that are refused."""
    words: tuple[bytes, ...] = ()
    """Pieces of the format, which chance alone would not find."""
    bytes_max: int = 8_192
    """Longer inputs are not made."""
    memory_bytes_max: int = 16 << 20
    """Python may hold at most so much for one input."""
    rss_mb_max: int = 512
    """The whole process, with its libraries."""
    n_suite: int = 100
    """Mutations that the test suite tries."""


def check(target: Target, data: bytes) -> bool:
    """Feed one input; whether it was accepted.

    Raises:
        Exception: The target crashed; an ``AssertionError`` if it accepted what it must not, or hung.
    """
    began_s = time.thread_time()
    is_accepted = True
    try:
        target.feed(data)
    except target.refusals as refusal:
        is_accepted = False
        length = len(str(refusal))
        assert 0 < length <= REFUSAL_LENGTH_MAX, f"a refusal of {length} characters"
    used_s = time.thread_time() - began_s
    if used_s > CPU_S_MAX:
        raise Hung(f"{used_s:.1f} s for {len(data)} bytes")
    return is_accepted


@cache
def scratch() -> Path:
    """A folder of this process for parsers that read files; whoever starts the process removes it."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def as_file(data: bytes, name: str = "input") -> Path:
    """The input in a file."""
    path = scratch() / name
    path.write_bytes(data)
    return path
