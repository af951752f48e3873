"""What a search has found beside the limit: how it is below it, and what stood in the way; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from stream_server.load.result import RunResult

PLANNED_SHARE = 0.8
"""Of the limit: for how many sessions an operator should plan."""
PLANNED_P95_S_MAX = 0.7
"""How soon 95 of 100 finals should come then."""
_ENGINE_HOPS = ("queue", "batch", "decode")


class Bound(StrEnum):
    """What keeps more sessions from being carried."""

    REFUSED = "refused"
    """The server turned clients away."""
    FAILED = "failed"
    """Streams ended by errors, or finals were lost or doubled."""
    CLIENTS = "clients"
    """The clients were late themselves: the limit may be theirs and not the server's."""
    ENGINE = "engine"
    """Finals waited for the engine, or for their turn in it."""
    GATEWAY = "gateway"
    """Finals waited for speech detection, or to be sent: the server's own process."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a run was not carried."""

    bound: Bound
    run: RunResult


def planned_sessions(limit: int) -> int:
    """How many sessions to plan for where ``limit`` of them, at least one, are carried."""
    return max(1, int(PLANNED_SHARE * limit))


def is_planned_reached(run: RunResult) -> bool:
    """Whether finals come as soon as they should at the number of sessions planned for."""
    return run.is_carried and run.final is not None and run.final.p95_s <= PLANNED_P95_S_MAX


def find_obstacle(runs: Sequence[RunResult]) -> Obstacle | None:
    """What the smallest run that was not carried tells; None when all were, or nothing was measured."""
    failed = [run for run in runs if not run.is_carried and not run.is_interrupted]
    if not failed:
        return None
    smallest = min(failed, key=lambda run: run.sessions)
    bound = _bound_of(smallest)
    return None if bound is None else Obstacle(bound, smallest)


def _bound_of(run: RunResult) -> Bound | None:
    if run.refused:
        return Bound.REFUSED
    if run.failed or run.lost or run.doubled:
        return Bound.FAILED
    if run.final is None:
        return None
    if run.is_client_slow:
        return Bound.CLIENTS
    waits_s = {name: spread.p95_s for name, spread in run.hops.items() if name != "pause"}
    longest = max(waits_s, key=lambda name: waits_s[name], default="decode")
    return Bound.ENGINE if longest in _ENGINE_HOPS else Bound.GATEWAY
