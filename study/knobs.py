"""One setting turned: which there are, what a short run with it costs, and its curve over the
recorded band. `study.panel` puts menus before these functions."""

import math
from collections.abc import Mapping
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import matplotlib as mpl
import numpy as np
import pandas as pd

from sftrl_lib import stats
from sftrl_lib.cli import assignment
from sftrl_lib.experiment import Experiment, sections
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.runs import (
    RUNS,
    YOURS,
    Run,
    experiment_of,
    find_run,
    is_done,
    read_manifest,
    run_folders,
)

from . import plots
from .side_by_side import estimate, known_times, steps_done

TRAINING = "training"  # stands where a split would: the log, a row a step
LOGGED = {
    "reward": "reward of an episode",
    "solved": "share of episodes solved",
    "entropy": "entropy of a token (nats)",
    "loss": "loss",
    "trained_rows": "share of rows with an advantage",
}
STEPS = 8
# Fewer answers a step than the recorded arms have, and coarser measurements: less than a minute.
SHORT = {"batch": 64, "eval_points": 4, "eval_episodes": 50, "final_episodes": 50}
ROUTES = {"eval_episodes": 8, "final_episodes": 8}  # each of which is many answers


def knobs(task: str, method: str) -> dict[str, Any]:
    """{name: pydantic's FieldInfo} of every setting that a run of this arm has, the method's
    first; those of which the panel has fields of its own are left out."""
    own = sections(task, method)
    order = ("method", "task", "model", "evaluation", "machine")
    found = {name: field for part in order for name, field in own[part].model_fields.items()}
    return {name: field for name, field in found.items() if name not in ("name", "steps", "preset")}


def choices(field: Any) -> list[Any]:
    """The values that a setting may have, where they can be listed."""
    if field.annotation is bool:
        return [False, True]
    return list(get_args(field.annotation)) if get_origin(field.annotation) is Literal else []


def typed(task: str, method: str, name: str, text: str) -> Any:
    """What a reader typed, as the setting's type asks for it; None for nothing."""
    text = text.strip()
    if not text:
        return None
    return text if knobs(task, method)[name].annotation is str else assignment(f"{name}={text}")[1]


def short(task: str, method: str, preset: str = "tiny", **changed: Any) -> Experiment:
    """A run of an arm that is as the recorded one, but short, with some settings changed."""
    coarse = SHORT | (ROUTES if TASKS[task].headline == "per_step" else {})
    given = {"steps": STEPS, **coarse, **changed}
    if "eval_episodes" in changed and "final_episodes" not in changed:
        given["final_episodes"] = changed["eval_episodes"]  # its last point is like the others
    return Experiment(task=task, method=method, preset=preset, **given)


def title(exp: Experiment) -> str:
    """The name of a run: its method, what was changed, its length and its seed."""
    fixed = {"steps": exp.method.steps, "seed": exp.seed}
    usual = short(exp.task.name, exp.method.name, exp.model.preset, **fixed).flat
    turned = [f"{name}={value}" for name, value in exp.flat.items() if value != usual[name]]
    if exp.evaluation.final_episodes == exp.evaluation.eval_episodes:
        turned = [one for one in turned if not one.startswith("final_episodes=")]
    said = [plots.name_of(exp.method.name), *turned, f"{exp.method.steps} steps"]
    return ", ".join([*said, f"seed {exp.seed}"])


@cache
def _recorded_times() -> dict[tuple, list]:
    return known_times(RUNS, YOURS)  # many files, and the panel asks at every turn


def seconds_left(exp: Experiment, root: Path) -> float:
    """Seconds that a run has still to go: as your runs in `root` took, which are of this machine
    and as short, and else as the recorded ones took; nan where there is nothing like it."""
    total = estimate([exp], root, known_times(root))
    if math.isnan(total):
        total = estimate([exp], root, _recorded_times())
    return total * (1 - steps_done(exp, find_run(exp, root)) / exp.method.steps)


def price(exp: Experiment, root: Path) -> str:
    """What a run costs, in words."""
    if is_done(find_run(exp, root)):
        return "This run is finished: Start shows it."
    seconds, done = seconds_left(exp, root), steps_done(exp, find_run(exp, root))
    took = "an unknown time: no run like it was finished before"
    if not math.isnan(seconds):
        took = f"about {max(5, 5 * round(seconds / 5)):,} seconds"
    if done:
        return f"Stopped at step {done} of {exp.method.steps}; Start goes on, for {took}."
    return f"Start takes {took}, and some seconds to begin."


def kept_runs(root: Path, task: str = "", preset: str = "") -> dict[str, Run]:
    """{name: run} of the panel's runs, finished or not, in the order of their names."""
    found = {}
    for folder in run_folders(root):
        run = Run(folder, read_manifest(folder))
        exp = experiment_of(run.manifest["config"])
        if task in ("", exp.task.name) and preset in ("", exp.model.preset):
            found[title(exp)] = run
    return dict(sorted(found.items()))


def logged(method: str) -> dict[str, str]:
    """{column: label} of what the log of a method's runs can be asked for, the best first."""
    own = LOGGED if METHODS[method].stage == "rl" else ("loss", "entropy")
    return {name: LOGGED[name] for name in own}


def _log(run: Run, column: str) -> pd.DataFrame:
    log = run.metrics()
    if column not in log:
        return pd.DataFrame(columns=["seed", "step", "x", "y", "lo", "hi"])
    rows = pd.DataFrame({"seed": run.manifest["config"]["seed"], "step": log.step, "x": log.step})
    return rows.assign(y=log[column], lo=np.nan, hi=np.nan)


