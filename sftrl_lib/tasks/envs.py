"""The tasks as Gymnasium environments, so that other tools can use them: text in, text out.

gymnasium.make("sftrl/GeneralPoints-v0", rule="five", tries=5): an episode is one deal.
gymnasium.make("sftrl/Navigation-v0", rule="relative"): an episode is one route.
With pictures=True a question leaves out what render_mode="rgb_array" shows.
"""

import reprlib
import string
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Text

from commons.errors import SftrlError, check

from .base import Task
from .general_points import GeneralPoints, GeneralPointsVL
from .navigation import Navigation, NavigationVL

ENV_ID, NAVIGATION_ID = "sftrl/GeneralPoints-v0", "sftrl/Navigation-v0"
PICTURE = 560  # pixels
# What it costs on top that the tries at an item run out, by reward scheme: one answer cannot know.
# RL does not add it: recorded runs were trained without, and a last try that failed is below one
# that solved as it is.
FAILED = {"paper": -1.0, "binary": 0.0, "authors": -1.0, "quoted": -1.0}


class AnyText(Text):
    """Every text, of any length and alphabet. Samples: up to 1,000 printable ASCII characters."""

    def __init__(self) -> None:
        super().__init__(1_000, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        """Whether it is a text at all."""
        return isinstance(x, str)


class TextEnv(gymnasium.Env[str, str]):
    """Items in a row, `tries` answers at most to each; the reward of a step is the verdict's.

    Parameters: `tries` (by default the task's), `split`, `render_mode`, `pictures`, and what the
    task takes: its settings, or the `data` of navigation.

    The observation is the question of an item, and after a failed try the verifier's message. A
    correct answer leads to the next item; the episode ends after the last one, and where the tries
    at one run out, which costs FAILED on top. Raises SftrlError on a wrong option, and on an
    action that is no text. `reset_options`: what `reset(options={...})` takes.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}
    reset_options: tuple[str, ...] = ()
    tasks: tuple[type[Task], type[Task]]  # without pictures, and with

    def __init__(
        self,
        tries: int | None = None,
        split: str = "train",
        render_mode: str | None = None,
        pictures: bool = False,
        **given: Any,
    ) -> None:
        task = self.tasks[bool(pictures)](**given)
        tries = task.numbers["tries"] if tries is None else tries
        check("the split", split, split in task.splits, task.splits)
        check("tries", tries, type(tries) is int and tries >= 1, "a whole number, at least 1")
        modes = self.metadata["render_modes"]
        check("the render mode", render_mode, render_mode in (None, *modes), ["None", *modes])
        self.task: Any = task  # it can `draw`, which not every Task can
        self.split, self.tries, self.render_mode = split, tries, render_mode
        self._failed = FAILED[getattr(task.settings, "scheme", "paper")]
        self.observation_space, self.action_space = AnyText(), AnyText()
        self.items: Sequence[Any] = ()
        self._at, self._tries_left = 0, 0
        self._transcript: list[str] = []

    def _deal(self, number: int, **options: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        """The items of an episode, from a random number below 2**31, and what `info` says."""
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """The first question, and `info`; a wrong option is an SftrlError."""
        super().reset(seed=seed)
        for name in options or {}:
            known = self.reset_options or "absent: this environment has none"
            check("an option of reset", name, name in self.reset_options, known)
        self.items, info = self._deal(int(self.np_random.integers(2**31)), **options or {})
        self._at, self._tries_left = 0, self.tries
        self._transcript = [self.task.prompt(self.items[0])]
        return self._transcript[-1], info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """(next message, reward, whether it is over, False, info); ResetNeeded once it is over."""
        if not isinstance(action, str):
            raise SftrlError(
                f"the action is {reprlib.repr(action)}, but it must be a text (str), the model's "
                "answer; decode tokens before step()."
            )
        if self._tries_left == 0:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() for a new one.")
        verdict = self.task.verify(self.items[self._at], action)
        reward = verdict.reward
        if not verdict.ok:
            self._tries_left -= 1
            reward += 0.0 if self._tries_left else self._failed
            reply = self.task.texts.retry(verdict.message)
        elif self._at + 1 == len(self.items):
            self._tries_left = 0
            reply = verdict.message
        else:
            self._at, self._tries_left = self._at + 1, self.tries
            reply = self.task.prompt(self.items[self._at])
        self._transcript += [action, reply]
        info = {"ok": verdict.ok, "reason": verdict.reason, "tries_left": self._tries_left}
        return reply, reward, self._tries_left == 0, False, info

    def render(self) -> str | np.ndarray | None:
        """The conversation so far, one message a paragraph; or the picture of the item, (560, 560,
        3) bytes."""
        if self.render_mode == "rgb_array":
            return np.asarray(self.task.draw(self.items[self._at], PICTURE))
        return "\n\n".join(self._transcript) if self.render_mode == "ansi" else None


class GeneralPointsEnv(TextEnv):
    """One deal an episode; `info` holds the deal (after reset) or the verdict (after step) in plain
    numbers and words."""

    tasks = (GeneralPoints, GeneralPointsVL)

    def _deal(self, number: int, **options: Any) -> tuple[Sequence[Any], dict[str, Any]]:
        self.deal = deal = self.task.item(self.split, 0, number)
        return [deal], {"cards": deal.cards, "numbers": deal.numbers, "rule": deal.rule.name}


class NavigationEnv(TextEnv):
    """One route an episode, `tries` at each position; `info` holds the route's index and number of
    positions (after reset), or the verdict.
    `reset(options={"route_idx": i})` plays the route of that index; the seed still draws its rail.
    """

    reset_options = ("route_idx",)
    tasks = (Navigation, NavigationVL)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._routes = {route.index: route for route in self.task.routes(self.split)}

    def _deal(
        self, number: int, route_idx: int | None = None, **options: Any
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        known = list(self._routes)
        if route_idx is None:
            route_idx = known[number % len(known)]
        what = f"the index of one of the {len(known)} routes of {self.split} in their file, "
        what += f"{known[0]} to {known[-1]}"
        allowed = type(route_idx) is int and route_idx in self._routes
        check("route_idx", route_idx, allowed, what)
        items = self.task.positions(self.split, self._routes[route_idx], seed=number)
        return items, {"route": route_idx, "positions": len(items)}


gymnasium.register(ENV_ID, entry_point=GeneralPointsEnv)
gymnasium.register(NAVIGATION_ID, entry_point=NavigationEnv)
