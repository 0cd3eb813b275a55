"""Ablations as data: what varies, what goes with it, and which way the number should move. The grid
of runs, the rows of the results table and the claim's test all follow from one entry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import register_ablation

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Ablation:
    """One question: `setting` takes other values than the main grid's, seed by seed."""

    setting: str
    levels: Mapping[Any, Mapping[str, Any]]  # value: what else changes, e.g. to spend equal compute
    task: str
    methods: Sequence[str]
    seeds: Sequence[int]
    split: str
    metric: str
    sign: int  # of the highest level minus the lowest, as the paper has it
    evaluation: Mapping[str, Any] = field(default_factory=dict)  # settings
    episodes: int = 0  # a split at the end; 0: the full battery
    name: str = ""  # given by `register_ablation`

    def grid(self) -> list[Experiment]:
        """Its runs, beside the main grid's."""
        arms = product(self.levels.items(), self.seeds, self.methods)
        fixed = {"task": self.task, **self.evaluation}
        return [
            Experiment(method=method, seed=seed, **{self.setting: level}, **more, **fixed)
            for (level, more), seed, method in arms
        ]

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the main grid and of this ablation: those that differ from their arm's defaults
        in the setting and in what goes with it, whatever its values."""
        from sftrl_lib import stats  # slow to import

        table = stats.recorded(table)
        together = {self.setting, *(name for more in self.levels.values() for name in more)}

        def belongs(condition: str) -> bool:
            names = set(json.loads(condition))
            return not names or self.setting in names <= together

        found = table[table.condition.map(belongs).astype(bool)]
        found = found[(found.task == self.task) & found.method.isin(self.methods)]
        return found[(found.foundation == "default") & ~found.seed.isin(stats.DEVELOPMENT_SEEDS)]


SEEDS = (0, 1, 2, 3, 4)

# As many steps as spend the compute of the main grid's three tries: an episode of few is short.
register_ablation("tries")(
    Ablation(
        setting="tries",
        levels={1: {"steps": 132}, 5: {"steps": 41}, 10: {"steps": 24}},
        task="gp-l",
        methods=("rl",),
        seeds=SEEDS,
        split="rule_ood",
        metric="success",
        sign=1,
        evaluation={"eval_points": 1},
        episodes=600,
    )
)
register_ablation("colour")(
    Ablation(
        setting="color",
        levels={"red": {}},
        task="gp-vl",
        methods=("rl", "sft"),
        seeds=SEEDS[:1],
        split="visual_ood",
        metric="recognition",
        sign=1,
    )
)
