"""The verifier of the card world: what is wrong with a formula, and how it is said.

`verify_formula` is ours; with the scheme "authors", it judges as the authors' code does.
"""

import operator
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from commons.errors import check

from .formulas import MAX_FORMULA, OPERATIONS, IllegalFormula, evaluate_formula
from .solver import solutions
from .verdict import SEP, SOLVED, UNREADABLE, Verdict, reward_schemes

REWARDS = reward_schemes(
    solved=5.0,
    wrong_value=-1.0,
    wrong_numbers=-2.0,
    illegal_formula=-3.0,
    unreadable=-3.0,
    misread_cards=-1.5,
)
# The constant parts of messages: phrases that the tiny tier's tokenizer knows.
WRONG_VALUE = ("your formula equals ", " and not ")
WRONG_NUMBERS = ("you used invalid numbers: ", "; the values of the cards must each be used once")
_FIXED = {
    "solved": SOLVED,
    "illegal_formula": "your formula is not a legal formula",
    "unreadable": UNREADABLE,
    "misread_cards": "you recognized wrong cards",
}
ILLEGAL = _FIXED["illegal_formula"]


def verdict_message(reason: str, **facts: Any) -> str:
    """What the verifier says. Facts: wrong_value -> value, target; wrong_numbers -> used, and in
    place of which dealt ones, if any.

    Only phrases of the tokenizer: told in others ("you used 9 too often"), the tiny tier's init
    answers unreadably twice as often.
    """
    if reason == "wrong_value":
        return f"{WRONG_VALUE[0]}{facts['value']}{WRONG_VALUE[1]}{facts['target']}"
    if reason == "wrong_numbers":
        used, dealt = (SEP.join(map(str, facts[which])) for which in ("used", "dealt"))
        said = f"{used}{WRONG_VALUE[1]}{dealt}" if dealt else used
        return f"{WRONG_NUMBERS[0]}{said}{WRONG_NUMBERS[1]}"
    return _FIXED[reason]


def _miscounted(said: Sequence[int], numbers: Sequence[int]) -> tuple[list, list, list]:
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
    invalid, overused, missing = _miscounted(said, numbers)
    if invalid:
        return {"used": invalid[: len(numbers)], "dealt": []}
    if overused:
        used, dealt = ([n for n in some if n in overused] for some in (said, numbers))
        return {"used": used[: len(numbers) + 1], "dealt": dealt}
    return {"used": list(said), "dealt": missing}


def verify_formula(
    formula: str,
    numbers: Sequence[int],
    target: int = 24,
    scheme: str = "paper",
    claimed: Sequence[int] | None = None,
) -> Verdict:
    """Judge one formula: is it legal, does it use every number once, does it equal the target?

    `claimed`: the values that the answer says the cards have, judged like the numbers used. Time
    and memory are bounded on any text. Raises SftrlError on an unknown scheme.
    """
    check("the reward scheme", scheme, scheme in REWARDS, REWARDS)
    if scheme == "authors":
        return _authors_verdict(formula, numbers, target)
    facts: dict[str, Any] = {}
    value = None
    try:
        value, used, _ = evaluate_formula(formula)
    except IllegalFormula:
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
    message = verdict_message(reason, **facts)
    said = tuple(used if claimed is None else claimed)
    return Verdict(reason == "solved", REWARDS[scheme][reason], reason, message, value, said)


# --- The authors' verifier, from its description --------------------------------------------------
_PARTIAL = 1.0  # for a formula without a value that some solution begins with
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


def _value(formula: str, divide: Any) -> Any:
    """The value of a formula; None if it has none."""
    try:
        return evaluate_formula(formula, divide)[0]
    except IllegalFormula:
        return None


def _authors_verdict(formula: str, numbers: Sequence[int], target: int) -> Verdict:
    """Judge what stands before "=": no other signs, no spaces; the rewards of all faults add up,
    floats decide, and the message names the longest prefix that some solution begins with. Notebook
    01 has the differences from the paper's text in a table."""
    formula, penalty = formula.partition("=")[0], REWARDS["authors"]
    tokens = re.findall(r"[0-9]+|[+\-*/()]", formula[:MAX_FORMULA])
    if "".join(tokens) != formula:
        illegal = "illegal_formula"
        return Verdict(False, penalty[illegal], illegal, "illegal characters")
    used = tuple(int(token) for token in tokens if token.isdigit())
    invalid, overused, missing = _miscounted(used, numbers)
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
    reason, reward = "wrong_value", penalty["wrong_value"]
    if not prefix:
        message = "your formula does not match any solution"
    elif prefix != formula:
        message = f"{prefix} is partially correct but the full formula does not match any solution"
    elif rounded is None:  # brackets to close
        reason, reward, message = "illegal_formula", _PARTIAL, "partial solution"
    else:  # a solution that rounding spoils
        reward, message = 0.0, ""
    return Verdict(False, reward, reason, message, value, used)
