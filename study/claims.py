"""Every claim of the paper, and ours, held against the recorded runs.

A claim is a direction: a number that should rise or fall. It is supported if the change, paired by
seed, has that sign and its p, corrected by Holm over all claims that were run, is below 0.05.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from sftrl_lib import stats
from sftrl_lib.registry import ABLATIONS, TASKS
from sftrl_lib.results import REBUILD, load_results
from sftrl_lib.stats import (
    SEEDS,
    Change,
    headline_tries,
    holm,
    last,
    main_grid,
    paired_change,
    tries_of,
)

ALPHA = 0.05


class Outcome(NamedTuple):
    """What the recorded runs say: values by arm, then by seed; the change that decides; episodes a
    seed; compute by arm."""

    values: dict[str, dict[int, float]]
    change: Change
    n: int
    compute: dict[str, float] = {}


@dataclass(frozen=True)
class Claim:
    """What is said, where it can be seen, and the sign that the change must have."""

    id: str
    statement: str
    task: str
    split: str
    metric: str
    sign: int
    test: str = "no test yet"
    outcome: "Callable[[pd.DataFrame, Claim], Outcome] | None" = None  # None: no code runs it yet


def _against_init(method: str) -> Callable[[pd.DataFrame, Claim], Outcome]:
    def outcome(table: pd.DataFrame, claim: Claim) -> Outcome:
        grid = main_grid(table)
        tries = tries_of(claim.metric, headline_tries(grid))
        ends = {m: last(grid, m, claim.split, claim.metric, tries) for m in ("init", "sft", "rl")}
        values = {m: dict(end.value) for m, end in ends.items()}
        compute = {m: float(ends[m].compute.mean()) for m in ("sft", "rl") if values[m]}
        n = min(int(end.n.min()) if len(end) else 0 for end in (ends["init"], ends[method]))
        return Outcome(values, paired_change(values["init"], values[method]), n, compute)

    return outcome


def _rl_over_sft(table: pd.DataFrame, claim: Claim) -> Outcome:
    found = _against_init("rl")(table, claim)
    values = found.values
    return found._replace(change=paired_change(values["sft"], values["rl"]))


def _below_one(table: pd.DataFrame, claim: Claim) -> Outcome:
    found = _against_init("rl")(table, claim)
    rl, sft = found.values["rl"], found.values["sft"]
    better = {seed: max(rl[seed], sft[seed]) for seed in set(rl) & set(sft)}
    return found._replace(change=paired_change(dict.fromkeys(better, 0.01), better))


def _at_matched(metric: str) -> Callable[[pd.DataFrame, Claim], Outcome]:
    def outcome(table: pd.DataFrame, claim: Claim) -> Outcome:
        grid = main_grid(table)
        tries = headline_tries(grid)
        x = ("id_unseen", metric, tries_of(metric, tries))
        both = stats.matched(grid, x, (claim.split, claim.metric, tries_of(claim.metric, tries)))
        values = {"sft": dict(both.sft), "rl": dict(both.rl)}
        n = grid[grid.method.isin(("sft", "rl")) & (grid.metric == claim.metric)].n.min()
        return Outcome(values, paired_change(*values.values()), int(n) if len(both) else 0)

    return outcome


def _highest_over_lowest(ablation: str) -> Callable[[pd.DataFrame, Claim], Outcome]:
    """The runs of an ablation's highest level against those of its lowest."""

    def outcome(table: pd.DataFrame, claim: Claim) -> Outcome:
        arms = ABLATIONS[ablation].rows(table)
        tries = headline_tries(arms)
        levels = sorted(set(arms.train_tries)) or [None]
        ends = [
            last(arms[arms.train_tries == level], "rl", claim.split, claim.metric, tries)
            for level in (levels[0], levels[-1] if len(levels) > 1 else None)
        ]
        low, high = (dict(end.value) for end in ends)
        n = min((int(end.n.min()) for end in ends if len(end)), default=0)
        return Outcome({"rl": high}, paired_change(low, high), n)

    return outcome


