"""RL with verification: rollout and verdict -> TRL's GRPOTrainer (paper, sections 3.2 and 5).

The paper uses PPO with a value network. Here a deal is played by a group of episodes, and the group
itself says what was to be expected (GRPO): no second network of the policy's size, nothing to
pre-train before the first step. One update is made per batch of episodes; the probability ratio is
then 1, and PPO's clipping range never binds.
"""

import math
import random
import time
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Literal

from pydantic import Field, model_validator

from commons.errors import check
from commons.settings import Count, NotNegative, Share, Temperature

from ..experiment import Experiment, MethodSettings
from ..registry import register_method
from .base import Method


def discounted_returns(rewards: Sequence[float], discount: float) -> list[float]:
    """Return of every try: its reward, plus what follows it, discounted once per try."""
    backwards = accumulate(reversed(rewards), lambda ahead, reward: reward + discount * ahead)
    return list(backwards)[::-1]


def group_advantages(
    rewards: Sequence[Sequence[float]], discount: float, credit: str = "try"
) -> list[list[float]]:
    """Advantage of every try of every episode of one deal; `rewards` has one list per episode.

    The return of a try is compared with the mean return of the *same* try of the group's episodes
    that came to it: a first try that failed is measured against first tries that succeeded, so it
    gains nothing from a success later on. All tries share one scale, the deviation within tries
    (pooled; for one try it is the standard deviation of GRPO), so that a try at which little was at
    stake stays small. A try that one episode alone came to has nothing to be compared with: 0.
    credit="episode" gives all tries of an episode the advantage of its first.
    """
    returns = [discounted_returns(r, discount) for r in rewards]
    if credit == "episode":
        returns = [r[:1] for r in returns]
    centred: list[list[float]] = [[] for _ in returns]
    squares, freedom = 0.0, 0
    for t in range(max(map(len, returns))):
        here = [(i, r[t]) for i, r in enumerate(returns) if t < len(r)]
        mean = math.fsum(value for _, value in here) / len(here)
        freedom += len(here) - 1
        for i, value in here:
            centred[i].append(value - mean)
            squares += (value - mean) ** 2
    scale = math.sqrt(squares / max(freedom, 1))
    if scale < 1e-6:  # no spread, nothing to learn
        return [[0.0] * len(r) for r in rewards]
    scaled = [[c / (scale + 1e-4) for c in row] for row in centred]
    if credit == "episode":
        return [row * len(r) for row, r in zip(scaled, rewards, strict=True)]
    return scaled


def episode_row(episode: Any, advantages: Sequence[float]) -> dict[str, list]:
    """One training row. The question is the prompt; the completion holds every answer and, between
    them, the verifier's messages, which the model did not write: env_mask 0, advantage 0."""
    first = episode.turns[0]
    row = {"prompt_ids": first.prompt_ids, "completion_ids": [], "env_mask": [], "advantages": []}
    for turn, advantage in zip(episode.turns, advantages, strict=True):
        read = [] if turn is first else turn.prompt_ids
        row["completion_ids"] += [*read, *turn.completion_ids]
        row["env_mask"] += [0] * len(read) + [1] * len(turn.completion_ids)
        row["advantages"] += [0.0] * len(read) + [advantage] * len(turn.completion_ids)
    return row


class GrpoSettings(MethodSettings):
    """A step is `batch` episodes: batch / group deals, each played by a group."""

    tries: Count = Field(description="verification iterations in training")
    group: Count = Field(8, description="episodes of one deal")
    temperature: Temperature = Field(1.0, description="sampling temperature of the rollouts")
    kl_weight: NotNegative = Field(0.0, description="weight of the KL to the init")
    credit: Literal["try", "episode"] = Field("try", description="what an advantage belongs to")
    discount: Share = Field(0.9, description="per try (paper: gamma 0.9)")

    @model_validator(mode="after")
    def _whole_groups(self) -> "GrpoSettings":
        whole = self.group >= 2 and self.batch % self.group == 0
        allowed = f"a multiple of group ({self.group}), and group at least 2"
        check("batch", self.batch, whole, allowed, change="batch")
        return self


@register_method("rl", rank=10)
class Grpo(Method):
    """Group i plays deal i of the training stream, which is the one that SFT draws from. The KL,
    where `kl_weight` asks for it, is to the policy as it was handed in."""

    label = "RL"
    style = {"color": "#0072B2", "marker": "o", "linestyle": "-"}
    settings_class = GrpoSettings
    measures_init = True
    stage = "rl"

    @staticmethod
    def train(exp, policy, task, run, on_checkpoint=None, progress=True) -> None:
        from engine.trainer import EpisodeTrainer

        from .fit import fit

        own = exp.method
        allowed = "more than 0, since RL learns from answers that differ"
        check("temperature", own.temperature, own.temperature > 0, allowed, change="temperature")

        def build(schedule: Any) -> EpisodeTrainer:
            playing = partial(play, exp, policy, task)
            return EpisodeTrainer.of(policy, schedule, playing, own.temperature, own.kl_weight)

        line = "reward {reward:+.2f}, solved {solved:.0%}, loss {loss:.3f}"
        fit(build, exp, policy, run, on_checkpoint, progress, line)


def play(
    exp: Experiment, policy: Any, task: Any, indices: list[str], trainer: Any
) -> dict[str, list | None]:
    """The episodes of one step, a group a deal, as TRL asks of its `rollout_func`: token ids, who
    wrote them, and, beside, the advantages. The step decides the random stream: a resumed run
    samples what it would have sampled."""
    import torch

    from commons.processes import RANK

    from ..rollout import rollout

    began, own = time.monotonic(), exp.method
    assert isinstance(own, GrpoSettings)
    deals = {i: task.item("train", exp.seed, int(i)) for i in dict.fromkeys(indices)}
    stream = f"rollout/{exp.seed}/{trainer.state.global_step}" + f"/{RANK}" * bool(RANK)
    seed = random.Random(stream).getrandbits(63)
    episodes = rollout(
        policy,
        task,
        [deals[i] for i in indices],
        tries=own.tries,
        temperature=own.temperature,
        max_new_tokens=exp.model.max_new_tokens,
        generator=torch.Generator(policy.device).manual_seed(seed),
    )
    trainer.count_rollout(episodes)
    trainer.show([e.picture for e in episodes if e.picture is not None])
    rows = []
    for start in range(0, len(episodes), own.group):
        group = episodes[start : start + own.group]
        credits = group_advantages([e.rewards for e in group], own.discount, own.credit)
        rows += [episode_row(e, a) for e, a in zip(group, credits, strict=True)]
    n = len(episodes)
    trainer.measured = {
        "solved": sum(e.solved for e in episodes) / n,
        "solved_first": sum(e.turns[0].verdict.ok for e in episodes) / n,
        "tries": sum(len(e.turns) for e in episodes) / n,
        "rollout_seconds": round(time.monotonic() - began, 3),
    }
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    returns = [discounted_returns(e.rewards, own.discount)[0] for e in episodes]
    return columns | {"logprobs": None, "returns": returns}
