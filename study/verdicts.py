"""What the registered runs say of the registered claims.

Every row of a family is a contrast of two arms, paired by seed. Its interval is Student's t over
the seeds, widened where a bootstrap over seeds and over hands or routes is wider; beside its p
stands that of the exact sign-flip test; Holm corrects within the family.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from sftrl_lib.experiment import Experiment
from sftrl_lib.results import load_results
from sftrl_lib.runs import RUNS, read_manifest, read_rows
from sftrl_lib.stats import Change, holm, paired_change, tries_of

from .registration import registration, sections

ALPHA = 0.05
DRAWS = 2_000  # of the bootstrap


def ends(
    table: pd.DataFrame, section: str, method: str, split: str, metric: str, tries: int,
    temperature: float | None = None, step: int | None = None,
) -> dict[int, float]:  # fmt: skip
    """{seed: value} of an arm of a section at its end (or at another step), at the registered
    temperature or at another one. The init is measured by RL's run, on the seed's own deals."""
    runs = {
        exp.run_id: exp.method.steps
        for exp in sections()[section]
        if exp.method.name == ("rl" if method == "init" else method)
    }
    rows = table[table.run_id.isin(runs) & (table.method == method) & (table.split == split)]
    rows = rows[(rows.metric == metric) & (rows.tries == tries)]
    said = rows.condition.map(lambda text: json.loads(text).get("eval_temperature"))
    rows = rows[said.isna() if temperature is None else said == temperature]
    if method != "init":
        last = rows.run_id.map(runs) if step is None else step
        rows = rows[rows.step == last]
    return {int(seed): float(value) for seed, value in zip(rows.seed, rows.value, strict=True)}


def counts(section: str, method: str, split: str, root: Path = RUNS) -> dict[int, dict]:
    """{seed: {hand or route: (right, of)}} of the headline at an arm's end, from run folders."""
    found = {}
    for exp in sections()[section]:
        folder = root / exp.run_id
        if exp.method.name == ("rl" if method == "init" else method) and folder.exists():
            step = 0 if method == "init" else exp.method.steps
            for row in read_rows(folder, read_manifest(folder), "evals.jsonl"):
                if (row["split"], row["step"]) == (split, step) and row.get("clusters"):
                    found[exp.seed] = row["clusters"]
    return found


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided exact p: the share of all sign patterns whose mean is as far from zero."""
    d = np.asarray(differences, float)
    if not len(d):
        return math.nan
    signs = np.array(list(product((1, -1), repeat=len(d))))
    means = np.abs(signs @ d)
    return float((means >= abs(d.sum()) - 1e-12).mean())


def bootstrap(before: Mapping[int, dict], after: Mapping[int, dict]) -> tuple[float, float]:
    """95% percentile interval of after - before, drawing seeds, and hands or routes that all seeds
    and both arms share; nan without counts."""
    seeds = sorted(set(before) & set(after))
    if len(seeds) < 2:
        return math.nan, math.nan
    keys = sorted({key for seed in seeds for key in before[seed]})
    at = {key: i for i, key in enumerate(keys)}
    tallies = np.zeros((2, len(seeds), len(keys), 2))
    for arm, side in enumerate((before, after)):
        for row, seed in enumerate(seeds):
            for key, counted in side[seed].items():
                tallies[arm, row, at[key]] = counted
    rng, means = np.random.default_rng(0), []
    for _ in range(DRAWS):
        weights = rng.multinomial(len(keys), [1 / len(keys)] * len(keys))
        right, of = tallies.transpose(3, 0, 1, 2) @ weights  # each (arms, seeds)
        share = right / np.maximum(of, 1)
        drawn = rng.integers(len(seeds), size=len(seeds))
        means.append(float((share[1] - share[0])[drawn].mean()))
    lo, hi = np.percentile(means, [2.5, 97.5])
    return float(lo), float(hi)


def _error(change: Change) -> float:
    """The standard error behind a t interval."""
    return (change.hi - change.lo) / 2 / float(stdtrit(change.seeds - 1, 0.975))


def equivalent(change: Change, margin: float) -> float:
    """p of two one-sided t tests that the change lies within ±margin."""
    if change.seeds < 2:
        return math.nan
    error = _error(change)
    if error == 0:
        return float(abs(change.mean) >= margin)
    outer = (margin - abs(change.mean)) / error
    return float(stdtr(change.seeds - 1, -outer))


def seeds_needed(change: Change) -> int | None:
    """Seeds at which an effect of the measured size would be seen with 80% power; None where it is
    zero, or would take more than a thousand."""
    if change.seeds < 2 or not change.mean:
        return None
    spread = _error(change) * change.seeds**0.5
    needed = math.ceil((2.8 * spread / change.mean) ** 2)
    return max(needed, 2) if needed <= 1000 else None


def verdict(change: Change, p_holm: float, sign: int, margin: float, registered: int) -> str:
    """supported | contradicted | equivalent | inconclusive | not run (fewer seeds than were
    registered)."""
    if change.seeds < registered:
        return "not run"
    if p_holm < ALPHA:
        return "supported" if change.mean * sign > 0 else "contradicted"
    return "equivalent" if equivalent(change, margin) < ALPHA else "inconclusive"


def task_of(section: str) -> str:
    """The task of a section's runs."""
    return registration()["sections"][section][0]["task"][0]


