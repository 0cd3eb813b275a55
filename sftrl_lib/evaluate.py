"""Measure a policy: success by number of tries, value reading, legality, KL to the init.

Everything is derived from one rollout a split; what is counted is the task's own business
(`Task.measures`). Intervals are Wilson's for clustered trials (clusters of one multiset or route).
"""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from commons.processes import RANK
from engine.divergence import Divergence
from engine.policy import Policy
from engine.sharing import share

from .experiment import Experiment
from .rollout import Episode, of_all, rollout
from .stats import clustered_interval
from .tasks.base import Counts, Task


def _row(split: str, metric: str, tries: int, counts: Counts) -> dict:
    hits, sizes = zip(*counts, strict=True)
    value, lo, hi = clustered_interval(hits, sizes)
    return {
        "split": split, "metric": metric, "tries": tries, "successes": sum(hits), "n": sum(sizes),
        "value": value, "lo": lo, "hi": hi,
    }  # fmt: skip


def score(task: Task, split: str, episodes: list[Episode], tries: int) -> list[dict]:
    """Result rows of played episodes."""
    measured = task.measures(episodes, tries).items()
    return [_row(split, *what, counts) for what, counts in measured if counts]


def by_question(task: Task, episodes: list[Episode], tries: int) -> dict[str, tuple[int, int]]:
    """{cluster: (right, of)} of the headline: what a bootstrap over hands or routes draws from."""
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(str(task.cluster(episode.item)), []).append(episode)
    counted = {key: task.measures(g, tries)[task.headline, tries] for key, g in groups.items()}
    return {key: (sum(h for h, _ in c), sum(n for _, n in c)) for key, c in counted.items()}


TEMPERATURES = (0.0, 0.2, 1.0)  # of the last evaluation: greedy, the authors' rollouts, RL's own


def evaluate(
    policy: Policy, task: Task, exp: Experiment, splits: dict[str, int], progress: bool = True,
    temperatures: Sequence[float] = (),
) -> tuple[list[dict], dict[str, list[Episode]]]:  # fmt: skip
    """Play `splits` ({name: episodes}); result rows and the episodes behind them.

    A policy is tested as in the paper, sampled with retries, at the temperature of the settings.
    The splits of the claims are played at `temperatures`, too: such rows say so, and their episodes
    are not returned; the headline's row then has its counts `by_question`. Items come from the
    run's own seed in a stream of their own, so no two seeds share test deals, and the i-th of any
    split is answered with the draws of the seed and i. So processes of one run play a share each,
    and all have the rows of one.
    """
    rows, played = [], {}
    own, tries = exp.evaluation.eval_temperature, exp.evaluation.eval_tries
    bar = tqdm(splits.items(), disable=not progress or RANK > 0, desc="evaluate", leave=False)
    for split, count in bar:
        bar.set_postfix_str(split)
        items = task.test_items(split, exp.seed, count)
        mine = share(len(items))
        others = [t for t in temperatures if t != own] if split in task.curve_splits else []
        # Side by side, a question is read once for all temperatures.
        asked = [own, *others]
        episodes = rollout(
            policy,
            task,
            [items[k] for k in mine] * len(asked),
            tries=tries,
            temperature=[t for t in asked for _ in mine],
            generator=[np.random.default_rng((exp.seed, k)) for _ in asked for k in mine],
            max_new_tokens=exp.model.max_new_tokens,
        )
        for i, temperature in enumerate(asked):
            part = of_all(policy, task, items, episodes[i * len(mine) : (i + 1) * len(mine)])
            rows_of = score(task, split, part, tries)
            if i:
                rows_of = [row | {"eval_temperature": temperature} for row in rows_of]
            else:
                played[split] = part
                for row in rows_of if others else []:
                    if (row["metric"], row["tries"]) == (task.headline, tries):
                        row["clusters"] = by_question(task, part, tries)
            rows += rows_of
    return rows, played


def full_battery(exp: Experiment, task: Task) -> dict[str, int]:
    """A run's last evaluation: claims rest on `final_episodes`, the rest on `eval_episodes`."""
    side = dict.fromkeys(task.side_splits, exp.evaluation.eval_episodes)
    return dict.fromkeys(task.curve_splits, exp.evaluation.final_episodes) | side


def kl_rows(exp: Experiment) -> int:
    """How many of its rows are compared at once: where a GPU has room for more than is usual, it
    has it for the training."""
    return min(exp.rows["micro_batch"], exp.model.tier.numbers["micro_batch"])


class KlToInit(Divergence):
    """KL(init || policy) on the training rule, in nats an answer: how far a policy has moved.

    The init's own sampled answers to ID-unseen deals are fixed at construction (Shenfeld et al.,
    2509.04259: forgetting follows this KL on the *new* task).
    """

    def __init__(self, policy: Policy, task: Task, exp: Experiment, answers: int = 0):
        # A token's distribution over a large vocabulary takes 250 kB: fewer answers, half as exact.
        large = policy.model.config.get_text_config().vocab_size > 2**15
        usual, kept = (64, torch.float16) if large else (256, torch.float32)
        generator = torch.Generator(policy.device).manual_seed(exp.seed)
        items = [task.item("id_unseen", exp.seed, i) for i in range(answers or usual)]
        episodes = rollout(
            policy, task, items, temperature=1.0, generator=generator,
            max_new_tokens=exp.model.max_new_tokens,
        )  # fmt: skip
        rows = [(e.turns[0].prompt_ids, e.turns[0].completion_ids, e.picture) for e in episodes]
        super().__init__(policy, rows, kl_rows(exp), kept)

    def row(self, policy: Policy) -> dict:
        """The KL as a result row (no interval: it is a mean over fixed answers)."""
        value = self(policy)
        return {
            "split": "id_unseen", "metric": "kl_to_init", "tries": 1, "successes": None,
            "n": len(self.rows), "value": value, "lo": None, "hi": None,
        }  # fmt: skip
