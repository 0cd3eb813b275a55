"""Answers that need no understanding, to hold every result of navigation against."""

import random

from commons.errors import check
from sftrl_lib.tasks.base import Counts, Verdict
from sftrl_lib.tasks.navigation import Navigation, route_metrics
from worlds import walk_texts as texts
from worlds.walks import WORDS, Step


def _random_action(step: Step, rng: random.Random) -> str:
    turns = map(texts.turn_action, WORDS[step.actions])
    return rng.choice([texts.FORWARD, texts.STOP, *turns])


# Answers that need no understanding, to hold every result against. "compass_words" follows the
# instruction faultlessly but says its compass words whatever the action space: where SFT ends.
BASELINES = {
    "always_forward": lambda step, rng: texts.FORWARD,
    "compass_words": lambda step, rng: step.position.absolute,
    "random_legal": _random_action,
}


def baseline_metrics(
    task: Navigation, split: str, name: str, seed: int = 0, count: int | None = None,
    tries: int = 2,
) -> dict[str, Counts]:  # fmt: skip
    """The `route_metrics` of one of BASELINES on the first `count` (by default all) routes."""
    check("the baseline", name, name in BASELINES, BASELINES)
    rng, played = random.Random(f"nav/{name}/{split}/{seed}"), []
    for route in task.routes(split)[:count]:
        for step in task.positions(split, route, seed):
            verdicts: list[Verdict] = []
            while len(verdicts) < tries and not any(verdict.ok for verdict in verdicts):
                action = BASELINES[name](step, rng)
                position = step.position
                answer = texts.answer(position.observation, position.sentence, action)
                verdicts.append(task.verify(step, answer))
            played.append((step, verdicts))
    return route_metrics(played, tries)
