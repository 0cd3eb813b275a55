"""What a formula is worth, exactly, and step by step. Model text is never executed."""

import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .answers import plain_signs

MAX_FORMULA = 400  # characters; anything longer is refused unread

_SIGNS = str.maketrans("×✕·⋅∙∗÷∕⁄−–＋－＊／（）＝", "******///--+-*/()=")
_LEGAL = re.compile(r"[0-9+\-*/() ]+")
_CLAIM = re.compile(r" *[+-]?[0-9]{1,9}(?:[./][0-9]{1,9})? *")
_TOKENS = re.compile(r"0|[1-9][0-9]*|[+\-*/()]")  # "08" is two numbers in a row, hence illegal
_BINDING = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2}
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda x, y: Fraction(x) / y,
}


class IllegalFormula(Exception):
    """The text is not a formula that has a value."""


def evaluate_formula(
    formula: str, divide: Callable[[Any, Any], Any] = OPERATIONS["/"]
) -> tuple[Any, list[int], list[tuple]]:
    """Exact value, numbers and steps (left, sign, right, result) of a formula, with two stacks: no
    recursion, nothing is executed.

    Numbers of up to four ASCII digits, binary + - * / (or a typographic or LaTeX sign), brackets,
    spaces, and at the end perhaps "=" and a number, which does not count. Anything else, and what
    has no value, raises IllegalFormula.
    """
    if len(formula) > MAX_FORMULA:
        raise IllegalFormula
    formula, equals, claim = plain_signs(formula).strip("$ ").translate(_SIGNS).partition("=")
    if not _LEGAL.fullmatch(formula) or (equals and not _CLAIM.fullmatch(claim)):
        raise IllegalFormula
    values: list[Any] = []  # whatever `divide` makes of them
    operators: list[str] = []
    numbers, steps, operand_next = [], [], True

    def reduce() -> None:
        right, left, sign = values.pop(), values.pop(), operators.pop()
        try:
            values.append((divide if sign == "/" else OPERATIONS[sign])(left, right))
        except ArithmeticError:  # by zero, or beyond what a float holds
            raise IllegalFormula from None
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
