"""Countdown, the worked example of a task in one file: reach any target with three to six numbers.

The rule is how many numbers there are, and which operator is forbidden: "4", "5", "4 without *".
Train on one, test on another. (TinyZero and many others train on this game; none changes its rule.)
"""

import hashlib
import random
import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from commons.errors import check
from sftrl_lib.experiment import TaskSettings
from sftrl_lib.registry import register_task
from sftrl_lib.tasks.base import Task, Verdict
from worlds.answers import read_fields
from worlds.formulas import OPERATIONS, evaluate_formula
from worlds.verifier import verify_formula

_RULE = re.compile(r"([3-6])(?: without ([+\-*/]))?")
KNOWN = "a number of numbers, 3 to 6, and perhaps a forbidden operator: 4, 5, 4 without *"
NAMES = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


@dataclass(frozen=True)
class Game:
    """What is dealt: numbers, a target that they can make, the operator that must not be used."""

    numbers: tuple[int, ...]
    target: int
    forbidden: str  # "" where all may be used
    solution: str


class CountdownSettings(TaskSettings):
    """Which game is trained, and which is the test."""

    rule: str = Field("4", description="training rule: 3 | 4 | 5 | 6, or 4 without *")
    ood_rule: str = Field("5", description="rule of the OOD test")

    @field_validator("rule", "ood_rule", mode="before")
    @classmethod
    def _known(cls, rule: Any, of: ValidationInfo) -> str:
        rule = str(rule) if type(rule) is int else rule  # as a YAML file has it
        known = isinstance(rule, str) and _RULE.fullmatch(rule) is not None
        name = of.field_name or "rule"
        check(name, rule, known, KNOWN, change=name)
        return rule


@register_task("countdown", rank=90)
class Countdown(Task):
    """Targets 10 to 99. A quarter of the (numbers, target) pairs, by a hash, is never trained on.

    train, id_seen: the training rule; id_unseen: the same, held out; rule_ood: the OOD rule, held
    out.
    """

    settings_class = CountdownSettings
    splits = ("train", "id_seen", "id_unseen", "rule_ood")
    side_splits = ("id_seen",)
    numbers = Task.numbers | {"max_new_tokens": 60}
    metrics = {"success": "success (%)", "numbers_right": "right numbers used (%)"}
    mechanism = (
        "are the numbers used as the rule says?",
        [("rule_ood", "numbers_right"), ("id_unseen", "numbers_right"), ("rule_ood", "success")],
    )

    def item(self, split: str, seed: int, index: int) -> Game:
        check("the split", split, split in self.splits, self.splits)
        rule = self.settings.ood_rule if split == "rule_ood" else self.settings.rule
        [(count, forbidden)] = _RULE.findall(rule)
        rng = random.Random(f"countdown/{split}/{seed}/{index}")
        while True:
            game = self._deal(int(count), forbidden, rng)
            if game and self._held_out(game) == (split not in ("train", "id_seen")):
                return game

    @staticmethod
    def _deal(count: int, forbidden: str, rng: random.Random) -> Game | None:
        """A random formula decides the target; None where it is no whole number of 10 to 99."""
        signs = [sign for sign in "+-*/" if sign != forbidden]
        numbers = [rng.randint(1, 20) for _ in range(count)]
        text, value = str(numbers[0]), Fraction(numbers[0])
        for number in numbers[1:]:  # from left to right: what stands there is one operand
            sign = rng.choice(signs)
            left = text if sign in "+-" or text.isdigit() else f"({text})"
            text, value = f"{left}{sign}{number}", OPERATIONS[sign](value, number)
        shown = tuple(rng.sample(numbers, count))
        whole = value.denominator == 1 and 10 <= value <= 99
        return Game(shown, int(value), forbidden, text) if whole else None

    @staticmethod
    def _held_out(game: Game) -> bool:
        key = f"countdown/{sorted(game.numbers)}/{game.target}"
        return hashlib.sha256(key.encode()).digest()[0] < 64

    def prompt(self, game: Game) -> str:
        signs = ", ".join(sign for sign in "+-*/" if sign != game.forbidden)
        rule = f" Do not use {NAMES[game.forbidden]}." if game.forbidden else ""
        return (
            f"Target: {game.target}.\nNumbers: {', '.join(map(str, game.numbers))}.\n"
            "Build one formula whose value is the target. Use every number exactly once, with "
            f'{signs} and brackets.{rule} Answer with a JSON object: {{"formula": "the formula"}}.'
        )

    def expert(self, game: Game, rng: random.Random) -> str:
        """The formula that the target was made of: to list all others would take long."""
        return f'{{"formula": "{game.solution}"}}'

    def verify(self, game: Game, text: str) -> Verdict:
        """Whether the formula is legal, uses the numbers, obeys the rule and makes the target."""
        formula = (read_fields(text, ("formula",)) or {}).get("formula")
        if not isinstance(formula, str):
            message = "your answer is not in the format that was asked for"
            return Verdict(False, -3.0, "unreadable", message)
        verdict = verify_formula(formula, game.numbers, game.target)
        if verdict.value is not None:
            _, _, steps = evaluate_formula(formula)  # as it was read: × and \times are *
            if game.forbidden in {sign for _, sign, _, _ in steps}:
                message = f"you must not use {NAMES[game.forbidden]}"
                return replace(verdict, ok=False, reward=-2.0, reason="forbidden", message=message)
        said = verdict.message.replace("the values of the cards", "the numbers")
        return replace(verdict, message=said)

    def cluster(self, game: Game) -> Hashable:
        return tuple(sorted(game.numbers))

    def measures(self, episodes, tries):
        """Success; and, of first answers, those that use the right numbers, each once."""
        used = [sorted(e.turns[0].verdict.numbers or ()) for e in episodes]
        right = [sorted(e.item.numbers) == own for e, own in zip(episodes, used, strict=True)]
        return super().measures(episodes, tries) | {
            ("numbers_right", 1): self.count(episodes, right)
        }