def family(table: pd.DataFrame, name: str, root: Path = RUNS) -> list[dict[str, Any]]:
    """The rows of a family: id, statement, section, split, metric, contrast, values by arm and
    seed, those that the contrast is `against` (of another section, if the row names one), change,
    lo, hi (of t or bootstrap, the wider), p, p_exact, p_holm, n seeds of those registered,
    verdict."""
    rules = registration()["families"][name]
    found = []
    for row in rules["rows"]:
        section, against = row["section"], row.get("against", row["section"])
        most = Experiment(task=task_of(section), method="rl").evaluation.eval_tries
        where = row["split"], row["metric"], tries_of(row["metric"], most)
        arms = {arm: ends(table, section, arm, *where) for arm in ("init", "sft", "rl")}
        after, before = row["contrast"].split("-")
        first, second = ends(table, against, before, *where), arms[after]
        change = paired_change(first, second)
        common = sorted(set(first) & set(second))
        sides = ((against, before), (section, after))
        floor = bootstrap(*(counts(place, arm, row["split"], root) for place, arm in sides))
        headline = row["metric"] in ("success", "per_step")
        lo, hi = (
            (float(np.nanmin([change.lo, floor[0]])), float(np.nanmax([change.hi, floor[1]])))
            if headline and change.seeds > 1
            else (change.lo, change.hi)
        )
        found.append(
            {**row, "family": name, "values": arms, "against": first, "change": change.mean,
             "lo": lo, "hi": hi, "p": change.p, "n": change.seeds,
             "p_exact": sign_flip([second[seed] - first[seed] for seed in common]),
             "seeds_needed": seeds_needed(change), "paired": change}
        )  # fmt: skip
    # A row whose runs are not all there counts in the family as the largest p there is.
    asked = [rules["seeds"][row["section"]] for row in found]
    complete = [row["n"] >= seeds for row, seeds in zip(found, asked, strict=True)]
    corrected = holm([row["p"] if c else 1.0 for row, c in zip(found, complete, strict=True)])
    for row, seeds, p, c in zip(found, asked, corrected, complete, strict=True):
        row |= {"p_holm": p if c else math.nan, "registered": seeds}
        margin = registration()["margins"][task_of(row["section"])]
        row["verdict"] = verdict(row.pop("paired"), row["p_holm"], row["sign"], margin, seeds)
    return found


def registered(table: pd.DataFrame, root: Path = RUNS) -> list[dict[str, Any]]:
    """The rows of all families, in the order of the registration."""
    return [row for name in registration()["families"] for row in family(table, name, root)]


def said(row: Mapping[str, Any]) -> str:
    """A row's verdict in words; beside "inconclusive", the seeds that its effect would take."""
    if row["verdict"] == "not run" and row["n"]:
        return "under way"
    needed = row["seeds_needed"] if row["verdict"] == "inconclusive" else None
    return f"{row['verdict']} ({needed} seeds would tell)" if needed else row["verdict"]


def points(row: Mapping[str, Any]) -> str:
    """A row's change in percentage points with its interval; a dash for what is not recorded."""
    change, lo, hi = (100 * row[name] for name in ("change", "lo", "hi"))
    if math.isnan(change):
        return "–"
    return f"{change:+.1f}" + ("" if math.isnan(lo) else f" [{lo:+.1f}, {hi:+.1f}]")


def main(as_json: bool = False) -> None:
    """`python -m sftrl_lib claims --registered [--json]`."""
    rows = registered(load_results(yours=None))
    if as_json:
        plain = [{k: None if v != v else v for k, v in row.items()} for row in rows]
        print(json.dumps(plain, indent=1))
        return
    for row in rows:
        p = "" if math.isnan(row["p_holm"]) else f", p = {row['p_holm']:.2g} in its family"
        seeds = f"{row['n']} of {row['registered']} seeds{p}"
        print(f"{row['family']:10}{row['id']:22}{said(row)}: {points(row)} ({seeds})")
        print(f"{'':10}{row['statement']}.")
