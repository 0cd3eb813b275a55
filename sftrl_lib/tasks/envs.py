"""GeneralPoints as a Gymnasium environment, so that other tools can use the same task.

gymnasium.make("sftrl/GeneralPoints-v0", rule="five", tries=5): text in, text out. An episode is one
deal; the observation is the question and then, after each failed try, the verifier's message.
"""

import string
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from .. import prompts
from ..errors import check
from .general_points import GeneralPoints, Rule

ENV_ID = "sftrl/GeneralPoints-v0"


class GeneralPointsEnv(gymnasium.Env[str, str]):
    """One deal an episode, `tries` answers at most; the reward of a step is the verdict's.

    Parameters as in `GeneralPoints`, plus `split` and `tries`; raises SftrlError if one is wrong.
    `info` holds the deal (after reset) or the verdict (after step) in plain numbers and words.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self, rule: str | Rule = "ten", target: int = 24, tries: int = 3, split: str = "train",
        scheme: str = "paper", render_mode: str | None = None, **task_options: Any,
    ) -> None:  # fmt: skip
        self.task = GeneralPoints(rule, target=target, scheme=scheme, **task_options)
        check("the split", split, split in self.task.splits, self.task.splits)
        allowed = type(tries) is int and tries >= 1
        check("tries", tries, allowed, "a whole number, at least 1")
        check("the render mode", render_mode, render_mode in (None, "ansi"), "None or 'ansi'")
        self.split, self.tries, self.render_mode = split, tries, render_mode
        self.observation_space = Text(min_length=1, max_length=1_000, charset=string.printable)
        self.action_space = Text(min_length=0, max_length=1_000, charset=string.printable)
        self._tries_left, self._transcript = 0, []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.deal = self.task.item(self.split, 0, int(self.np_random.integers(2**31)))
        self._tries_left = self.tries
        self._transcript = [self.task.prompt(self.deal)]
        info = {"cards": self.deal.cards, "numbers": self.deal.numbers, "rule": self.deal.rule.name}
        return self._transcript[-1], info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._tries_left == 0:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() for a new deal.")
        verdict = self.task.verify(self.deal, action)
        self._tries_left = 0 if verdict.ok else self._tries_left - 1
        reply = verdict.message if verdict.ok else prompts.retry(verdict.message)
        self._transcript += [action, reply]
        info = {"ok": verdict.ok, "reason": verdict.reason, "tries_left": self._tries_left}
        return reply, verdict.reward, self._tries_left == 0, False, info

    def render(self) -> str | None:
        """The conversation so far, one message a paragraph."""
        return "\n\n".join(self._transcript) if self.render_mode == "ansi" else None


gymnasium.register(ENV_ID, entry_point=GeneralPointsEnv)
