"""SFT: imitate expert answers, with TRL's SFTTrainer (paper, section 3.1)."""

import random
from functools import partial
from typing import Any

from ..experiment import Experiment
from ..registry import register_method
from .base import Method


def expert_row(exp: Experiment, policy: Any, task: Any, index: int) -> dict[str, Any]:
    """Training row `index`: the token ids that the policy itself reads and writes in a rollout, and
    the picture that it sees (None in a text task).

    `labels` are the answer and its end token, -100 on the question: the loss is on the answer only.
    """
    item = task.item("train", exp.seed, index)
    picture = task.picture(item, policy.image_size)
    question = policy.first_turn(task.prompt(item), picture)
    expert = task.expert(item, random.Random(f"expert/{exp.seed}/{index}"))
    answer = policy.tokenizer.encode(expert, add_special_tokens=False) + policy.turn_end
    labels = [-100] * len(question) + answer
    return {"input_ids": question + answer, "labels": labels, "picture": picture}


@register_method("sft", rank=20)
class Sft(Method):
    """Deals 0, 1, 2, ... of the training stream, each seen once. A subclass may take its rows from
    elsewhere (`rows`), weigh tokens otherwise (`loss_type`), or, with a setting `kl_weight`, add a
    term that compares the policy with what it was (`extra_loss`)."""

    label = "SFT"
    style = {"color": "#D55E00", "marker": "s", "linestyle": "-."}
    loss_type = "nll"  # of TRL's SFTTrainer

    @staticmethod
    def rows(exp: Experiment, policy: Any, task: Any, trainer: Any, indices: list[int]) -> list:
        """The rows of one step, made when it is due. One whose labels are all -100 teaches nothing
        and costs nothing."""
        return [expert_row(exp, policy, task, index) for index in indices]

    @classmethod
    def train(cls, exp, policy, task, run, on_checkpoint=None, progress=True) -> None:
        from engine.trainer import AnswerTrainer

        from .fit import fit

        rows, anchored = partial(cls.rows, exp, policy, task), getattr(exp.method, "kl_weight", 0.0)
        anchor = partial(cls.extra_loss, exp.method) if anchored else None  # type: ignore[attr-defined]

        def build(schedule: Any) -> AnswerTrainer:
            return AnswerTrainer.of(policy, schedule, rows, cls.loss_type, anchor)

        fit(build, exp, policy, run, on_checkpoint, progress, "loss {loss:.3f}")
