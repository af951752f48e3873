"""How many sessions to try next; pure."""

from collections.abc import Mapping
from math import ceil

RESOLUTION = 0.1


def carried_by(outcomes: Mapping[int, bool]) -> int:
    """The most sessions that were carried below the fewest that were not; 0 when there are none."""
    failed = _fewest_failed(outcomes)
    return max((n for n in outcomes if failed is None or n < failed), default=0)


def next_sessions(outcomes: Mapping[int, bool], first: int, most: int) -> int | None:
    """Doubles until a run fails, then halves the range until it is a tenth; None when the limit is known.

    Args:
        outcomes: Sessions → whether they were carried.
        first: The sessions of the first run.
        most: Never asks for more.
    """
    best = carried_by(outcomes)
    failed = _fewest_failed(outcomes)
    if failed is None:
        wanted = min(most, max(first, 2 * best))
        return wanted if wanted > best else None
    return (best + failed) // 2 if failed - best > max(1, ceil(RESOLUTION * best)) else None


def _fewest_failed(outcomes: Mapping[int, bool]) -> int | None:
    return min((n for n, is_carried in outcomes.items() if not is_carried), default=None)
