"""THE way a policy meets a task: batched multi-turn episodes, used by RL and by evaluation alike.

answer -> verdict -> the verifier's message -> answer, up to a number of tries (paper, section 3.2).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from .errors import SftrlError
from .models.policy import Policy
from .tasks.base import Task, Verdict
from .tasks.texts import retry


@dataclass
class Turn:
    """One try. `prompt_ids` is what the model read since its last answer: the question, or the
    verifier's message; `completion_ids` what it wrote, the end included where it was reached. (The
    template's end of an answer that ended otherwise, or was cut off, opens the next prompt.)"""

    prompt_ids: list[int]
    completion_ids: list[int]
    text: str
    verdict: Verdict


@dataclass
class Episode:
    """All tries at one item."""

    item: Any
    turns: list[Turn] = field(default_factory=list)
    picture: Image.Image | None = None  # what the question shows

    @property
    def solved(self) -> bool:
        """Whether the last try was right; no episode goes on after that."""
        return bool(self.turns) and self.turns[-1].verdict.ok

    @property
    def rewards(self) -> list[float]:
        """One a try."""
        return [turn.verdict.reward for turn in self.turns]

    def ids(self) -> list[int]:
        """The whole conversation so far."""
        return [i for turn in self.turns for i in (*turn.prompt_ids, *turn.completion_ids)]


def _next_prompt(policy: Policy, task: Task, episode: Episode) -> list[int]:
    """The question, or the verifier's message on the last try."""
    if not episode.turns:
        return policy.first_turn(task.prompt(episode.item), episode.picture is not None)
    last = episode.turns[-1]
    missing = [] if last.completion_ids[-1] == policy.end_id else policy.turn_end
    return missing + policy.next_turn(retry(last.verdict.message))


def rollout(
    policy: Policy, task: Task, items: list, *, tries: int = 1, temperature: float = 0.0,
    generator: torch.Generator | None = None, max_new_tokens: int = 40, progress: bool = False,
) -> list[Episode]:  # fmt: skip
    """Play one episode an item, in order. A solved episode leaves the batch: it costs no more."""
    if tries < 1:
        raise SftrlError(f"tries is {tries}, but an episode has at least 1; give tries=1 or more.")
    shown = {id(item): task.picture(item, policy.image_size) for item in items}
    episodes = [Episode(item, picture=shown[id(item)]) for item in items]
    bar = tqdm(total=len(episodes), disable=not progress, desc="episodes", leave=False)
    policy.model.eval()
    for _ in range(tries):
        active = [e for e in episodes if not e.solved]
        asked = [_next_prompt(policy, task, e) for e in active]
        contexts = [e.ids() + ids for e, ids in zip(active, asked, strict=True)]
        # Neighbours of one length share a batch: padding is work for nothing.
        order = sorted(range(len(active)), key=lambda i: len(contexts[i]))
        for start in range(0, len(order), policy.generation_batch_size):
            part = order[start : start + policy.generation_batch_size]
            pictures = [p for i in part if (p := active[i].picture)]
            answers = policy.generate(
                [contexts[i] for i in part], max_new_tokens, temperature, generator, pictures
            )
            for i, ids in zip(part, answers, strict=True):
                text = policy.decode(ids)
                verdict = task.verify(active[i].item, text)
                active[i].turns.append(Turn(asked[i], ids, text, verdict))
                bar.update(verdict.ok)
    bar.update(len(episodes) - bar.n)
    bar.close()
    return episodes


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
