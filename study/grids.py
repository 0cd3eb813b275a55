"""The runs behind the book's results: the main grid, the ablations, and the tuning before them."""

import math
from itertools import product
from typing import Any

import pandas as pd

from sftrl_lib import results
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.registry import ABLATIONS, TASKS
from sftrl_lib.runner import run_experiment
from sftrl_lib.runs import LIVE, RUNS, write_atomic
from sftrl_lib.stats import DEVELOPMENT_SEEDS

from .ablations import SEEDS
from .side_by_side import estimate, run_grid

STUDIED = ("gp-l", "virl-l", "gp-vl", "virl-vl")  # the paper's tasks
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3)  # one grid for both arms
TUNING, TUNING_TABLE = LIVE / "tuning", ROOT / "data" / "tuning.csv"


def main_grid(task: str = "gp-l") -> list[Experiment]:
    """Both arms of every test seed at the preset's settings."""
    return [Experiment(task=task, method=m, seed=s) for s, m in product(SEEDS, ("rl", "sft"))]


def tuning_grid(task: str) -> list[Experiment]:
    """Both arms at every learning rate on the development seeds."""
    return [
        Experiment(task=task, method=method, seed=seed, lr=lr, eval_points=4)
        for seed, lr, method in product(DEVELOPMENT_SEEDS[:2], LEARNING_RATES, ("rl", "sft"))
    ]


def grids(tuning: bool = False) -> list[tuple[list[Experiment], Any, dict[str, int] | None]]:
    """(runs, folder, splits of the last evaluation if not the full battery) of the book, or of the
    tuning before it."""
    if tuning:
        found = []
        for task in STUDIED:
            grid = tuning_grid(task)
            episodes = grid[0].evaluation.eval_episodes
            found.append((grid, TUNING, dict.fromkeys(TASKS[task].curve_splits, episodes)))
        return found
    whole = [(main_grid(task), RUNS, None) for task in STUDIED]
    for ablation in ABLATIONS.values():
        splits = dict.fromkeys(TASKS[ablation.task].curve_splits, ablation.episodes)
        whole.append((ablation.grid(), RUNS, splits if ablation.episodes else None))
    return whole


def book_runs(workers: int = 2, only_estimate: bool = False, tuning: bool = False) -> None:
    """Make every run that the book shows, or only say how long it would take. With `tuning` the
    grid of learning rates on the development seeds, added to data/tuning.csv."""
    wanted = grids(tuning)
    if only_estimate:
        left = sum(estimate(grid, root) for grid, root, _ in wanted)
        known = "a time not yet known" if math.isnan(left) else f"{left / 60:.0f} core-minutes"
        print(f"{known} left of {sum(len(grid) for grid, _, _ in wanted)} runs")
        return
    for task in STUDIED:  # an init's measurements belong to each seed's runs
        run_experiment(Experiment(task=task, method="init"), RUNS, final={})
    for grid, root, final in wanted:
        run_grid(grid, root, workers, final)
    if tuning:
        write_tuning()
    else:
        results.write_results()


def write_tuning() -> None:
    """Add the tuning runs' last measurements to data/tuning.csv, where every attempt stays."""
    rows = results.results_table([TUNING], done_only=True)
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    if TUNING_TABLE.exists():
        before = results.load_results(TUNING_TABLE, paper=TUNING_TABLE / "none")
        rows = pd.concat([before[~before.run_id.isin(rows.run_id)], rows])
    write_atomic(TUNING_TABLE, rows.to_csv(index=False, lineterminator="\n"))
