"""The second edition's runs and tests as they were registered before the runs began.

data/registration.json says, in this order: which foundation model and settings hold for all runs;
what each arm was tuned to on the development seeds; the sections of runs; the families of tests,
and when a claim counts as supported. Nothing in it may change once a run of it is recorded; what is
added later says so.
"""

import json
from functools import cache
from itertools import product
from typing import Any

import pandas as pd

from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS

REGISTRATION = ROOT / "data" / "registration.json"


@cache
def registration() -> dict[str, Any]:
    """The file as it is."""
    return json.loads(REGISTRATION.read_text(encoding="utf-8"))


def registered(task: str, method: str, seed: int, **more: Any) -> Experiment:
    """A run with the settings of its arm; `more` is what an experiment varies."""
    whole = registration()
    tuned = whole["arms"][task][METHODS[method].like or method]
    return Experiment(task=task, method=method, seed=seed, **whole["common"], **tuned, **more)


@cache
def sections() -> dict[str, list[Experiment]]:
    """{section: its runs}, in the order in which they are to run: all combinations of the listed
    settings, seed by seed, so that what is there after any number of hours is a smaller study. None
    where the task's arms are not chosen yet."""
    found: dict[str, list[Experiment]] = {}
    for name, parts in registration()["sections"].items():
        runs = [
            registered(**dict(zip(part, values, strict=True)))
            for part in parts
            if set(part["task"]) <= set(registration()["arms"])
            for values in product(*part.values())
        ]
        found[name] = sorted(runs, key=lambda exp: exp.seed)
    return found


def confirmed(table: pd.DataFrame, section: str) -> pd.DataFrame:
    """The recorded rows of a section, as every figure draws the protocol's grid: what its runs
    measured at the registered temperature, of the seeds of which every arm has ended."""
    runs = {exp.run_id: exp for exp in sections()[section]}
    rows = table[table.run_id.isin(runs) & (table.source == "ours")]
    rows = rows[~rows.condition.str.contains("eval_temperature", regex=False)]
    arms = {exp.method.name for exp in runs.values()}
    ended = rows[rows.method.isin(arms)].groupby("seed").method.nunique()
    whole = rows[rows.seed.isin(ended.index[ended == len(arms)])]
    drawn = whole.assign(foundation="default", condition="{}")
    drawn.attrs["edition"] = "second edition"
    return drawn
