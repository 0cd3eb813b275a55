"""The results table: every measurement of the recorded runs, the paper's numbers, and yours."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from commons.errors import SftrlError
from commons.files import write_atomic

from .experiment import Experiment
from .places import ROOT
from .runs import RUNS, YOURS, experiment_of, read_manifest, read_rows, run_folders

RESULTS = ROOT / "data" / "results.csv"
PAPER = ROOT / "data" / "paper.csv"
REBUILD = "python -m sftrl_lib experiments"  # makes the recorded runs and the results table

COLUMNS = [
    "task", "method", "preset", "foundation", "seed", "step", "lr", "train_tries", "condition",
    "compute", "compute_done", "split", "metric", "tries", "successes", "n", "value", "lo", "hi",
    "run_id", "source",
]  # fmt: skip
_WHOLE = ("seed", "step", "train_tries", "tries", "successes", "n")
_REAL = ("lr", "compute", "compute_done", "value", "lo", "hi")
# What identifies the arm, or only decides how precisely it is measured. Every other setting that
# differs from the arm's defaults goes into `condition`: "{}" is the main grid and nothing else.
_NOT_A_CONDITION = {"task", "method", "preset", "foundation", "seed"}


def condition(exp: Experiment, data: Mapping[str, str]) -> str:
    """JSON of the settings in which an experiment differs from its arm's defaults; "{}" is the
    main grid. Settings with a column of their own (lr, tries) are in it too when they differ; of
    routes, which they were (`data`) and not where they lay."""
    beside = {*type(exp.evaluation).model_fields, *type(exp.machine).model_fields}
    changed = {**exp.differences, **data}
    other = {k: v for k, v in changed.items() if k not in _NOT_A_CONDITION | beside}
    return json.dumps(other, sort_keys=True)


def _rows(folder: Path, manifest: Mapping[str, Any], source: str = "ours") -> list[dict[str, Any]]:
    exp = experiment_of(manifest["config"])
    arm = {
        "task": exp.task.name,
        "method": exp.method.name,
        "preset": exp.model.preset,
        "foundation": exp.model.foundation,
        "seed": exp.seed,
        "lr": exp.method.lr,
        "train_tries": getattr(exp.method, "tries", 1),
        "condition": condition(exp, manifest.get("data", {})),
        "run_id": folder.name,
        "source": source,
    }
    rows = read_rows(folder, manifest, "evals.jsonl")
    return [arm | _at_temperature(str(arm["condition"]), row) for row in rows]


def _at_temperature(condition: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row that was measured at another temperature than its run's says so in its condition."""
    if "eval_temperature" not in row:
        return row
    other = json.loads(condition) | {"eval_temperature": row["eval_temperature"]}
    return row | {"condition": json.dumps(other, sort_keys=True)}


def run_rows(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """One run's rows of the results table."""
    return _typed(pd.DataFrame(_rows(folder, manifest), columns=COLUMNS))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """One order and one type a column: the same rows always make the same file."""
    types = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_REAL, "float64")
    arm = ["source", "task", "method", "preset", "foundation", "condition", "lr", "train_tries"]
    key = [*arm, "seed", "run_id", "step", "split", "metric", "tries"]
    return table[COLUMNS].astype(types).sort_values(key, ignore_index=True)


def results_table(
    roots: Iterable[Path | str] = (RUNS,), done_only: bool = False, source: str = "ours"
) -> pd.DataFrame:
    """All measurements of the runs under `roots`, unfinished ones too unless `done_only`."""
    rows: list[dict[str, Any]] = []
    known: dict[tuple[Path, str], Path] = {}
    for folder in (folder for root in roots for folder in run_folders(Path(root))):
        manifest = read_manifest(folder)
        first = known.setdefault((folder.parent, manifest["hash"]), folder)
        if first != folder:
            raise SftrlError(
                f"{first} and {folder} hold the same run, whose rows would count twice; move one "
                "of them away."
            )
        if manifest["state"] == "done" or not done_only:
            rows += _rows(folder, manifest, source)
    return _typed(pd.DataFrame(rows, columns=COLUMNS))


def write_results(roots: Iterable[Path | str] = (RUNS,), path: Path = RESULTS) -> pd.DataFrame:
    """Rebuild data/results.csv from the finished runs; the same runs give the same bytes."""
    table = results_table(roots, done_only=True)
    write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    return table


def load_results(
    path: Path | str = RESULTS,
    paper: Path | str = PAPER,
    yours: Path | None = YOURS,
    preset: str = "",
) -> pd.DataFrame:
    """Our recorded rows, the paper's printed numbers and the finished runs in `yours` (column
    `source`: ours | paper | yours); of one tier, beside the paper's, with `preset`. Where there is
    no results file, only the others."""
    tables, text = [], {"foundation": str, "condition": str}
    for file in filter(os.path.exists, (path, paper)):
        try:
            tables.append(_typed(pd.read_csv(file, dtype=text)))
        except (KeyError, ValueError, TypeError) as error:
            raise SftrlError(
                f"{file} is not a results table ({error}), whose columns must be "
                f"{', '.join(COLUMNS)}; restore it, or rebuild it from the runs with "
                f"`{REBUILD} --table`."
            ) from error
    if yours:
        tables.append(results_table([yours], done_only=True, source="yours"))
    found = [table for table in tables if len(table)]
    table = _typed(pd.concat(found) if found else pd.DataFrame(columns=COLUMNS))
    if preset:
        table = table[(table.preset == preset) | (table.source == "paper")]
        table.attrs["preset"] = preset  # figures name it where there is no row of it
    return table
