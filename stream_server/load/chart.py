"""Latency against sessions as SVG; pure."""

from collections.abc import Sequence
from html import escape
from math import ceil

from stream_server.load.result import FINAL_P95_S_MAX, RunResult

WIDTH_PX, HEIGHT_PX = 720, 400
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 60, 90, 48, 48
LINES = (("p50", "#7aa6d6"), ("p95", "#3b6ea8"), ("p99", "#1d3f66"))
LATENCY_S_MAX = 4.0
"""Beyond this a point lies on the upper edge: by how much a caption is far too late does not matter."""
GRID_LINES = 5


def draw_latency(title: str, runs: Sequence[RunResult]) -> str:
    """Draw p50, p95 and p99 of final latency; runs without a final are left out."""
    points = sorted((run.sessions, run.final) for run in runs if run.final is not None)
    most = max((sessions for sessions, _ in points), default=1)
    highest_s = max([FINAL_P95_S_MAX, *(final.p99_s for _, final in points if final)])
    top_s = min(LATENCY_S_MAX, ceil(highest_s * 1.1 * 4) / 4)
    lines = [*_grid(top_s, most), _limit(top_s)]
    for name, colour in LINES:
        values = [(sessions, getattr(final, f"{name}_s")) for sessions, final in points]
        lines.append(_line(name, colour, [(_x(n, most), _y(value, top_s)) for n, value in values]))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" '
            f'width="{WIDTH_PX}" height="{HEIGHT_PX}" font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="12" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
            *lines,
            "</svg>\n",
        ]
    )


def _x(sessions: int, most: int) -> float:
    return LEFT_PX + (WIDTH_PX - LEFT_PX - RIGHT_PX) * sessions / most


def _y(seconds: float, top_s: float) -> float:
    height = HEIGHT_PX - TOP_PX - BOTTOM_PX
    return TOP_PX + height * (1 - min(seconds, top_s) / top_s)


def _grid(top_s: float, most: int) -> list[str]:
    right, bottom = WIDTH_PX - RIGHT_PX, HEIGHT_PX - BOTTOM_PX
    lines = []
    for i in range(GRID_LINES + 1):
        value_s, sessions = top_s * i / GRID_LINES, round(most * i / GRID_LINES)
        y, x = _y(value_s, top_s), _x(sessions, most)
        lines.append(f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{LEFT_PX - 8}" y="{y + 4:.1f}" text-anchor="end">{value_s:.2f} s</text>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{sessions}</text>')
    middle = (LEFT_PX + right) / 2
    lines.append(
        f'<text x="{middle:.1f}" y="{HEIGHT_PX - 10}" text-anchor="middle">sessions at real time; '
        "end of speech to final</text>"
    )
    return lines


def _limit(top_s: float) -> str:
    y = _y(FINAL_P95_S_MAX, top_s)
    right = WIDTH_PX - RIGHT_PX
    return (
        f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#b04a3b" '
        'stroke-dasharray="5 4"/>'
    )


def _line(name: str, colour: str, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    x, y = points[-1]
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
        f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>'
    )
