"""Measure a policy: success by number of tries, value reading, legality, KL to the init.

Everything is derived from one rollout a split; what is counted is the task's own business
(`Task.measures`). Intervals are Wilson's for clustered trials (clusters of one multiset or route).
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from .experiment import Experiment
from .models.images import ImageConditioner
from .models.policy import Policy
from .rollout import Episode, rollout
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
    run's own seed in a stream of their own, so no two seeds share test deals.
    """
    rows, played = [], {}
    own, tries = exp.evaluation.eval_temperature, exp.evaluation.eval_tries
    bar = tqdm(splits.items(), disable=not progress, desc="evaluate", leave=False)
    for split, count in bar:
        bar.set_postfix_str(split)
        items = task.test_items(split, exp.seed, count)
        generator = torch.Generator(policy.device).manual_seed(1000 * exp.seed + len(items))
        others = [t for t in temperatures if t != own] if split in task.curve_splits else []
        # Side by side, a question is read once for all temperatures.
        asked = [own, *others]
        episodes = rollout(
            policy,
            task,
            items * len(asked),
            tries=tries,
            temperature=[t for t in asked for _ in items],
            generator=generator,
            max_new_tokens=exp.model.max_new_tokens,
        )
        for i, temperature in enumerate(asked):
            part = episodes[i * len(items) : (i + 1) * len(items)]
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


class KlToInit:
    """KL(init || policy) on the training rule, in nats an answer: how far a policy has moved.

    The init's own sampled answers to ID-unseen deals are fixed at construction; the full next-token
    distributions are compared at every answer token (Shenfeld et al., 2509.04259: forgetting
    follows this KL on the *new* task).
    """

    def __init__(self, policy: Policy, task: Task, exp: Experiment, answers: int = 0):
        # A token's distribution over a large vocabulary takes 250 kB: fewer answers, half as exact.
        large = policy.model.config.get_text_config().vocab_size > 2**15
        usual, self.kept = (64, torch.float16) if large else (256, torch.float32)
        generator = torch.Generator(policy.device).manual_seed(exp.seed)
        items = [task.item("id_unseen", exp.seed, i) for i in range(answers or usual)]
        episodes = rollout(
            policy, task, items, temperature=1.0, generator=generator,
            max_new_tokens=exp.model.max_new_tokens,
        )  # fmt: skip
        rows = [(e.turns[0].prompt_ids, e.turns[0].completion_ids, e.picture) for e in episodes]
        self.rows, self.size = sorted(rows, key=lambda r: len(r[0] + r[1])), exp.machine.micro_batch
        parts = (self._log_probs(policy, part) for part in self._parts())
        self.reference = [part.to("cpu", self.kept) for part in parts]

    def _parts(self) -> list:
        return [self.rows[i : i + self.size] for i in range(0, len(self.rows), self.size)]

    @torch.no_grad()
    def _log_probs(self, policy: Policy, part: list) -> torch.Tensor:
        """(answer tokens, vocabulary): log-probabilities where some rows' answers are written."""

        def padded(rows: list[list[int]], filler: int = 0) -> torch.Tensor:
            return pad_sequence([torch.tensor(r) for r in rows], True, filler).to(policy.device)

        ids = padded([p + c for p, c, _ in part], policy.tokenizer.pad_token_id)
        seen = padded([[1] * len(p + c) for p, c, _ in part])
        written = padded([[0] * len(p) + [1] * len(c) for p, c, _ in part])
        keep = ids.size(1) - min(len(p) for p, _, _ in part) + 1  # no logits of questions
        images = ImageConditioner(policy, [picture for *_, picture in part if picture is not None])
        with images.of(torch.arange(len(part))):
            logits = policy.model(
                input_ids=ids, attention_mask=seen, use_cache=False, logits_to_keep=keep
            ).logits
        return logits[:, :-1][written[:, 1 - keep :].bool()].float().log_softmax(-1)

    def __call__(self, policy: Policy) -> float:
        """Mean KL of an answer, in nats."""
        was_training = policy.model.training
        policy.model.eval()
        total = 0.0
        for part, reference in zip(self._parts(), self.reference, strict=True):
            before, now = reference.to(policy.device).float(), self._log_probs(policy, part)
            total += float((before.exp() * (before - now)).sum())
        policy.model.train(was_training)
        return total / len(self.rows)

    def row(self, policy: Policy) -> dict:
        """The KL as a result row (no interval: it is a mean over fixed answers)."""
        value = self(policy)
        return {
            "split": "id_unseen", "metric": "kl_to_init", "tries": 1, "successes": None,
            "n": len(self.rows), "value": value, "lo": None, "hi": None,
        }  # fmt: skip
