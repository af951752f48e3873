"""What a part of the product holds and does, counted: nothing here depends on the machine's speed."""

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

_SHARED = (type, ModuleType, FunctionType, MethodType, CodeType, FrameType)
"""What every part of a program refers to, and none holds."""


def held_bytes(*roots: object) -> int:
    """Bytes of all objects that can be reached from ``roots``, each counted once."""
    seen: set[int] = set()
    waiting: list[object] = list(roots)
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


def steps_of(work: Callable[[], None]) -> int:
    """How many lines of Python ``work`` runs, those of loops each time."""
    n_steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:  # as sys.settrace wants it
        nonlocal n_steps
        n_steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return n_steps
