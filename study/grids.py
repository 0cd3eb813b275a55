"""The runs behind the book's results: the main grid, the ablations, and the tuning before them."""

import math
from collections.abc import Iterable
from itertools import product
from typing import Any

import pandas as pd

from commons.errors import check
from commons.files import write_atomic
from sftrl_lib import results
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT, writable
from sftrl_lib.registry import ABLATIONS, TASKS
from sftrl_lib.runner import has_recorded_init, run_experiment, settings_of_init
from sftrl_lib.runs import LIVE, RUNS, find_run, is_done
from sftrl_lib.stats import DEVELOPMENT_SEEDS

from .ablations import SEEDS
from .registration import registration, sections
from .side_by_side import estimate, run_grid

STUDIED = ("gp-l", "virl-l", "gp-vl", "virl-vl")  # the paper's tasks
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # one grid for both arms
TUNING, TUNING_TABLE = LIVE / "tuning", ROOT / "data" / "tuning.csv"


def main_grid(task: str = "gp-l") -> list[Experiment]:
    """Both arms of every test seed at the preset's settings."""
    return [Experiment(task=task, method=m, seed=s) for s, m in product(SEEDS, ("rl", "sft"))]


def tuning_grid(task: str, seed: int = DEVELOPMENT_SEEDS[0]) -> list[Experiment]:
    """Both arms at every learning rate on a development seed, on the second edition's foundation
    model, at the length of the first edition's runs."""
    same: dict[str, Any] = {"eval_points": 3, "keep": "none", **registration()["common"]}
    return [
        Experiment(task=task, method=method, seed=seed, lr=lr, **same)
        for lr, method in product(LEARNING_RATES, ("rl", "sft"))
    ]


def tune(task: str, workers: int = 2, seed: int = DEVELOPMENT_SEEDS[0]) -> None:
    """The tuning grid of a task, measured on validation hands or routes alone: no OOD split and no
    test hand is looked at. Every attempt is a row of data/tuning.csv."""
    grid = tuning_grid(task, seed)
    make_inits(grid)
    own = grid[0].evaluation
    most = {"episodes": 2 * own.eval_episodes, "routes": 100}[TASKS[task].counted]
    curve, final = ({"validation": n} for n in (own.eval_episodes, most))
    run_grid(grid, TUNING, workers, final=final, curve=curve, kl=False)
    write_tuning()


def make_inits(runs: Iterable[Experiment]) -> None:
    """The recorded inits that runs start from, where they are not there yet."""
    for exp in runs:
        if not has_recorded_init(exp):
            init = Experiment(task=exp.task.name, method="init", **settings_of_init(exp))
            run_experiment(init, RUNS, final={})


def first_edition() -> list[tuple[str, list[Experiment], dict[str, int] | None]]:
    """(section, runs, splits of the last evaluation if not the full battery)."""
    whole = [(f"first edition: {task}", main_grid(task), None) for task in STUDIED]
    for name, ablation in ABLATIONS.items():
        splits = dict.fromkeys(TASKS[ablation.task].curve_splits, ablation.episodes)
        found = splits if ablation.episodes else None
        whole.append((f"first edition: {name}", ablation.grid(), found))
    return whole


def second_edition() -> list[tuple[str, list[Experiment], dict[str, int] | None]]:
    """The registered sections, in the same form."""
    return [(name, runs, None) for name, runs in sections().items()]


def book_runs(workers: int = 2, only_estimate: bool = False, only: str = "") -> None:
    """Make the registered runs that are not there yet (of one section with `only`), or only say
    how long each section would take."""
    wanted = [(name, runs, final) for name, runs, final in second_edition() if only in ("", name)]
    names = [name for name, *_ in second_edition()]
    check("the section", only, bool(wanted), names, change="--section")
    for name, runs, final in wanted:
        left = [exp for exp in runs if not is_done(find_run(exp, RUNS))]
        if only_estimate:
            seconds = estimate(left, RUNS)
            hours = f"{seconds / 3600:.1f} core-hours"
            known = "a time not yet known" if math.isnan(seconds) else hours
            print(f"{name}: {known}, for {len(left)} of {len(runs)} runs")
        elif left:
            writable(RUNS)  # said before hours of work
            make_inits(left)
            run_grid(left, RUNS, workers, final=final)
            results.write_results()


def write_tuning() -> None:
    """Add the tuning runs' last measurements to data/tuning.csv, where every attempt stays."""
    rows = results.results_table([TUNING], done_only=True)
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    if TUNING_TABLE.exists():
        before = results.load_results(TUNING_TABLE, paper=TUNING_TABLE / "none")
        rows = pd.concat([before[~before.run_id.isin(rows.run_id)], rows])
    write_atomic(TUNING_TABLE, rows.to_csv(index=False, lineterminator="\n"))