_CELLS = {  # the six rows of the paper's table: task, split -> what is measured
    "gp-l.rule": ("gp-l", "rule_ood", "success", "success under the rule J, Q, K = 11, 12, 13"),
    "virl-l.rule": ("virl-l", "rule_ood", "per_step", "per-step accuracy with relative actions"),
    "gp-vl.rule": ("gp-vl", "rule_ood", "success", "success under the rule J, Q, K = 11, 12, 13"),
    "virl-vl.rule": ("virl-vl", "rule_ood", "per_step", "per-step accuracy with relative actions"),
    "gp-vl.visual": ("gp-vl", "visual_ood", "success", "success on cards of the other colour"),
    "virl-vl.visual": ("virl-vl", "visual_ood", "success", "success on routes in other cities"),
}
_ENDS = "change from init to end of training, paired by seed, two-sided t"
_MATCHED = "RL minus SFT at the highest {} both reached (interpolated), paired by seed, two-sided t"
_WHAT = {  # the tasks with recorded runs: what is measured, on unseen items, under the new rule
    "gp-l": ("success", "unseen hands of the training rule", "rule-OOD success"),
    "virl-l": ("per-step accuracy", "unseen routes", "rule-OOD per-step accuracy"),
    "gp-vl": ("success", "unseen hands of the training rule", "rule-OOD success"),
    "virl-vl": ("per-step accuracy", "unseen routes", "rule-OOD per-step accuracy"),
}
_UNSEEN = ("gp-l", "id_unseen", "success", 1)
_OOD = ("gp-l", "rule_ood", "success", 1)

CLAIMS = (
    *(
        Claim(f"{cell}.{method}", f"{method.upper()} {verb} {what}", task, split, metric, sign,
              _ENDS, _against_init(method) if task in TASKS else None)
        for cell, (task, split, metric, what) in _CELLS.items()
        for method, verb, sign in (("rl", "raises", 1), ("sft", "lowers", -1))
    ),
    *(
        Claim(f"{task}.id.{method}", f"{method.upper()} raises {what} on {unseen}",
              task, "id_unseen", TASKS[task].headline, 1, _ENDS, _against_init(method))
        for task, (what, unseen, _) in _WHAT.items()
        for method in ("rl", "sft")
    ),
    *(
        Claim(f"{task}.matched-{short}", f"at equal {level}, RL's {what} is above SFT's",
              task, "rule_ood", TASKS[task].headline, 1, _MATCHED.format(level),
              _at_matched(metric))
        for task, (of, _, what) in _WHAT.items()
        for short, level, metric in (("id", f"ID-unseen {of}", TASKS[task].headline),
                                     ("kl", "KL to the init", "kl_to_init"))
    ),
    Claim("gp-vl.fig8", "RL ends with more cards recognised than SFT (the paper: RL raises it, SFT "
          "lowers it)", "gp-vl", "rule_ood", "recognition", 1,
          "RL minus SFT at the end of training, paired by seed, two-sided t", _rl_over_sft),
    Claim("gp-l.fig9", "RL without the SFT init stays at zero", *_UNSEEN),
    Claim("gp-l.fig10", "more verification iterations in training give more rule-OOD success",
          *_OOD, "most tries minus one try in training, paired by seed, two-sided t",
          _highest_over_lowest("tries")),
    Claim("gp-l.fig15", "SFT on conversations with errors and verdicts still loses rule-OOD",
          *_OOD[:3], -1),
    Claim("virl-vl.fig18", "end-to-end rule-OOD success stays below 1% in both arms",
          "virl-vl", "rule_ood", "success", -1,
          "the better arm of a seed at the end of training, minus 1%, two-sided t", _below_one),
    Claim("gp-l.fig19", "RL from an over-tuned SFT checkpoint does not recover rule-OOD",
          *_OOD[:3], -1),
)  # fmt: skip


