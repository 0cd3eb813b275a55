"""GeneralPoints' verifier as the authors' code has it, from its description: the scheme "authors".

Rewards of all faults add up, floats decide, and the message names the longest prefix of the formula
that some solution begins with. Notebook 01 has the differences from the paper's text in a table.
"""

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .base import Verdict
from .formulas import (
    MAX_FORMULA,
    OPERATIONS,
    REWARDS,
    IllegalFormula,
    evaluate_formula,
    miscounted,
)
from .solver import solutions

PARTIAL = 1.0  # for a formula without a value that some solution begins with
_UNLIKE = "your formula does not match any solution"
# What a token may follow ("": nothing stands before it), and what is said where it does not.
_ORDER = {
    "number": (("", "operator", "("), "invalid sequence after number"),
    "operator": (("number", ")"), "invalid sequence after operator"),
    "(": (("", "operator", "("), "invalid sequence before '('"),
    ")": (("number", ")"), "invalid sequence after ')'"),
}


def _misplaced(tokens: Sequence[str]) -> Iterator[str]:
    """A message for each token out of place."""
    before, depth = "", 0
    for token in tokens:
        kind = token if token in "()" else "operator" if token in "+-*/" else "number"
        allowed, message = _ORDER[kind]
        if before not in allowed:
            yield message
        elif kind == ")" and depth == 0:
            yield "unmatched closing parenthesis"
        elif kind in "()":
            depth += 1 if kind == "(" else -1
        before = kind


def _value(formula: str, divide: Callable[[Any, Any], Any]) -> Any:
    """The value of a formula; None if it has none."""
    try:
        return evaluate_formula(formula, divide)[0]
    except (IllegalFormula, ZeroDivisionError):
        return None


def judge(formula: str, numbers: Sequence[int], target: int) -> Verdict:
    """Judge what stands before "=" as the authors' code does: no other signs, no spaces; the
    rewards of all faults add up; floats decide."""
    formula, penalty = formula.partition("=")[0], REWARDS["authors"]
    tokens = re.findall(r"[0-9]+|[+\-*/()]", formula[:MAX_FORMULA])
    if "".join(tokens) != formula:
        message = "illegal characters"
        return Verdict(False, penalty["illegal_formula"], "illegal_formula", message)
    used = tuple(int(token) for token in tokens if token.isdigit())
    invalid, overused, missing = miscounted(used, numbers)
    faults = [("illegal_formula", message) for message in _misplaced(tokens)]
    for message, wrong in (
        ("you used invalid numbers: ", invalid),
        ("you used numbers too many times: ", not invalid and overused),
        ("you didn't use numbers: ", missing),
    ):
        if wrong:
            faults.append(("wrong_numbers", f"{message}{list(dict.fromkeys(wrong))}"))
    value, rounded = (_value(formula, divide) for divide in (OPERATIONS["/"], operator.truediv))
    if faults:
        reason, reward = faults[0][0], sum(penalty[fault] for fault, _ in faults)
        return Verdict(False, reward, reason, ", ".join(said for _, said in faults), value, used)
    if rounded == target:
        return Verdict(True, penalty["solved"], "solved", "Correct solution", value, used)
    begun = ["".join(tokens[:length]) for length in range(len(tokens), 0, -1)]
    known = solutions(numbers, target)
    prefix = next((p for p in begun if any(one.startswith(p) for one in known)), "")
    if prefix == formula:  # brackets to close; or a solution that rounding spoils
        unfinished = "illegal_formula", PARTIAL, "partial solution"
        reason, reward, message = unfinished if rounded is None else ("wrong_value", 0.0, "")
    else:
        reason, reward = "wrong_value", penalty["wrong_value"]
        message = f"{prefix} is partially correct but the full formula does not match any solution"
    return Verdict(False, reward, reason, message if prefix else _UNLIKE, value, used)
