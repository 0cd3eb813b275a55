"""Rejection sampling: SFT on the model's own accepted answers, sampled anew at every step
(2510.18874: that the data are the policy's own is what protects what it knew)."""

import random
from typing import Any

from pydantic import Field

from commons.settings import Temperature

from ..experiment import Experiment, MethodSettings
from ..registry import register_method
from .sft import Sft


class RejectionSettings(MethodSettings):
    """SFT's, and at which temperature answers are sampled."""

    temperature: Temperature = Field(1.0, description="sampling temperature of the rollouts")


@register_method("rejection", rank=40)
class Rejection(Sft):
    """One first try at each deal of the step; what the verifier accepts is imitated."""

    label = "rejection sampling"
    style = {"color": "#CC79A7", "marker": "v", "linestyle": "--"}
    settings_class = RejectionSettings
    like = "sft"

    @staticmethod
    def rows(exp: Experiment, policy: Any, task: Any, trainer: Any, indices: list[int]) -> list:
        import torch

        from ..rollout import rollout

        assert isinstance(exp.method, RejectionSettings)
        items = [task.item("train", exp.seed, index) for index in indices]
        seed = random.Random(f"rejection/{exp.seed}/{indices[0]}").getrandbits(63)
        episodes = rollout(
            policy,
            task,
            items,
            temperature=exp.method.temperature,
            generator=torch.Generator(policy.device).manual_seed(seed),
            max_new_tokens=exp.model.max_new_tokens,
        )
        trainer.count_rollout(episodes)
        trainer.measured["solved"] = sum(e.solved for e in episodes) / len(episodes)
        rows = []
        for e in episodes:
            (turn,) = e.turns
            taught = turn.completion_ids if e.solved else [-100] * len(turn.completion_ids)
            ids, labels = turn.prompt_ids + turn.completion_ids, [-100] * len(turn.prompt_ids)
            rows.append({"input_ids": ids, "labels": labels + taught, "picture": e.picture})
        return rows