def claims_table(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One dict a claim and tier: id, statement, tier, task, split, metric, n (episodes a seed at
    least), seeds, init, sft, rl ({value, lo, hi} over seeds; at the matched level where one is
    meant), change, compute, test, p_holm, verdict, paper, command (None: no code runs it yet). With
    fewer than `SEEDS` paired seeds a claim was not run; a tier without an arm of so many recorded
    seeds is left out."""
    rows = []
    ours = table[table.source == "ours"]
    seeds = ours.groupby(["preset", "task", "method"]).seed.nunique()
    for tier in sorted(set(seeds[seeds >= SEEDS].index.get_level_values(0))) or ["tiny"]:
        rows += _tier(table[(table.source == "paper") | (table.preset == tier)], tier)
    return rows


def _tier(table: pd.DataFrame, tier: str) -> list[dict[str, Any]]:
    ours, paper = table[table.source == "ours"], table[table.source == "paper"]
    rows = []
    for claim in CLAIMS:
        found = claim.outcome and claim.outcome(ours[ours.task == claim.task], claim)
        run = bool(found) and found.change.seeds >= SEEDS
        values = found.values if run else {}
        means = {
            m: stats.seed_mean(list(v.values()))._asdict() for m, v in values.items() if len(v) > 1
        }
        rows.append(
            {
                "id": claim.id, "statement": claim.statement, "tier": tier, "task": claim.task,
                "split": claim.split, "metric": claim.metric, "n": found.n if run else 0,
                "seeds": found.change.seeds if run else 0,
                **{m: means.get(m) for m in ("init", "sft", "rl")},
                "change": found.change._asdict() if run else None,
                "compute": found.compute if run else {},
                "test": claim.test, "p_holm": None, "verdict": "not run",
                "paper": _printed(paper, claim), "command": REBUILD if claim.outcome else None,
            }
        )  # fmt: skip
    family = [(row, claim) for row, claim in zip(rows, CLAIMS, strict=True) if row["change"]]
    corrected = holm([row["change"]["p"] for row, _ in family])
    for (row, claim), p in zip(family, corrected, strict=True):
        right = p < ALPHA and row["change"]["mean"] * claim.sign > 0
        row.update(p_holm=p, verdict="supported" if right else "not supported")
    return rows


def _printed(paper: pd.DataFrame, claim: Claim) -> dict[str, float] | None:
    """The paper's own numbers for one of the table's cells."""
    rows = paper[(paper.task == claim.task) & (paper.split == claim.split)]
    rows = rows[(rows.metric == claim.metric) & (rows.condition == "{}")]
    in_table = claim.id.rpartition(".")[0] in _CELLS
    return {r.method: float(r.value) for r in rows.itertuples()} if in_table else None


def render(rows: list[dict[str, Any]]) -> str:
    """The table as text: percent, 95% intervals over seeds in brackets."""

    def percent(e: dict | None) -> str:
        if e is None:
            return "-"
        value = e["value"] if "value" in e else e["mean"]
        sign = "" if "value" in e else "+"
        return f"{100 * value:{sign}.1f} [{100 * e['lo']:{sign}.1f}, {100 * e['hi']:{sign}.1f}]"

    head = ("claim", "verdict", "p (Holm)", "seeds x n", "init", "SFT", "RL", "change")
    lines = [head]
    for r in rows:
        p = "-" if r["p_holm"] is None else f"{r['p_holm']:.2g}"
        size = f"{r['seeds']} x {r['n']}" if r["seeds"] else "-"
        arms = [percent(r[k]) for k in ("init", "sft", "rl", "change")]
        lines.append((f"{r['tier']} {r['id']}", r["verdict"], p, size, *arms))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    table = ["  ".join(c.ljust(w) for c, w in zip(x, widths, strict=True)).rstrip() for x in lines]
    spent = {r["tier"]: r["compute"] for r in rows if r["compute"]}
    for tier, arms in spent.items():
        flops = ", ".join(f"{m.upper()} {f:.3g}" for m, f in arms.items())
        table.append(f"{tier}: training compute, init included, mean over seeds: {flops} FLOPs")
    said = [f"{c.id}: {c.statement} ({c.test})." for c in CLAIMS]
    return "\n".join([*table, "", *said])


def main(as_json: bool = False) -> None:
    """`python -m sftrl_lib claims [--json]`."""
    rows = claims_table(load_results())
    print(json.dumps(rows, indent=1) if as_json else render(rows))
