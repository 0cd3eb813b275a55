"""THE way a policy meets a task: batched multi-turn episodes, used by RL and by evaluation alike.

answer -> verdict -> the verifier's message -> answer, up to a number of tries (paper, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from commons.errors import SftrlError
from commons.processes import WORLD
from engine.generation import Conversations, Streams
from engine.policy import Policy
from engine.sharing import gathered

from .tasks.base import Task, Verdict


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
    processed: int = 0  # tokens that the model ran; what episodes share counts with one of them

    @property
    def solved(self) -> bool:
        """Whether the last try was right; no episode goes on after that."""
        return bool(self.turns) and self.turns[-1].verdict.ok

    @property
    def rewards(self) -> list[float]:
        """One a try."""
        return [turn.verdict.reward for turn in self.turns]

    def take(self, policy: Policy, task: Task, read: list[int], ids: list[int]) -> None:
        """Another try: what the model `read`, and the answer `ids` that it wrote."""
        text = policy.decode(ids)
        self.turns.append(Turn(read, ids, text, task.verify(self.item, text)))

    def ids(self) -> list[int]:
        """The whole conversation so far."""
        return [i for turn in self.turns for i in (*turn.prompt_ids, *turn.completion_ids)]


def _message(policy: Policy, task: Task, episode: Episode) -> list[int]:
    """What the verifier says of the last try, as the model reads it."""
    last = episode.turns[-1]
    missing = [] if last.completion_ids[-1] == policy.end_id else policy.turn_end
    return missing + policy.next_turn(task.texts.retry(last.verdict.message))


def rollout(
    policy: Policy, task: Task, items: list, *, tries: int | Sequence[int] = 1,
    temperature: float | Sequence[float] = 0.0, generator: Streams = None,
    max_new_tokens: int = 40, progress: bool = False,
) -> list[Episode]:  # fmt: skip
    """Play one episode an item, in order, up to `policy.generation_batch_size` side by side;
    `tries`, `temperature` and `generator` are one for all, or one for each. An episode that is over
    costs no more, and what episodes of one item begin with costs once."""
    tries = [tries] * len(items) if isinstance(tries, int) else tries
    if min(tries, default=1) < 1:
        least = min(tries)
        raise SftrlError(f"tries is {least}, but an episode has at least 1; give tries=1 or more.")
    heat = [temperature] * len(items) if isinstance(temperature, int | float) else temperature
    different = {id(item): item for item in items}
    shown = {key: task.picture(item, policy.image_size) for key, item in different.items()}
    asked = {
        key: policy.first_turn(task.prompt(item), shown[key]) for key, item in different.items()
    }
    episodes = [Episode(item, picture=shown[id(item)]) for item in items]
    bar = tqdm(total=len(episodes), disable=not progress, desc="episodes", leave=False)
    policy.model.eval()
    # Neighbours have one beginning, which they share, or, where pictures differ, one length.
    rank = {key: n for n, key in enumerate(different)}

    def place(i: int) -> tuple:
        ids, key = asked[id(items[i])], id(items[i])
        return (len(ids) if shown[key] else ids, rank[key])

    order = sorted(range(len(items)), key=place)
    for start in range(0, len(order), policy.generation_batch_size):
        part = order[start : start + policy.generation_batch_size]
        prompts = [asked[id(items[i])] for i in part]
        pictures = [p for i in part if (p := episodes[i].picture)]
        talk = Conversations(policy, prompts, pictures)
        active = list(range(len(part)))
        said: list[list[int]] = [[] for _ in part]
        while active:
            now = [heat[part[n]] for n in active]
            own = isinstance(generator, Sequence) and [generator[part[n]] for n in active]
            answers = talk.answer(active, said, max_new_tokens, now, own or generator)
            for n, ids, read in zip(active, answers, said, strict=True):
                episode = episodes[part[n]]
                episode.take(policy, task, read if episode.turns else prompts[n], ids)
                bar.update(episode.solved)
            playing = [(n, episodes[part[n]]) for n in active]
            playing = [(n, e) for n, e in playing if not e.solved and len(e.turns) < tries[part[n]]]
            active = [n for n, _ in playing]
            said = [_message(policy, task, e) for _, e in playing]
        for i, processed in zip(part, talk.processed, strict=True):
            episodes[i].processed = processed
    bar.update(len(episodes) - bar.n)
    bar.close()
    return episodes


def of_all(policy: Policy, task: Task, items: list, episodes: list[Episode]) -> list[Episode]:
    """The episodes at `items`, of which this process has played its `share`, and the others
    theirs. They say the token ids of their answers; what these mean is found out here."""
    if WORLD == 1:
        return episodes
    own = [[turn.completion_ids for turn in e.turns] for e in episodes]
    told = [Episode(item) for item in items]  # without the pictures, which would fill the memory
    for episode, said in zip(told, gathered(own, policy.device), strict=True):
        item = episode.item
        read = policy.first_turn(task.prompt(item), task.picture(item, policy.image_size))
        for ids in said:
            read = _message(policy, task, episode) if episode.turns else read
            episode.take(policy, task, read, ids)
    return told