def _recorded(data: plots.Data, method: str, split: str, metric: str, x: str) -> pd.DataFrame:
    """The points of all recorded seeds of an arm: seed, step, x, y."""
    arm = data.grid[data.grid.method == method]
    if split != TRAINING:
        return plots.points(data.grid, method, split, metric, x, data.tries)
    logs = []
    for source, name in sorted(set(zip(arm.source, arm.run_id, strict=True))):
        folder = (RUNS if source == "ours" else YOURS) / name
        logs.append(_log(Run(folder, read_manifest(folder)), metric))
    return pd.concat(logs) if logs else pd.DataFrame(columns=["seed", "step", "x", "y"])


def band(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95% interval over seeds at every step that all of them have: x, y, lo, hi."""
    seeds, found = rows.seed.nunique(), []
    for _, step in rows.groupby("step"):
        if len(step) == seeds:
            found.append((step.x.astype(float).mean(), *stats.seed_mean(list(step.y))))
    return pd.DataFrame(found, columns=["x", "y", "lo", "hi"])


def knob_figure(
    runs: Mapping[str, Run],
    results: pd.DataFrame,
    task: str = "gp-l",
    method: str = "rl",
    split: str = "rule_ood",
    metric: str = plots.HEAD,
    x: str = "step",
    preset: str = "tiny",
) -> plots.Figure:
    """Runs by name, each a line with its own intervals, over the recorded seeds of the same arms: a
    mean and a band of 95% each. `split` is one of the task's, or TRAINING with a column of the log.
    """
    evals = [run.evals() for run in runs.values()]
    live = plots.stack(*evals) if evals else results.iloc[:0]
    data = plots.Data(results, live, task, preset)
    metric, in_log = data.head if metric == plots.HEAD else metric, split == TRAINING
    x = "step" if in_log else x
    what = LOGGED[metric] if in_log else data.label(metric)
    heading = f"{data.tier}: {what}, {'in training' if in_log else data.where(split)}"
    arms = dict.fromkeys([method, *(run.manifest["config"]["method"] for run in runs.values())])
    said, ends = [], [0.0]
    with mpl.rc_context(plots.RC):
        figure, (axis,) = plots.frame(heading, _caption(runs, in_log), [2.2])
        for arm in arms:
            rows = _recorded(data, arm, split, metric, x)
            mean, color = band(rows), plots.style_of(arm)["color"]
            if len(mean):
                batch = Experiment(task=task, method=arm, preset=preset).method.batch
                label = f"{plots.name_of(arm)}: {rows.seed.nunique()} recorded seeds, batch {batch}"
                axis.fill_between(mean.x, mean.lo, mean.hi, color=color, alpha=0.18, linewidth=0)
                axis.plot(mean.x, mean.y, color=color, linewidth=2.2, label=label)
                said.append(f"{label}, from {mean.y.iloc[0]:.3g} to {mean.y.iloc[-1]:.3g}")
        for (name, run), style in zip(runs.items(), cycle(reversed(plots.SPARE)), strict=False):
            rows = _points_of(data, run, split, metric, x)
            if len(rows):
                bars = [(rows.y - rows.lo).fillna(0), (rows.hi - rows.y).fillna(0)]
                look = style | ({"marker": ""} if in_log else {})
                axis.errorbar(rows.x, rows.y, bars, label=name, elinewidth=0.8, zorder=4, **look)
                said.append(f"{name}, {rows.y.iloc[-1]:.3g} at step {rows.step.iloc[-1]:.0f}")
                ends.append(float(rows.x.max()))
        _framed(axis, max(ends), in_log)
        axis.set(xlabel=plots.X_AXES[x], ylabel=what)
        words = "; ".join(said or ["nothing recorded, and nothing run yet"])
        return plots.finish(figure, f"{heading}, against {plots.X_AXES[x]}. {words}.")


def _caption(runs: Mapping[str, Run], in_log: bool) -> str:
    parts = ["band: 95% of the mean over recorded seeds"]
    if runs and not in_log:
        parts.append("bars: 95% of one measurement")
    if batches := sorted({run.manifest["config"]["batch"] for run in runs.values()}):
        parts.append(f"your runs: batch {', '.join(map(str, batches))}")
    return "; ".join(parts)


def _points_of(data: plots.Data, run: Run, split: str, metric: str, x: str) -> pd.DataFrame:
    """A run's own points, from its seed's init on, with intervals (shares in percent)."""
    if split == TRAINING:
        return _log(run, metric)
    method, rows = run.manifest["config"]["method"], plots.stack(data.init, run.evals())
    found = plots.points(rows, method, split, metric, x, data.tries)
    found = found[(found.seed == run.manifest["config"]["seed"])].copy()
    percent = 1 if metric == "kl_to_init" else 100
    found["lo"], found["hi"] = found.lo * percent, found.hi * percent
    return found.astype({"x": float, "y": float}) if len(found) else found


def _framed(axis: Any, end: float, in_log: bool) -> None:
    """Show twice as far as the runs went: they are shorter than the recorded ones."""
    low, high = axis.get_xlim()
    if 0 < 2 * end < high:
        left = 0 if end < 1e6 else low
        axis.set_xlim(left - (2 * end - left) * 0.03, 2 * end)
    if not in_log:
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    if not axis.lines and not axis.collections:
        axis.set_xlim(0, STEPS)
