"""What ``benchmarks.engine`` has found, as lines for people."""

from collections.abc import Iterator
from dataclasses import dataclass

DEMO = "demo-en"

OURS, OTHER_LOOP, DRAFT, ENCODER, SEQUENTIAL, BATCHED, OTHER = (
    "ours",
    "ours, by the other loop",
    "ours, draft holds",
    "ours, encoder alone",
    "whisper.decode, one by one",
    "whisper.decode, batch",
    "CTranslate2",
)
TARGETS = (
    # shape, way, context, at least so many times one whisper.decode after the other at 30 s
    (DEMO, OURS, "full", 1.5),
    (DEMO, OURS, "fit", 8.0),
    (DEMO, DRAFT, "fit", 14.0),
    ("tiny", OURS, "fit", 8.0),
)


@dataclass(frozen=True, slots=True)
class Line:
    """What was found of one way."""

    shape: str
    way: str
    context: str
    batch: int
    windows_per_s: float | None
    times_sequential: float | None
    """Median ratio to ``whisper.decode`` one by one at 30 s."""
    times_floor: float | None
    """Median ratio of its time to the arithmetic floor."""
    tokens_agree: float | None
    """Share of windows whose tokens are those of ``whisper.decode`` at this context."""
    refused: str | None


def table(lines: list[Line]) -> Iterator[str]:
    """The lines for people."""
    yield (
        f"{'shape':15}{'way':28}{'context':>8}{'batch':>6}{'windows/s':>11}{'x sequential':>14}"
        f"{'x floor':>9}{'same tokens':>13}"
    )
    for line in lines:
        head = f"{line.shape:15}{line.way:28}{line.context:>8}{line.batch or '':>6}"
        if line.windows_per_s is None:
            yield f"{head}  {line.refused}"
            continue
        same = "" if line.tokens_agree is None else f"{line.tokens_agree:13.0%}"
        yield (f"{head}{line.windows_per_s:11.2f}{line.times_sequential:14.2f}{line.times_floor:9.1f}{same}")


def verdicts(lines: list[Line]) -> Iterator[str]:
    """What was aimed at, and whether it is reached."""
    for shape, way, context, least in TARGETS:
        ratios = [
            line.times_sequential
            for line in lines
            if (line.shape, line.way, line.context) == (shape, way, context) and line.times_sequential
        ]
        if not ratios:
            continue
        reached = "yes" if max(ratios) >= least else "no"
        yield (
            f"{shape}, {way}, {context}: {max(ratios):.1f} times {SEQUENTIAL} at 30 s, "
            f"aim {least:g}: reached {reached}"
        )


def comparisons(lines: list[Line]) -> Iterator[str]:
    """How fast the engine is beside its other loop and CTranslate2, plainly and where a draft holds."""
    found = {(line.shape, line.way, line.context, line.batch): line.times_sequential for line in lines}
    for (shape, way, context, batch), other in found.items():
        if way == OTHER_LOOP and other:
            gain = (found[shape, OURS, context, batch] or 0.0) / other
            yield f"{shape}, {context}, batch of {batch}: {gain:.2f} times as fast as by the other loop"
    for (shape, way, context, batch), theirs in found.items():
        if way != OTHER or not theirs:
            continue
        plain, drafted = (found[shape, name, context, batch] or 0.0 for name in (OURS, DRAFT))
        yield (
            f"{shape}, {context}, batch of {batch}: {plain / theirs:.2f} times {OTHER}, "
            f"{drafted / theirs:.2f} where a draft holds"
        )
