"""Processor time and memory of a process and all its descendants, from ``/proc`` (Linux)."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a tree of processes has used so far."""

    at_s: float
    """Monotonic seconds."""
    cpu_s: float
    memory_bytes: int
    """Proportional set size: memory that processes share is divided among them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree of processes used during a measurement."""

    cores: float
    """Processor time per time."""
    memory_bytes: int
    """The most that was seen."""


def parse_stat(text: str) -> tuple[int, int]:
    """Parent and processor time, in ticks, of one ``/proc/PID/stat``; proc(5).

    The name in parentheses may hold anything, also parentheses.
    """
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]) + int(fields[12])


def parse_rollup(text: str) -> int:
    """Bytes of ``Pss`` in one ``/proc/PID/smaps_rollup``; 0 for a process that has no memory any more."""
    lines = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def read_usage(roots: Iterable[int]) -> Sample | None:
    """Sum over the processes in ``roots`` and all their descendants; None when none of them is left.

    Raises:
        PermissionError: One of them belongs to another user.
    """
    stats = dict(_all_stats())
    children: dict[int, list[int]] = defaultdict(list)
    for pid, (parent, _) in stats.items():
        children[parent].append(pid)
    tree, waiting = set[int](), [pid for pid in roots if pid in stats]
    while waiting:
        pid = waiting.pop()
        tree.add(pid)
        waiting += children[pid]
    if not tree:
        return None
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    cpu_s = sum(stats[pid][1] for pid in tree) / ticks_per_s
    return Sample(time.monotonic(), cpu_s, sum(map(_memory_bytes, tree)))


def _all_stats() -> Iterable[tuple[int, tuple[int, int]]]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            text = _read(folder / "stat")
            if text:
                yield int(folder.name), parse_stat(text)


def _memory_bytes(pid: int) -> int:
    return parse_rollup(_read(PROC / str(pid) / "smaps_rollup"))


def _read(path: Path) -> str:
    """The file's text; empty for a process that ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Meter:
    """Usage between two moments.

    Args:
        roots: The processes whose trees are measured.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._first: Sample | None = None
        self._last: Sample | None = None
        self._memory_bytes = 0

    def sample(self) -> None:
        """Look once; the first and the last look bound the measurement.

        Raises:
            PermissionError: See ``read_usage``.
        """
        found = read_usage(self._roots)
        if found is not None:
            self._first = self._first or found
            self._last = found
            self._memory_bytes = max(self._memory_bytes, found.memory_bytes)

    @property
    def usage(self) -> Usage | None:
        """None before the second look."""
        if self._first is None or self._last is None or self._last.at_s <= self._first.at_s:
            return None
        cores = (self._last.cpu_s - self._first.cpu_s) / (self._last.at_s - self._first.at_s)
        return Usage(cores, self._memory_bytes)
