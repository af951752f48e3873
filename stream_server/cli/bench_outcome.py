"""What ``bench`` was asked for, what came of it, and the files that keep it."""

import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stream_server import __version__
from stream_server.cli.machine import cpu_name
from stream_server.load.chart import draw_latency
from stream_server.load.result import RunResult
from stream_server.load.run import Settings
from stream_server.load.verdict import (
    PLANNED_P95_S_MAX,
    PLANNED_SHARE,
    Obstacle,
    find_obstacle,
    is_planned_reached,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for."""

    sessions: tuple[int, ...]
    find_limit: bool
    settings: Settings


STEP_SHARE = 0.5
"""Of a run's length, for a step of the search; only what confirms the limit is measured in full."""


def step_settings(settings: Settings) -> Settings:
    """Of a step of the search for the limit."""
    return replace(settings, measure_s=settings.measure_s * STEP_SHARE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All runs, and the limit when it was looked for and found."""

    runs: tuple[RunResult, ...]
    limit: int | None = None
    planned: RunResult | None = None
    """The last run, at the share of the limit to plan for; None when there is no limit."""

    @property
    def obstacle(self) -> Obstacle | None:
        """What stands in the way of more sessions, when the limit is known."""
        return None if self.limit is None else find_obstacle(self.runs)


def write_files(
    outcome: Outcome, manifest: str, server: str, wanted: Wanted, json_file: Path | None, plot: Path | None
) -> None:
    """Write the figures and the picture, where they are wanted."""
    if json_file is not None:
        encoded = msgspec.json.encode(_as_json(outcome, manifest, server, wanted))
        json_file.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    if plot is not None:
        plot.write_text(
            draw_latency("Final latency under load", outcome.runs, outcome.limit, outcome.planned),
            encoding="utf-8",
        )


def _as_json(outcome: Outcome, manifest: str, server: str, wanted: Wanted) -> dict[str, object]:
    obstacle = outcome.obstacle
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "manifest": manifest,
        "server": server,
        "settings": asdict(wanted.settings),
        "limit": outcome.limit,
        "planned": None if outcome.planned is None else _planned_json(outcome.planned),
        "obstacle": None if obstacle is None else _obstacle_json(obstacle),
        "runs": [_run_json(run) for run in outcome.runs],
    }


def _planned_json(run: RunResult) -> dict[str, object]:
    return {
        "share": PLANNED_SHARE,
        "sessions": run.sessions,
        "final": run.final,
        "p95_s_max": PLANNED_P95_S_MAX,
        "is_reached": is_planned_reached(run),
    }


def _obstacle_json(obstacle: Obstacle) -> dict[str, object]:
    return {"bound": obstacle.bound, "sessions": obstacle.run.sessions}


def _run_json(run: RunResult) -> dict[str, object]:
    return {**asdict(run), "is_carried": run.is_carried, "is_client_slow": run.is_client_slow}
