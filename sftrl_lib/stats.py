"""The protocol's statistics: intervals of one run, changes paired by seed, matched levels."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.special import ndtri, stdtr, stdtrit  # normal and t; scipy.stats loads slowly

from .registry import METHODS, TASKS

SEEDS = 5  # the protocol's minimum (DESIGN.md, section 5)
DEVELOPMENT_SEEDS = (100, 101)  # everything was chosen on these; no claim is tested on them
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    lo: float
    hi: float


class Change(NamedTuple):
    """A mean difference over paired seeds: 95% interval and two-sided p of the paired t test."""

    mean: float
    lo: float
    hi: float
    p: float
    seeds: int


def wilson(successes: float, n: float) -> Estimate:
    """Wilson's score interval of a proportion (Wilson 1927). n may be an effective number."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: must be between 0 and n")
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    z, p = ndtri((1 + LEVEL) / 2), successes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # Exact at the ends, where rounding could put the estimate outside its own interval.
    lo, hi = middle - half if successes else 0.0, middle + half if successes < n else 1.0
    return Estimate(float(p), float(lo), float(hi))


def clustered_interval(successes: Sequence[int], sizes: Sequence[int]) -> Estimate:
    """Wilson's interval for trials that come in clusters (deals of one value multiset).

    The number of trials is divided by the design effect: the variance of the ratio estimator over
    clusters against that of independent trials, at least 1. Where it cannot be estimated (all
    right, all wrong, one cluster) every cluster counts as one trial, the most careful answer.
    """
    s, m = np.asarray(successes, float), np.asarray(sizes, float)
    k, n = len(m), m.sum()
    if n == 0:
        return wilson(0, 0)
    p = s.sum() / n
    n_effective = float(k)
    if k > 1 and 0 < p < 1:
        variance = k / (k - 1) * ((s - p * m) ** 2).sum() / n**2
        n_effective = min(n, p * (1 - p) / variance) if variance else n
    return wilson(p * n_effective, n_effective)._replace(value=float(p))


def seed_mean(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its t interval (nan bounds for a single seed)."""
    change = paired_change(dict.fromkeys(range(len(values)), 0.0), dict(enumerate(values)))
    return Estimate(change.mean, change.lo, change.hi)


def paired_change(before: Mapping[int, float], after: Mapping[int, float]) -> Change:
    """Mean of after - before over the seeds that both have, with t interval and p. Fewer than two
    common seeds leave interval and p nan."""
    seeds = sorted(set(before) & set(after))
    differences = np.array([after[s] - before[s] for s in seeds], float)
    n, nan = len(seeds), float("nan")
    if n < 2:
        return Change(float(differences.mean()) if n else nan, nan, nan, nan, n)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(n))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    # Without an error, all seeds changed by exactly the same amount.
    p = float(2 * stdtr(n - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return Change(mean, mean - half, mean + half, p, n)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979), in the order given."""
    order = np.argsort(pvalues)
    adjusted, running = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, float(pvalues[i]) * (len(order) - rank)))
        adjusted[i] = running
    return adjusted


