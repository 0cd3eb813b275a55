"""The explorer of the HTML book: every recorded curve, and the episodes behind its points, as data
for book/_static/explorer.js."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from engine.presets import PRESETS
from sftrl_lib.places import writable
from sftrl_lib.registry import TASKS
from sftrl_lib.results import load_results
from sftrl_lib.runs import RUNS, Run, read_manifest

from . import plots
from .widgets import verdict_words

DIGITS = 4  # of what is drawn
SHOWN = 6  # episodes of a point and split that the page has


def curves(results: pd.DataFrame) -> dict[str, Any]:
    """{task and tier: splits and metrics in words, and of every arm, by split and metric, the
    points (seed, step, compute, value) of all seeds, and whose episodes they are}."""
    ours = results[results.source == "ours"]
    return {
        f"{task}, {preset}": _of_task(plots.Data(results, None, task, preset))
        for preset in PRESETS
        for task in TASKS
        if len(ours[(ours.task == task) & (ours.preset == preset)])
    }


def _of_task(data: plots.Data) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    tries = plots.explored_tries(data)
    for label, method, table in plots.explored(data):
        arms[label], runs[label] = {}, plots.runs_behind(table, method)
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
        "runs": runs,
        "pictures": bool(data.kind.pictures),
        "splits": {split: data.where(split) for split in sorted({k[0] for k in keys})},
        "metrics": {metric: data.label(metric) for metric in sorted({k[1] for k in keys})},
        "headline": f"id_unseen {data.head}",
        "tries": int(tries),
    }


def episodes(run: Run) -> dict[str, Any]:
    """What the page shows of a run: its questions, each once, and by point ("start" or the step)
    and split the answers to them: [question, [[answer, verdict in words, solved], ...]]."""
    own, questions, points = run.manifest["config"]["method"], {}, {}
    for row in run.episodes():
        is_start = row.get("method", own) in ("init", "base")
        there = points.setdefault("start" if is_start else str(row["step"]), {})
        shown = there.setdefault(row["split"], [])
        if len(shown) < SHOWN:
            number = questions.setdefault(row["prompt"], len(questions))
            turns = zip(row["turns"], row["verdicts"], strict=True)
            said = [[text, verdict_words(v), v["reason"] == "solved"] for text, v in turns]
            shown.append([number, said])
    return {"questions": list(questions), "points": points}


def export(static: Path, results: pd.DataFrame | None = None) -> None:
    """Write what book/_static/explorer.js reads: the curves, and a file a run, which the page
    loads when a reader asks for an episode of it."""
    results = load_results(yours=None) if results is None else results
    tasks, folder = curves(results), writable(static / "explorer")
    behind = [
        pair for task in tasks.values() for arm in task["runs"].values() for pair in arm.values()
    ]
    for name in sorted({name for pair in behind for name in pair if name}):
        if (RUNS / name).is_dir():
            told = episodes(Run(RUNS / name, read_manifest(RUNS / name)))
            _write(folder / f"{name}.js", f"explorer.episodes[{json.dumps(name)}]", told)
    _write(folder / "rows.js", "explorer.tasks", tasks)


def _write(path: Path, name: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    path.write_text(f"{name} = {text};\n", encoding="utf-8")
