"""A bar chart of word error rates as SVG; pure."""

from collections.abc import Sequence
from html import escape

from stream_server.evaluation.result import Summary

NAME_PX = 260
BAR_PX = 420
VALUE_PX = 80
LINE_PX = 26
HEAD_PX = 44
NAME_MAX = 36
"""Characters; a longer name is cut."""
SCALE_MIN = 0.05
"""Error rate that at least fits, so that a single wrong word does not look like a disaster."""


def draw_chart(title: str, summaries: Sequence[Summary]) -> str:
    """Draw one bar for each summary that has words, longest bar full width."""
    rated = [(one.name, one.counts.wer) for one in summaries if one.counts.wer is not None]
    scale = max([SCALE_MIN, *(rate for _, rate in rated)])
    width, height = NAME_PX + BAR_PX + VALUE_PX, HEAD_PX + LINE_PX * len(rated) + LINE_PX // 2
    lines = [_bar(i, name, rate, scale) for i, (name, rate) in enumerate(rated)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="12" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
            *lines,
            "</svg>\n",
        ]
    )


def _bar(index: int, name: str, rate: float, scale: float) -> str:
    y = HEAD_PX + LINE_PX * index
    length = BAR_PX * rate / scale
    shown = name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…"
    return (
        f'<text x="{NAME_PX - 8}" y="{y + 15}" text-anchor="end">{escape(shown)}</text>'
        f'<rect x="{NAME_PX}" y="{y + 2}" width="{length:.1f}" height="{LINE_PX - 8}" fill="#3b6ea8"/>'
        f'<text x="{NAME_PX + length + 6:.1f}" y="{y + 15}">{rate:.1%}</text>'
    )