class Curve(NamedTuple):
    """y against a rising x: what was gained against what it cost, in the order of training."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, x: Sequence[float], y: Sequence[float], weights: Sequence[float]) -> Self:
        """The curve through points in training order. x is measured with noise and may step back:
        neighbours that do are pooled, in x and in y, weighted by their episodes."""
        across, up, weight = (np.asarray(v, float) for v in (x, y, weights))
        ends = isotonic_regression(across, weights=weight).blocks
        pools = [slice(start, end) for start, end in pairwise(ends)]
        pooled = [[np.average(v[p], weights=weight[p]) for p in pools] for v in (across, up)]
        return cls(*np.array(pooled))

    def at(self, level: float) -> float:
        """y where x passes `level`, on straight lines between points; the ends are held."""
        return float(np.interp(level, self.x, self.y))


def at_matched(a: Curve, b: Curve) -> tuple[float, float, float]:
    """(level, y of a, y of b) at the highest x that both curves reached."""
    level = min(a.x[-1], b.x[-1])
    return float(level), a.at(level), b.at(level)


def tries_of(metric: str, tries: int) -> int:
    """At how many tries a metric is read where `tries` are allowed: most look at first tries."""
    retried = {"success", *(task.headline for task in TASKS.values())}
    return tries if metric in retried else 1


def recorded(table: pd.DataFrame) -> pd.DataFrame:
    """Our rows; of a task on a tier where we have no arm, or fewer seeds of them than the protocol
    asks for and than you have, yours, if there are any."""
    place, ours = table.task + " " + table.preset, table.source == "ours"
    yours, arm = (
        table.source == "yours",
        table.method.isin([m for m in METHODS if METHODS[m].is_arm]),
    )

    def seeds(whose: pd.Series) -> pd.Series:
        of = whose & arm
        return place.map(table.seed[of].groupby(place[of].to_numpy()).nunique()).fillna(0)

    few = (seeds(ours) < SEEDS) & (seeds(ours) < seeds(yours))
    left = yours & (few | (seeds(ours) == 0))
    return table[(ours & ~place.isin(place[left])) | left]


def main_grid(table: pd.DataFrame) -> pd.DataFrame:
    """The recorded rows (or yours) of the protocol's grid: default settings, default foundation
    model, test seeds."""
    grid = recorded(table[table.foundation == "default"])
    return grid[(grid.condition == "{}") & ~grid.seed.isin(DEVELOPMENT_SEEDS)]


def headline_tries(table: pd.DataFrame) -> int:
    """The largest number of tries at which every run was evaluated (0: none)."""
    success = table[table.metric == "success"]
    allowed = [set(tries) for _, tries in success.groupby("run_id").tries]
    return max(set.intersection(*allowed), default=0) if allowed else 0


def curve(table: pd.DataFrame, method: str, split: str, metric: str, tries: int) -> pd.DataFrame:
    """One measurement of one arm along training: rows (seed, step, compute, value, lo, hi, n).
    Each seed starts at step 0 with the init, as measured on that seed's own deals."""
    columns = ["seed", "step", "compute", "value", "lo", "hi", "n"]
    rows = table[(table.split == split) & (table.metric == metric) & (table.tries == tries)]
    arm = rows[rows.method == method][columns]
    start = rows[rows.method == "init"].sort_values("step").drop_duplicates("seed", keep="last")
    if method == "init":
        return start[columns]
    start = start[start.seed.isin(arm.seed)].assign(step=0)
    both = pd.concat([start[columns], arm]) if len(start) else arm
    return both.sort_values(["seed", "step"], ignore_index=True)


def last(table: pd.DataFrame, method: str, split: str, metric: str, tries: int) -> pd.DataFrame:
    """The last point of that curve, one row a seed (index)."""
    rows = curve(table, method, split, metric, tries)
    return rows.drop_duplicates("seed", keep="last").set_index("seed")


def matched(table: pd.DataFrame, x: tuple[str, str, int], y: tuple[str, str, int]) -> pd.DataFrame:
    """RL and SFT at the highest x both arms reached, seed by seed: columns level, rl, sft (the y of
    each arm there). x and y are (split, metric, tries)."""
    curves = {}
    for method in ("rl", "sft"):
        across, up = (curve(table, method, *which) for which in (x, y))
        both = across.merge(up, on=["seed", "step"], suffixes=("_x", "_y"))
        for seed, rows in both.groupby("seed"):
            curves[method, seed] = Curve.of(rows.value_x, rows.value_y, rows.n_y.astype(float))
    seeds = sorted(s for m, s in curves if m == "rl" and ("sft", s) in curves)
    found = [at_matched(curves["rl", s], curves["sft", s]) for s in seeds]
    return pd.DataFrame(found, index=pd.Index(seeds, name="seed"), columns=["level", "rl", "sft"])
