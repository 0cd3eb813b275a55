"""The contract of a task: what it deals, asks, accepts and counts. One file declares one.

    @register_task("countdown")
    class Countdown(Task): ...

A subclass must say `item`, `prompt`, `expert` and `verify`; everything else has a default.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from PIL import Image

from worlds import texts
from worlds.verdict import Verdict

from ..experiment import TaskSettings

# (right, of) of each cluster of trials; trials of one cluster are nearly one question.
Counts = list[tuple[int, int]]


def by_cluster(marks: Iterable[tuple[Hashable, bool]]) -> Counts:
    """Counts from (cluster, right or wrong) marks."""
    clusters: dict[Hashable, list[bool]] = defaultdict(list)
    for cluster, right in marks:
        clusters[cluster].append(bool(right))
    return [(sum(c), len(c)) for c in clusters.values()]


class Task:
    """Deals items, makes prompts of them, knows an expert answer, verifies any answer, and knows
    what to measure. Made from its settings, by name: `Countdown(rule="four")`."""

    name: ClassVar[str]  # given by `register_task`
    settings_class: ClassVar[type[TaskSettings]] = TaskSettings
    pictures: ClassVar[bool] = False  # whether a question shows one
    splits: Sequence[str] = ("train", "id_unseen", "rule_ood")
    curve_splits: Sequence[str] = ("id_unseen", "rule_ood")  # measured along training
    side_splits: Sequence[str] = ()  # measured at the end, more coarsely
    headline: ClassVar[str] = "success"  # the metric that claims rest on
    counted: ClassVar[str] = "episodes"  # what an evaluation counts, for captions
    # Settings outside its own section: sizes of evaluations, tries; and what it was tuned to, by
    # preset and method.
    numbers: ClassVar[dict[str, Any]] = {
        "tries": 3,
        "eval_tries": 3,
        "eval_episodes": 300,
        "final_episodes": 1500,
    }
    tuned: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    # What figures and menus call its metrics and splits.
    metrics: ClassVar[dict[str, str]] = {"success": "success (%)"}
    split_labels: ClassVar[dict[str, str]] = {
        "id_seen": "ID, seen in training",
        "id_unseen": "ID, unseen",
        "rule_ood": "rule OOD",
        "visual_ood": "visual OOD",
    }
    # Its texts, by the setting `wording` where it has one; of each, `rollout` needs `retry` only.
    wordings: ClassVar[Mapping[str, Any]] = {"book": texts}
    # What shows whether the rule is read, and followed: a question, and (split, metric) panels.
    mechanism: ClassVar[tuple[str, Sequence[tuple[str, str]]]] = ("", ())

    def __init__(self, **given: Any) -> None:
        self.settings: Any = self.settings_class(**{"name": self.name} | given)

    @property
    def texts(self) -> Any:
        """The texts of its wording."""
        return self.wordings[getattr(self.settings, "wording", "book")]

    @classmethod
    def of(cls, settings: TaskSettings) -> "Task":
        """The task with these settings."""
        return cls(**{name: getattr(settings, name) for name in type(settings).model_fields})

    def item(self, split: str, seed: int, index: int) -> Any:
        """Item `index` of a split: the same for the same (split, seed, index), in any batch.
        Raises SftrlError on an unknown split."""
        raise NotImplementedError

    def prompt(self, item: Any) -> str:
        """The user's first message."""
        raise NotImplementedError

    def picture(self, item: Any, size: int) -> Image.Image | None:
        """What the message shows, a square of `size` pixels; None in a text task."""
        return None

    def expert(self, item: Any, rng: random.Random) -> str:
        """A correct answer, drawn with `rng` among all correct ones."""
        raise NotImplementedError

    def verify(self, item: Any, text: str) -> Verdict:
        """Judge one answer: the reward, the metric and the message, in one."""
        raise NotImplementedError

    def variant(self, rng: random.Random) -> "Task":
        """This task under another rule of training, drawn by `rng`; itself where there is none."""
        return self

    def test_items(self, split: str, seed: int, count: int) -> list[Any]:
        """The items of `count` test episodes."""
        return [self.item(split, seed, index) for index in range(count)]

    def cluster(self, item: Any) -> Hashable:
        """Items of one cluster are nearly one question: intervals count them so."""
        return item

    def count(self, episodes: Sequence[Any], marks: Iterable[bool]) -> Counts:
        """Counts of one mark an episode, by the clusters of their items."""
        clusters = (self.cluster(episode.item) for episode in episodes)
        return by_cluster(zip(clusters, marks, strict=True))

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """{(metric, tries allowed): counts} of `rollout.Episode`s with up to `tries` turns: here
        success within t tries, for every t."""
        return {
            ("success", t): self.count(
                episodes, [any(turn.verdict.ok for turn in e.turns[:t]) for e in episodes]
            )
            for t in range(1, tries + 1)
        }
