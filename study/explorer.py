"""The explorer of the HTML book: every recorded curve as data for book/_static/explorer.js."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from engine.presets import PRESETS
from sftrl_lib.places import writable
from sftrl_lib.registry import TASKS
from sftrl_lib.results import load_results

from . import plots

DIGITS = 4  # of what is drawn


def curves(results: pd.DataFrame) -> dict[str, Any]:
    """{task and tier: splits and metrics in words, and of every arm, by split and metric, the
    points (seed, step, compute, value) of all seeds}."""
    ours = results[results.source == "ours"]
    return {
        f"{task}, {preset}": _of_task(plots.Data(results, None, task, preset))
        for preset in PRESETS
        for task in TASKS
        if len(ours[(ours.task == task) & (ours.preset == preset)])
    }


def _of_task(data: plots.Data) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    tries = plots.explored_tries(data)
    for label, method, table in plots.explored(data):
        arms[label] = {}
        for (split, metric), rows in table.groupby(["split", "metric"]):
            points = plots.points(rows, method, split, metric, "step", tries)
            if method in set(rows.method):
                arms[label][f"{split} {metric}"] = [
                    [int(p.seed), int(p.step), float(f"{p.compute:.3g}"), round(float(p.y), DIGITS)]
                    for p in points.itertuples()
                ]
    keys = [key.split() for arm in arms.values() for key in arm]
    return {
        "arms": arms,
        "splits": {split: data.where(split) for split in sorted({k[0] for k in keys})},
        "metrics": {metric: data.label(metric) for metric in sorted({k[1] for k in keys})},
        "headline": f"id_unseen {data.head}",
        "tries": int(tries),
    }


def export(static: Path, results: pd.DataFrame | None = None) -> None:
    """Write what book/_static/explorer.js reads."""
    results = load_results(yours=None) if results is None else results
    text = json.dumps(curves(results), separators=(",", ":"))
    path = writable(static / "explorer") / "rows.js"
    path.write_text(f"explorer.tasks = {text};\n", encoding="utf-8")
