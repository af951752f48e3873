"""Error rates for a model's manifest: the command ``stream-server evaluate`` measures, this notes them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class EvaluationFailed(RuntimeError):
    """Not everything could be measured; what the command said stands above."""


def note(folder: Path, recordings: Path | None) -> Path:
    """Measure the model in ``folder`` on recordings and write the rates into its manifest.

    Args:
        folder: With ``manifest.json`` and the weights.
        recordings: A list of recordings; None: those that the package carries, held out from training.

    Returns:
        The manifest's path.

    Raises:
        EvaluationFailed: A recording could not be measured, or the model not be read; nothing is written.
    """
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        result = Path(temporary) / "result.json"
        listed = [] if recordings is None else [str(recordings)]
        arguments = ["evaluate", *listed, "--group", "condition"]
        command = [sys.executable, "-m", "stream_server", *arguments]
        run = subprocess.run([*command, "--model", str(folder), "--json", str(result)], check=False)
        if run.returncode:
            raise EvaluationFailed(f"stream-server evaluate ended with {run.returncode}; nothing was noted")
        measured = summary(json.loads(result.read_text()))
    measured["command"] = " ".join(["stream-server", *arguments, "--model DIR"])
    manifest.setdefault("measured", {})["recordings"] = measured
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    partial.replace(path)
    return path


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Return what of the evaluation's result belongs into a manifest: rates of all and of each condition."""
    return {
        "date": result["date"][:10],
        "cpu": result["cpu"],
        "versions": result["versions"],
        "invented_words": result["all"]["invented_words"],
        "all": _rates(result["all"]),
        "conditions": {one["name"]: _rates(one) for one in result["groups"] if one["words"]},
    }


def _rates(figures: dict[str, Any]) -> dict[str, Any]:
    rates = {name: round(figures[name], 4) for name in ("wer", "cer", "real_time_factor")}
    return {"files": figures["files"], "words": figures["words"], **rates}
