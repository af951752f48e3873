"""Latency against sessions as SVG; pure."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import floor, log10

from stream_server.load.result import FINAL_P95_S_MAX, RunResult
from stream_server.load.verdict import PLANNED_SHARE

WIDTH_PX, HEIGHT_PX = 720, 400
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 64, 64, 64, 56
LINES = (("p50", "#7aa6d6"), ("p95", "#3b6ea8"), ("p99", "#1d3f66"))
LIMIT_COLOUR = "#b04a3b"
PLANNED_COLOUR = "#4a7d4a"
LATENCY_S_MAX = 4.0
"""Beyond this a point lies on the upper edge: by how much a caption is far too late does not matter."""
TICKS_MAX = 8
LABEL_PX = 14
"""Between the names of two lines."""


def draw_latency(
    title: str, runs: Sequence[RunResult], limit: int | None = None, planned: RunResult | None = None
) -> str:
    """Draw p50, p95 and p99 of final latency; of several runs with the same sessions the last one.

    Args:
        title: Stands above.
        runs: Those without a final are left out.
        limit: The most sessions that were carried, if that is known.
        planned: One of the runs, with as many sessions as an operator should plan for.
    """
    by_sessions = {run.sessions: run.final for run in runs if run.final is not None}
    points = sorted(by_sessions.items())
    most = max(by_sessions, default=1)
    highest_s = max([1.1 * FINAL_P95_S_MAX, *(final.p99_s for final in by_sessions.values())])
    top_s = min(LATENCY_S_MAX, 1.05 * highest_s)
    drawn = [*_grid(top_s, most), _lateness_line(top_s)]
    if limit:
        drawn += _limit_line(limit, most)
    if planned is not None and planned.final is not None:
        drawn += _planned_line(planned.sessions, planned.final.p95_s, most)
    ends = []
    for name, colour in LINES:
        values = [(_x(n, most), _y(getattr(final, f"{name}_s"), top_s)) for n, final in points]
        drawn.append(_line(colour, values))
        ends += [(y, name, colour) for _, y in values[-1:]]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" '
            f'width="{WIDTH_PX}" height="{HEIGHT_PX}" font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="12" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
            *drawn,
            *_names(ends),
            "</svg>\n",
        ]
    )


def _x(sessions: float, most: int) -> float:
    return LEFT_PX + (WIDTH_PX - LEFT_PX - RIGHT_PX) * sessions / most


def _y(seconds: float, top_s: float) -> float:
    height = HEIGHT_PX - TOP_PX - BOTTOM_PX
    return TOP_PX + height * (1 - min(seconds, top_s) / top_s)


def _ticks(most: float, least_step: float) -> list[float]:
    """Round numbers from 0 to at most ``most``: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(max(most / TICKS_MAX, least_step)))
    step = next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= TICKS_MAX)
    return [round(i * step, 6) for i in range(floor(most / step + 1e-9) + 1)]


def _grid(top_s: float, most: int) -> list[str]:
    right, bottom = WIDTH_PX - RIGHT_PX, HEIGHT_PX - BOTTOM_PX
    drawn = []
    for value_s in _ticks(top_s, 0.1):
        y = _y(value_s, top_s)
        drawn.append(f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e8e8e8"/>')
        drawn.append(f'<text x="{LEFT_PX - 8}" y="{y + 4:.1f}" text-anchor="end">{value_s:.1f} s</text>')
    for sessions in _ticks(most, 1):
        x = _x(sessions, most)
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{sessions:.0f}</text>')
    middle = (LEFT_PX + right) / 2
    drawn.append(
        f'<text x="{middle:.1f}" y="{HEIGHT_PX - 12}" text-anchor="middle" fill="#555555">'
        "sessions at real time; end of speech to final</text>"
    )
    return drawn


def _lateness_line(top_s: float) -> str:
    """What p95 may be."""
    y, right = _y(FINAL_P95_S_MAX, top_s), WIDTH_PX - RIGHT_PX
    return (
        f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{LIMIT_COLOUR}" '
        'stroke-dasharray="5 4"/>'
    )


def _limit_line(limit: int, most: int) -> list[str]:
    x, bottom = _x(limit, most), HEIGHT_PX - BOTTOM_PX
    return [
        f'<line x1="{x:.1f}" y1="{TOP_PX}" x2="{x:.1f}" y2="{bottom}" stroke="{LIMIT_COLOUR}" '
        'stroke-dasharray="5 4"/>',
        f'<text x="{x:.1f}" y="{TOP_PX - 6}" text-anchor="middle" fill="{LIMIT_COLOUR}">'
        f"limit: {limit}</text>",
    ]


def _planned_line(sessions: int, p95_s: float, most: int) -> list[str]:
    x, bottom = _x(sessions, most), HEIGHT_PX - BOTTOM_PX
    # Its text ends at the line, and stands above that of the limit: the two lie close together.
    return [
        f'<line x1="{x:.1f}" y1="{TOP_PX}" x2="{x:.1f}" y2="{bottom}" stroke="{PLANNED_COLOUR}" '
        'stroke-dasharray="2 4"/>',
        f'<text x="{x:.1f}" y="{TOP_PX - 6 - LABEL_PX}" text-anchor="end" fill="{PLANNED_COLOUR}">'
        f"{PLANNED_SHARE:.0%}: {sessions}, p95 {p95_s:.2f} s</text>",
    ]


def _line(colour: str, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _names(ends: Sequence[tuple[float, str, str]]) -> list[str]:
    """The names of the lines behind their last points, moved up where they would lie on each other."""
    lowest_first = sorted(ends, key=lambda end: (-end[0], end[1]))
    ys = [y for y, _, _ in lowest_first]
    for below, above in pairwise(range(len(ys))):
        ys[above] = min(ys[above], ys[below] - LABEL_PX)
    x = WIDTH_PX - RIGHT_PX + 8
    return [
        f'<text x="{x}" y="{y + 4:.1f}" fill="{colour}">{name}</text>'
        for y, (_, name, colour) in zip(ys, lowest_first, strict=True)
    ]
