"""What every task offers to the rollout, the trainers and the evaluation."""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from PIL import Image

REASONS = (
    "solved", "wrong_value", "wrong_numbers", "illegal_formula", "unreadable",  # GeneralPoints
    "misread_cards",  # GeneralPoints in pictures
    "wrong_action", "wrong_observation",  # navigation, beside "solved" and "unreadable"
)  # fmt: skip


# What it costs on top that the tries at an item run out, by reward scheme. The environments add it,
# since one answer cannot know. RL here does not: recorded runs were trained without, and a last try
# that failed is below one that solved as it is.
FAILED = {"paper": -1.0, "binary": 0.0, "authors": -1.0}


@dataclass(frozen=True)
class Verdict:
    """What the verifier says of one answer: at once the reward, the metric and the feedback.

    `reason` is one of `REASONS`; `message` goes back to the model (paper, section 3.2); `value` is
    the exact value of a legal formula; `numbers` the card values the answer claims.
    """

    ok: bool
    reward: float
    reason: str
    message: str
    value: Fraction | None = None
    numbers: tuple[int, ...] | None = None


# (right, of) of each cluster of trials; trials of one cluster are nearly one question.
Counts = list[tuple[int, int]]


def by_cluster(marks: Iterable[tuple[Hashable, bool]]) -> Counts:
    """Counts from (cluster, right or wrong) marks."""
    clusters: dict[Hashable, list[bool]] = defaultdict(list)
    for cluster, right in marks:
        clusters[cluster].append(bool(right))
    return [(sum(c), len(c)) for c in clusters.values()]


class Task(Protocol):
    """A task deals items, makes prompts of them, knows an expert answer, verifies any answer, and
    knows what to measure. Every split but "train" is for tests; no claim rests on `side_splits`."""

    name: str
    scheme: str  # of rewards
    pictures: bool  # whether a question shows one
    splits: tuple[str, ...]
    side_splits: tuple[str, ...]

    def item(self, split: str, seed: int, index: int) -> Any:
        """Item `index` of a split: the same for the same (split, seed, index), in any batch."""

    def prompt(self, item: Any) -> str:
        """The user's first message."""

    def picture(self, item: Any, size: int) -> Image.Image | None:
        """What the message shows, a square of `size` pixels; None in a text task."""

    def expert(self, item: Any, rng: random.Random) -> str:
        """A correct answer, drawn with `rng` among all correct ones."""

    def verify(self, item: Any, text: str) -> Verdict:
        """Judge one answer."""

    def test_items(self, split: str, seed: int, count: int) -> list[Any]:
        """The items of `count` test episodes (for GeneralPoints: deals; for navigation: routes)."""

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """{(metric, tries allowed): counts} of `rollout.Episode`s with up to `tries` turns."""
