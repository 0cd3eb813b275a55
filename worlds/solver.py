"""All solutions of a hand: every way to make a target from some numbers, each written once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product

# An expression is (kind, up, down): a flat sum ("+": up added, down subtracted), a flat product
# ("*": up multiplied, down divided) or one number (""). Parts are sorted texts, so expressions that
# differ by order or grouping only, such as a-(b-c) and c+a-b, are equal. No part is below zero: a
# formula with a negative part, 5-(2-9)*1, has a twin without, 5+(9-2)*1, and only that is kept.
_Expression = tuple[str, tuple[str, ...], tuple[str, ...]]


def _text(expression: _Expression, within: str = "") -> str:
    kind, up, down = expression
    plus, minus = ("*", "/") if kind == "*" else ("+", "-")
    text = plus.join(up) + "".join(minus + part for part in down)
    return f"({text})" if kind == "+" and within == "*" else text


def _join(op: str, left: _Expression, right: _Expression) -> _Expression:
    kind = "+" if op in "+-" else "*"
    up, down = left[1:] if left[0] == kind else ((_text(left, kind),), ())
    more, less = right[1:] if right[0] == kind else ((_text(right, kind),), ())
    if op in "-/":
        more, less = less, more
    return kind, tuple(sorted(up + more)), tuple(sorted(down + less))


def _ways(x: Fraction, xs: set[_Expression], y: Fraction, ys: set[_Expression]) -> Iterator:
    """(value, op, lefts, rights) of every way to combine two values of at least zero."""
    for left, right, parts in ((x, y, (xs, ys)), (y, x, (ys, xs))):
        yield left + right, "+", *parts
        yield left * right, "*", *parts
        if left >= right > 0:  # subtracting zero is the twin of adding it
            yield left - right, "-", *parts
        if right:
            yield left / right, "/", *parts


def _splits(numbers: tuple[int, ...]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All ways to part a sorted multiset in two, the larger part first."""
    places, found = range(len(numbers)), set()
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            small = tuple(numbers[i] for i in chosen)
            large = tuple(numbers[i] for i in places if i not in chosen)
            if size < len(large) or small <= large:
                found.add((large, small))
    return found


@lru_cache(maxsize=1024)  # the 559 multisets of one to three values, and some room
def _table(numbers: tuple[int, ...]) -> dict[Fraction, set[_Expression]]:
    """Every value that a sorted multiset can make, with all expressions that make it."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): {("", (str(numbers[0]),), ())}}
    table: dict[Fraction, set[_Expression]] = defaultdict(set)
    for large, small in _splits(numbers):
        for one, other in product(_table(large).items(), _table(small).items()):
            for value, op, lefts, rights in _ways(*one, *other):
                table[value] |= {_join(op, *pair) for pair in product(lefts, rights)}
    return dict(table)


def _solve(numbers: tuple[int, ...], target: Fraction) -> set[_Expression]:
    """Backwards from the target: fix the smaller part, look up what the larger one must make."""
    if len(numbers) <= 3:
        return _table(numbers).get(target, set())
    found = set()
    for large, small in _splits(numbers):
        for y, ys in _table(small).items():
            partners = {target - y, y - target, target + y, target * y}
            partners |= {target / y} if y else set()
            partners |= {y / target} if target else set()
            if y == target == 0:  # x * 0 and 0 / x, whatever x
                partners = set(_table(large))
            for x in partners:
                xs = _solve(large, x) if x >= 0 else ()
                for value, op, lefts, rights in _ways(x, xs, y, ys) if xs else ():
                    if value == target:
                        found |= {_join(op, *pair) for pair in product(lefts, rights)}
    return found


@lru_cache(maxsize=1 << 15)
def sorted_solutions(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    """The `solutions` of numbers that are sorted already, under which they are cached."""
    return tuple(sorted(map(_text, _solve(numbers, Fraction(target)))))


def solutions(numbers: Sequence[int], target: int = 24) -> tuple[str, ...]:
    """All solutions, sorted, as formulas of digits and + - * / ( ) without spaces; cached.

    Exact rational arithmetic on two to five numbers, each at least 1, and a target of at least 0.
    Formulas that differ only by order, grouping, needless brackets or signs of parts are one.
    """
    return sorted_solutions(tuple(sorted(numbers)), target)


def solve(numbers: Sequence[int], target: int = 24, limit: int | None = None) -> list[str]:
    """The first `limit` (by default all) of the `solutions`, as a list."""
    return list(solutions(numbers, target)[:limit])


def solvable(numbers: Sequence[int], target: int = 24) -> bool:
    """Whether there are any `solutions`."""
    return bool(solutions(numbers, target))
