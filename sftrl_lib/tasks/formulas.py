"""Formulas: what they are worth, exactly, and what is wrong with one.

Model text is never executed.
"""

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ..errors import check
from . import general_points_texts as texts
from .answers import plain_signs
from .base import Verdict

# "paper": the rewards that the paper states; "authors": those of the authors' code, which adds them
# up; "binary": the outcome alone.
_PAPER = {
    "solved": 5.0,
    "wrong_value": -1.0,
    "wrong_numbers": -2.0,
    "illegal_formula": -3.0,
    "unreadable": -3.0,
    "misread_cards": -1.5,
}
REWARDS: dict[str, dict[str, float]] = {
    "paper": _PAPER,
    "authors": _PAPER,
    "binary": dict.fromkeys(_PAPER, 0.0) | {"solved": 1.0},
}
MAX_FORMULA = 400  # characters; anything longer is refused unread

_SIGNS = str.maketrans("×✕·⋅∙∗÷∕⁄−–＋－＊／（）＝", "******///--+-*/()=")
_LEGAL = re.compile(r"[0-9+\-*/() ]+")
_CLAIM = re.compile(r" *[+-]?[0-9]{1,9}(?:[./][0-9]{1,9})? *")
_TOKENS = re.compile(r"0|[1-9][0-9]*|[+\-*/()]")  # "08" is two numbers in a row, hence illegal
_BINDING = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2}
OPERATIONS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": lambda x, y: Fraction(x) / y,
}  # fmt: skip


class IllegalFormula(Exception):
    """The text is not a formula."""


def evaluate_formula(
    formula: str, divide: Callable[[Any, Any], Any] = OPERATIONS["/"]
) -> tuple[Any, list[int], list[tuple]]:
    """Exact value, numbers and steps (left, sign, right, result) of a formula, with two stacks: no
    recursion, nothing is executed.

    Numbers of up to four ASCII digits, binary + - * / (or a typographic or LaTeX sign), brackets,
    spaces, and at the end perhaps "=" and a number, which does not count. Anything else raises
    IllegalFormula or ZeroDivisionError.
    """
    if len(formula) > MAX_FORMULA:
        raise IllegalFormula
    formula, equals, claim = plain_signs(formula).strip("$ ").translate(_SIGNS).partition("=")
    if not _LEGAL.fullmatch(formula) or (equals and not _CLAIM.fullmatch(claim)):
        raise IllegalFormula
    values: list[Any] = []  # whatever `divide` makes of them
    operators: list[str] = []
    numbers, steps, operand_next = [], [], True
    operations = OPERATIONS | {"/": divide}

    def reduce() -> None:
        right, left, sign = values.pop(), values.pop(), operators.pop()
        values.append(operations[sign](left, right))
        steps.append((left, sign, right, values[-1]))

    for token in _TOKENS.findall(formula):
        if (token == "(" or token.isdigit()) != operand_next or len(token) > 4:
            raise IllegalFormula
        if token == "(":
            operators.append(token)
        elif token == ")":
            while operators and operators[-1] != "(":
                reduce()
            if not operators:
                raise IllegalFormula
            operators.pop()
        elif operand_next:
            numbers.append(int(token))
            values.append(numbers[-1])
            operand_next = False
        else:
            while operators and _BINDING[operators[-1]] >= _BINDING[token]:
                reduce()
            operators.append(token)
            operand_next = True
    if operand_next or "(" in operators:
        raise IllegalFormula
    while operators:
        reduce()
    return values[0], numbers, steps


def miscounted(said: Sequence[int], numbers: Sequence[int]) -> tuple[list, list, list]:
    """The numbers said that are on no card; that are on fewer cards; the numbers of cards left out.
    As often as they are too many, or too few."""
    more, less = Counter(said) - Counter(numbers), Counter(numbers) - Counter(said)
    return (
        [n for n in more.elements() if n not in numbers],
        [n for n in more.elements() if n in numbers],
        list(less.elements()),
    )


def _number_fault(said: Sequence[int], numbers: Sequence[int]) -> dict[str, list[int]]:
    """What the message names: invalid numbers; else overused ones, as used and as dealt; else all
    that were used, and those that are missing."""
    invalid, overused, missing = miscounted(said, numbers)
    if invalid:
        return {"used": invalid[: len(numbers)], "dealt": []}
    if overused:
        used, dealt = ([n for n in some if n in overused] for some in (said, numbers))
        return {"used": used[: len(numbers) + 1], "dealt": dealt}
    return {"used": list(said), "dealt": missing}


def verify_formula(
    formula: str, numbers: Sequence[int], target: int = 24, scheme: str = "paper",
    claimed: Sequence[int] | None = None,
) -> Verdict:  # fmt: skip
    """Judge one formula: is it legal, does it use every number once, does it equal the target?

    `claimed`: the values that the answer says the cards have, judged like the numbers used. Time
    and memory are bounded on any text. Raises SftrlError on an unknown scheme.
    """
    check("the reward scheme", scheme, scheme in REWARDS, REWARDS)
    if scheme == "authors":
        from .authors import judge  # which needs this module

        return judge(formula, numbers, target)
    facts: dict[str, Any] = {}
    value = None
    try:
        value, used, _ = evaluate_formula(formula)
    except (IllegalFormula, ZeroDivisionError):
        reason, used = "illegal_formula", []
    else:
        value = Fraction(value)
        wrong = [w for w in (claimed, used) if w is not None and sorted(w) != sorted(numbers)]
        if wrong:
            reason, facts = "wrong_numbers", _number_fault(wrong[0], numbers)
        elif value != target:
            reason, facts = "wrong_value", {"value": value, "target": target}
        else:
            reason = "solved"
    message = texts.verdict_message(reason, **facts)
    said = tuple(used if claimed is None else claimed)
    return Verdict(reason == "solved", REWARDS[scheme][reason], reason, message, value, said)
