"""RL with verification: rollout and verdict -> TRL's GRPOTrainer (paper, sections 3.2 and 5).

The paper uses PPO with a value network. Here a deal is played by a group of episodes, and the group
itself says what was to be expected (GRPO): no second network of the policy's size, nothing to
pre-train before the first step. One update is made per batch of episodes; the probability ratio is
then 1, and PPO's clipping range never binds.
"""

import copy
import math
import random
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from datasets import Dataset
from trl import GRPOConfig
from trl.trainer.utils import add_fused_lm_head

from .config import Experiment
from .errors import SftrlError
from .policy import Policy
from .rollout import Episode, rollout
from .runs import RANK, Run
from .tasks.base import Task
from .trl_compat import EpisodeTrainer, arguments, fit, one_gpu


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


def episode_row(episode: Episode, advantages: Sequence[float]) -> dict[str, list]:
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


def tokens_read(episodes: list[Episode]) -> tuple[int, int]:
    """Tokens of a rollout: those of every conversation once (the paper's D_buffer), and those that
    were really processed, since each try reads its conversation again."""
    once = done = 0
    for episode in episodes:
        read = 0
        for turn in episode.turns:
            read += len(turn.prompt_ids) + len(turn.completion_ids)
            done += read
        once += read
    return once, done


def train_rl(
    exp: Experiment, policy: Policy, task: Task, run: Run, on_checkpoint: Callable | None = None,
    progress: bool = True,
) -> None:  # fmt: skip
    """Train `policy.model` in place; group i plays deal i of the training stream, which is the one
    SFT draws from. Arguments as for `train_sft`. SftrlError for a temperature of 0.

    The KL, where `exp.kl_weight` asks for it, is to the policy as it was handed in.
    """
    if exp.temperature <= 0:
        raise SftrlError(
            f"temperature is {exp.temperature}, but RL learns from answers that differ and needs "
            "more than 0; try temperature=1."
        )

    def play(prompts: list[str], trainer: EpisodeTrainer) -> dict[str, list]:
        deals = {i: task.item("train", exp.seed, int(i)) for i in dict.fromkeys(prompts)}
        began = time.monotonic()
        # The step decides the random stream: a resumed run samples what it would have sampled.
        stream = f"rollout/{exp.seed}/{trainer.state.global_step}" + f"/{RANK}" * bool(RANK)
        seed = random.Random(stream).getrandbits(63)
        episodes = rollout(
            policy, task, [deals[i] for i in prompts], tries=exp.tries,
            temperature=exp.temperature, max_new_tokens=exp.max_new_tokens,
            generator=torch.Generator(policy.device).manual_seed(seed),
        )  # fmt: skip
        read, reread = tokens_read(episodes)
        trainer.ledger.rollout_tokens += trainer.everywhere(read)
        trainer.ledger.done_rollout_tokens += trainer.everywhere(reread)
        trainer.show([e.picture for e in episodes if e.picture is not None])
        rows = []
        for start in range(0, len(episodes), exp.group):
            group = episodes[start : start + exp.group]
            credits = group_advantages([e.rewards for e in group], exp.discount, exp.credit)
            rows += [episode_row(e, a) for e, a in zip(group, credits, strict=True)]
        n = len(episodes)
        trainer.measured = {
            "solved": sum(e.solved for e in episodes) / n,
            "solved_first": sum(e.turns[0].verdict.ok for e in episodes) / n,
            "tries": sum(len(e.turns) for e in episodes) / n,
            "rollout_seconds": round(time.monotonic() - began, 3),
        }
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        returns = [discounted_returns(e.rewards, exp.discount)[0] for e in episodes]
        return columns | {"logprobs": None, "returns": returns}

    def reward(returns: list[float], **_) -> list[float]:
        return returns  # for TRL's log only: the advantages come from `play`

    adapters = hasattr(policy.model, "peft_config")  # TRL then keeps a copy of the adapter
    reference = copy.deepcopy(policy.model).eval() if exp.kl_weight and not adapters else None

    def build() -> EpisodeTrainer:
        config = GRPOConfig(
            **arguments(exp, policy, run), num_generations=exp.group, shuffle_dataset=False,
            temperature=exp.temperature, epsilon=exp.clip, beta=exp.kl_weight if adapters else 0.0,
            num_iterations=1, steps_per_generation=1, loss_type="dapo",
        )  # fmt: skip
        deals = range(exp.steps * exp.batch // exp.group)
        trainer = EpisodeTrainer(
            model=policy.model, args=one_gpu(config), processing_class=policy.tokenizer,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in deals]}),
            reward_funcs=reward, rollout_func=play,
        )  # fmt: skip
        if reference is not None:  # TRL would load the reference from the Hub, by the model's name
            add_fused_lm_head(reference, temperature=exp.temperature)
            trainer.ref_model, trainer.beta = reference, exp.kl_weight
        return trainer

    line = "reward {reward:+.2f}, solved {solved:.0%}, loss {loss:.3f}"
    fit(build, exp, policy, run, on_checkpoint, progress, line)
    if adapters and exp.kl_weight:
        policy.model.delete_adapter("ref")
