"""Exercises of notebook 04: intervals, tests, and fair comparisons."""

from statistics import NormalDist, mean, stdev

from scipy.stats import t

from ..exercise import Case, exercise, question

NOTEBOOK = "04_ood_evaluation"


@exercise(
    "How many episodes?",
    "easy",
    10,
    statement=r"""
        How many episodes must each of two arms play, so that a test at the 5% level finds a
        difference between success rates $p_1$ and $p_2$ with a power of 80%? Use

        $$
        n = (z_{0.975} + z_{0.8})^2 \, \frac{p_1 (1 - p_1) + p_2 (1 - p_2)}{(p_1 - p_2)^2}
        $$

        and round up.
    """,
    hint="`NormalDist().inv_cdf(0.975)` is the first quantile; `math.ceil` rounds up.",
    because="""
        Half the difference needs four times the episodes. Try the first row of the paper's table,
        and compare with the episodes that it rests on.
    """,
    cases=[
        Case("a large difference", (0.2, 0.4), "The differences are squared."),
        Case("a small difference", (0.115, 0.15), "Both variances count."),
        Case("the other way round", (0.4, 0.2), "Which arm is ahead does not matter."),
    ],
)
def episodes_needed(p1: float, p2: float) -> int:
    """Episodes per arm for 80% power at the 5% level, two-sided."""
    z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
    return -int(-(z**2) * (p1 * (1 - p1) + p2 * (1 - p2)) // (p1 - p2) ** 2)


@exercise(
    "Paired by seed",
    "medium",
    10,
    statement="""
        Two dictionaries hold a success rate for each seed: of the init, and of an arm. Compute the
        mean change and half the width of its 95% interval (Student's t, one degree of freedom less
        than seeds), over the seeds that both have.
    """,
    hint="Form the differences seed by seed first. `t.ppf(0.975, n - 1)` is the quantile.",
    because="""
        Seeds differ in the deals that they draw. The difference within a seed is free of that, so
        its interval is narrower than those of the two means would suggest.
    """,
    cases=[
        Case("three seeds", ({0: 0.10, 1: 0.20, 2: 0.15}, {0: 0.15, 1: 0.24, 2: 0.21})),
        Case(
            "seeds in another order",
            ({0: 0.10, 1: 0.20, 2: 0.30}, {2: 0.35, 0: 0.12, 1: 0.21}),
            "Pair the values by their seed.",
        ),
        Case(
            "a seed that one of them lacks",
            ({0: 0.10, 1: 0.20, 5: 0.90}, {0: 0.15, 1: 0.21, 2: 0.40}),
            "Only seeds that both have can be paired.",
        ),
    ],
)
def paired(init: dict[int, float], arm: dict[int, float]) -> tuple[float, float]:
    """(mean change, half the width of its 95% interval)."""
    changes = [arm[seed] - init[seed] for seed in init.keys() & arm.keys()]
    n = len(changes)
    return mean(changes), t.ppf(0.975, n - 1) * stdev(changes) / n**0.5


@exercise(
    "At equal ID success",
    "medium",
    15,
    statement="""
        To compare two arms at equal ID success, read off what each had out of distribution when it
        passed that level. Between two checkpoints the curve is a straight line; before the first
        and after the last its ends are held.
    """,
    hint="Find the first pair of neighbours between which the level lies.",
    because="`numpy.interp` does the same. The library pools noisy points first.",
    cases=[
        Case("at a checkpoint", ([0.1, 0.2, 0.4], [0.05, 0.03, 0.01], 0.2)),
        Case("between two", ([0.1, 0.2, 0.4], [0.05, 0.03, 0.01], 0.3), "On the straight line."),
        Case("unequal steps", ([0.0, 0.1, 1.0], [0.0, 1.0, 0.0], 0.4), "Weigh by the distance."),
        Case("before the first", ([0.1, 0.2], [0.05, 0.03], 0.0), "The first value is held."),
        Case("beyond the last", ([0.1, 0.2], [0.05, 0.03], 0.9), "The last value is held."),
    ],
)
def at_level(ids: list[float], oods: list[float], level: float) -> float:
    """OOD success where ID success passes `level`; `ids` rise."""
    if level <= ids[0]:
        return oods[0]
    for i in range(1, len(ids)):
        if level <= ids[i]:
            share = (level - ids[i - 1]) / (ids[i] - ids[i - 1])
            return oods[i - 1] + share * (oods[i] - oods[i - 1])
    return oods[-1]


@exercise(
    "Many claims",
    "medium",
    15,
    statement="""
        Write Holm's correction. Sort the p values; multiply the smallest by their number $m$, the
        next by $m - 1$, and so on. A corrected value is never smaller than the one before it, nor
        larger than 1. Return them in the order in which they came.
    """,
    hint="`sorted(range(len(p)), key=p.__getitem__)` is the order; keep the largest value so far.",
    because="""
        The smallest p value pays for the length of the whole list. A claim that is added makes all
        others harder to support.
    """,
    cases=[
        Case("one claim", ([0.03],)),
        Case("three claims", ([0.01, 0.02, 0.03],), "The factors are 3, 2 and 1."),
        Case("another order", ([0.03, 0.01, 0.02],), "Return them in the order they came in."),
        Case(
            "a value that would fall",
            ([0.010, 0.011, 0.5],),
            "A corrected value is never smaller than the one before it.",
        ),
        Case("large values", ([0.6, 0.9],), "Nothing exceeds 1."),
    ],
)
def corrected(p: list[float]) -> list[float]:
    """Holm's corrected p values."""
    found, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        found[i] = largest
    return found


question(
    "Stop early, on purpose",
    "hard",
    15,
    key="stop_early",
    module=__name__,
    statement="""
        For each arm, take the best OOD point of each curve instead of its end. How much of the
        difference between the arms is left, and why would that be cheating?
    """,
    hint="""
        `stats.curve(grid, "sft", "rule_ood", "success", 3)` has all points.
    """,
    solution="""
        ```python
        for method in ("sft", "rl"):
            by_seed = stats.curve(grid, method, "rule_ood", "success", 3).groupby("seed").value
            print(pd.DataFrame({"best": by_seed.max(), "end": by_seed.last()}).round(3).T)
        ```

        The stopping point was chosen on the test rule, which a practitioner does not have, and the
        maximum of noisy points is biased upwards.
    """,
)
