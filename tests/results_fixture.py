"""A made-up results table for the tests of stats, claims, figures and widgets: not a measurement.

The numbers follow the shape the tests look for (RL's OOD rises, SFT's falls) plus seeded noise.
"""

import random
from functools import lru_cache

import pandas as pd

from sftrl_lib.results import COLUMNS, _typed
from sftrl_lib.stats import wilson

STEPS = (20, 40, 60, 80, 100)


def rows(method, seed, step, split, metric, value, n, tries=1, compute=0.0, **other):
    hits = round(value * n)
    value, lo, hi = (value, None, None) if metric == "kl_to_init" else wilson(hits, n)
    row = dict.fromkeys(COLUMNS) | dict(
        task="gp-l", method=method, preset="tiny", foundation="default", seed=seed, step=step,
        lr=1e-4, train_tries=3 if method == "rl" else 1, condition="{}", compute=compute,
        compute_done=compute, split=split, metric=metric, tries=tries, n=n, value=value, lo=lo,
        hi=hi, run_id=f"fixture-{method}-s{seed}", source="ours",
        successes=None if metric == "kl_to_init" else hits,
    )  # fmt: skip
    return row | other


def measure(method, seed, step, share, *, n, rl_gain=0.06, sft_loss=0.07, **other):
    """All rows of one checkpoint; `share` of the training is done."""
    noise = random.Random(f"{method}/{seed}/{step}/{other.get('condition')}")

    def near(value, spread=0.008):
        return min(1.0, max(0.0, value + noise.uniform(-spread, spread)))

    arm = method if method in ("rl", "sft") else "init"
    ood = {"rl": 0.10 + rl_gain * share, "sft": 0.10 - sft_loss * share**0.5, "init": 0.10}[arm]
    reading = {"rl": 0.97 - 0.05 * share, "sft": 0.97 - 0.9 * share, "init": 0.97}[arm]
    kl = {"rl": 0.8, "sft": 3.0, "init": 0.0}[arm] * share
    known = dict(n=n, **other)
    out = []
    for tries in (1, 2, 3):
        more = 1 + 0.15 * (tries - 3)
        for split, level in (("id_unseen", 0.11 + 0.12 * share), ("rule_ood", ood)):
            out.append(
                rows(method, seed, step, split, "success", near(level) * more, tries=tries, **known)
            )
    out.append(rows(method, seed, step, "rule_ood", "value_reading", near(reading, 0.02), **known))
    out.append(rows(method, seed, step, "id_unseen", "value_reading", near(0.98, 0.01), **known))
    out.append(rows(method, seed, step, "id_unseen", "kl_to_init", kl, **known))
    out.append(rows(method, seed, step, "rule_ood", "numbers_right", near(reading), **known))
    seen = {"rl": 0.2 + 0.1 * share, "sft": 0.2 + 0.6 * share, "init": 0.2}[arm]
    out.append(rows(method, seed, step, "id_seen", "success", near(seen), tries=3, **known))
    return out


@lru_cache
def synthetic(seeds=range(5), **shape):
    """Init, RL and SFT on every seed, five checkpoints, 1,500 episodes at the last."""
    made = []
    for seed in seeds:
        init = dict(run_id="fixture-init", compute=3e13)
        made += measure("init", seed, 30, 0.0, n=1500, **init)
        for method in ("rl", "sft"):
            for step in STEPS:
                share = step / STEPS[-1]
                n = 1500 if step == STEPS[-1] else 300
                compute = 3e13 + 4e14 * share * (1 + 0.02 * seed)
                made += measure(method, seed, step, share, n=n, compute=compute, **shape)
    return table(made)


def with_ablation(results, gains=((1, 0.01), (10, 0.09))):
    """The same, and RL trained with other numbers of tries."""
    made = [
        row
        for tries, gain in gains
        for seed in range(5)
        for row in measure("rl", seed, 100, 1.0, n=1500, rl_gain=gain, train_tries=tries,
                           compute=4e14, condition=f'{{"tries": {tries}}}',
                           run_id=f"fixture-rl-{tries}-s{seed}")
    ]  # fmt: skip
    return pd.concat([results, table(made)], ignore_index=True)


def live(method="rl", seed=0):
    """A short run of this session."""
    made = []
    for step, share in ((5, 0.1), (10, 0.2)):
        made += measure(
            method,
            seed,
            step,
            share,
            n=60,
            compute=4e14 * share,
            condition='{"steps": 10}',
            run_id=f"live-{method}",
        )
    return table(made)


def table(made):
    return _typed(pd.DataFrame(made, columns=COLUMNS))


def as_navigation(results):
    """The same numbers as rows of the navigation task."""
    names = {"value_reading": ["turn_found"], "numbers_right": ["words_right", "turn_accuracy"],
             "success": ["success", "per_step"], "kl_to_init": ["kl_to_init"]}  # fmt: skip
    parts = [
        results[results.metric == old].assign(metric=new) for old in names for new in names[old]
    ]
    walks = pd.concat(parts, ignore_index=True)
    return walks.assign(task="virl-l", run_id="virl-" + walks.run_id)


def as_pictures(results, task="gp-vl"):
    """The same numbers as rows of a task in pictures."""
    walks = task == "virl-vl"
    renamed = as_navigation(results) if walks else results
    seen = results[results.metric == "value_reading"]
    names = ["recognition", *(["landmark_seen", "intersection_seen"] if walks else ["hand_read"])]
    parts = [renamed, *(seen.assign(metric=name) for name in names)]
    both = pd.concat(parts, ignore_index=True)
    other = both[both.split == "rule_ood"].assign(split="visual_ood")
    pictured = pd.concat([both, other], ignore_index=True)
    return pictured.assign(task=task, run_id=f"{task}-" + pictured.run_id)
