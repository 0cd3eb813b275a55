"""GeneralPoints: make 24 from four cards under a card rule that can change (paper, section 4.1).

Top to bottom: what a rule is, how hands are solved exactly, which hands no training ever sees, how
answers are judged, and the task that puts these together.
"""

import hashlib
import operator
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product
from typing import Any

from PIL import Image

from .. import prompts
from ..errors import SftrlError, check
from . import hands
from .answers import MAX_ANSWER, plain_signs, read_fields
from .base import REASONS, Counts, Verdict, by_cluster

RANKS = range(1, 14)
FACES = (11, 12, 13)
CARD_NAMES = {rank: str(rank) for rank in RANKS} | {1: "A", 11: "J", 12: "Q", 13: "K"}
SUITS = "SHCD"  # spades, hearts, clubs, diamonds
COLORS = {"black": "SC", "red": "HD"}


@dataclass(frozen=True)
class Rule:
    """What J, Q and K count as (1..13 each). Other cards count as their rank, the ace as 1."""

    name: str
    j: int
    q: int
    k: int

    def __post_init__(self) -> None:
        for card, value in zip("JQK", (self.j, self.q, self.k), strict=True):
            allowed = type(value) is int and value in RANKS
            check(f"the value of {card}", value, allowed, "a whole number from 1 to 13")

    def value(self, rank: int) -> int:
        return (self.j, self.q, self.k)[rank - 11] if rank > 10 else rank

    @staticmethod
    def parse(rule: "str | Rule | Sequence[int]") -> "Rule":
        """A rule from its name, from "J=7,Q=3,K=12" or from (7, 3, 12); raises SftrlError."""
        if isinstance(rule, Rule):
            return rule
        if isinstance(rule, str):
            if rule in NAMED_RULES:
                return NAMED_RULES[rule]
            given = re.fullmatch(r"J=([0-9]{1,3}), ?Q=([0-9]{1,3}), ?K=([0-9]{1,3})", rule)
            values = [int(value) for value in given.groups()] if given else []
        else:
            values = list(rule) if isinstance(rule, Sequence) else []
        known = f"one of {', '.join(NAMED_RULES)}, or a mapping such as J=7,Q=3,K=12"
        check("the rule", rule, len(values) == 3, known)
        custom = Rule("J={},Q={},K={}".format(*values), *values)
        same = (r for r in NAMED_RULES.values() if (r.j, r.q, r.k) == tuple(values))
        return next(same, custom)


NAMED_RULES: dict[str, Rule] = {
    "ten": Rule("ten", 10, 10, 10),
    "eleven_twelve_thirteen": Rule("eleven_twelve_thirteen", 11, 12, 13),
    "five": Rule("five", 5, 5, 5),
}


# Mappings that, like the named rules, never occur in pre-training: the split "rule_random".
_unnamed = sorted(set(product(RANKS, repeat=3)) - {(r.j, r.q, r.k) for r in NAMED_RULES.values()})
HELD_OUT_MAPPINGS = tuple(sorted(random.Random("gp/held-out mappings").sample(_unnamed, 30)))


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
    table = defaultdict(set)
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
def _solutions(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    return tuple(sorted(map(_text, _solve(numbers, Fraction(target)))))


def solutions(numbers: Sequence[int], target: int = 24) -> tuple[str, ...]:
    """All solutions, sorted, as formulas of digits and + - * / ( ) without spaces; cached.

    Exact rational arithmetic on two to five numbers, each at least 1, and a target of at least 0.
    Formulas that differ only by order, grouping, needless brackets or signs of parts are one.
    """
    return _solutions(tuple(sorted(numbers)), target)


def solve(numbers: Sequence[int], target: int = 24, limit: int | None = None) -> list[str]:
    """The first `limit` (by default all) of the `solutions`, as a list."""
    return list(solutions(numbers, target)[:limit])


def solvable(numbers: Sequence[int], target: int = 24) -> bool:
    return bool(solutions(numbers, target))


def held_out(values: Sequence[int]) -> bool:
    """Whether a multiset of values belongs to the quarter that no training sees with its target.

    A fixed hash of the sorted values, independent of rule, target and seed. Values above ten count
    as ten in it: so a hand is held out under both `ten` and `eleven_twelve_thirteen` or under
    neither, and a hand of the OOD test was not met in training under the other rule either.
    """
    key = ",".join(str(min(value, 10)) for value in sorted(values))
    return hashlib.sha256(f"held out/{key}".encode()).digest()[0] < 64


# "paper": the rewards that the paper states; "authors": those of the authors' code, which adds them
# up; "binary": the outcome alone.
_PAPER = dict(zip(REASONS[:6], (5.0, -1.0, -2.0, -3.0, -3.0, -1.5), strict=True))
REWARDS: dict[str, dict[str, float]] = {
    "paper": _PAPER,
    "binary": dict(zip(REASONS[:6], (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), strict=True)),
    "authors": _PAPER,
}
PARTIAL = 1.0  # "authors": a formula without a value that some solution begins with
_UNLIKE = "your formula does not match any solution"
MAX_FORMULA = 400  # characters; anything longer is refused unread

_SIGNS = str.maketrans("×✕·⋅∙∗÷∕⁄−–＋－＊／（）＝", "******///--+-*/()=")
_LEGAL = re.compile(r"[0-9+\-*/() ]+")
_CLAIM = re.compile(r" *[+-]?[0-9]{1,9}(?:[./][0-9]{1,9})? *")
_TOKENS = re.compile(r"0|[1-9][0-9]*|[+\-*/()]")  # "08" is two numbers in a row, hence illegal
_BINDING = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2}
_OPERATIONS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": lambda x, y: Fraction(x) / y,
}  # fmt: skip

_NUMBER = re.compile(r"[0-9]{1,4}")
_CARDS = re.compile(r"""["'“”]cards["'“”]\s*:\s*\[([^\[\]{}]*)\]""")


class IllegalFormula(Exception):
    """The text is not a formula."""


def evaluate_formula(
    formula: str, divide: Callable[[Any, Any], Any] = _OPERATIONS["/"]
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
    values, operators, numbers, steps, operand_next = [], [], [], [], True
    operations = _OPERATIONS | {"/": divide}

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
    formula: str, numbers: Sequence[int], target: int = 24, scheme: str = "paper",
    claimed: Sequence[int] | None = None,
) -> Verdict:  # fmt: skip
    """Judge one formula: is it legal, does it use every number once, does it equal the target?

    `claimed`: the values that the answer says the cards have, judged like the numbers used. Time
    and memory are bounded on any text. Raises SftrlError on an unknown scheme.
    """
    check("the reward scheme", scheme, scheme in REWARDS, REWARDS)
    if scheme == "authors":
        return _as_the_authors(formula, numbers, target)
    value, facts = None, {}
    try:
        value, used, _ = evaluate_formula(formula)
    except (IllegalFormula, ZeroDivisionError):
        reason, used = "illegal_formula", ()
    else:
        value = Fraction(value)
        wrong = [w for w in (claimed, used) if w is not None and sorted(w) != sorted(numbers)]
        if wrong:
            reason, facts = "wrong_numbers", _number_fault(wrong[0], numbers)
        elif value != target:
            reason, facts = "wrong_value", {"value": value, "target": target}
        else:
            reason = "solved"
    message = prompts.verdict_message(reason, **facts)
    said = tuple(used if claimed is None else claimed)
    return Verdict(reason == "solved", REWARDS[scheme][reason], reason, message, value, said)


# --- The authors' code ----------------------------------------------------------------------------
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


def _as_the_authors(formula: str, numbers: Sequence[int], target: int) -> Verdict:
    """Judge what stands before "=" as the authors' code does: no other signs, no spaces; the
    rewards of all faults add up; floats decide. Notebook 01 has the differences in a table."""
    formula, penalty = formula.partition("=")[0], REWARDS["authors"]
    tokens = re.findall(r"[0-9]+|[+\-*/()]", formula[:MAX_FORMULA])
    if "".join(tokens) != formula:
        message = "illegal characters"
        return Verdict(False, penalty["illegal_formula"], "illegal_formula", message)
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
    value, rounded = (_value(formula, divide) for divide in (_OPERATIONS["/"], operator.truediv))
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


def named_cards(text: str) -> list[str]:
    """The cards that an answer names, finished or not: what it saw, whatever became of the rest."""
    listed = _CARDS.findall(text[-MAX_ANSWER:])
    return [name.strip(" \n\"'“”") for name in listed[-1].split(",")] if listed else []


def _read(text: str) -> tuple[list[str], list[int], str] | None:
    """(cards, numbers, formula) of the answer in a text; None if unreadable."""
    fields = read_fields(text, ("cards", "number", "formula")) or {}
    cards, number, formula = (fields.get(key) for key in ("cards", "number", "formula"))
    if not (isinstance(cards, list) and isinstance(number, list) and isinstance(formula, str)):
        return None
    values = [str(value).strip() for value in number]
    if not values or not all(map(_NUMBER.fullmatch, values)):
        return None
    return [str(name).strip() for name in cards], [int(value) for value in values], formula


@dataclass(frozen=True)
class Deal:
    """One hand: ranks 1..13 and as many suits ("S", "H", "C", "D"), a rule, a target."""

    ranks: tuple[int, ...]
    suits: tuple[str, ...]
    rule: Rule
    target: int = 24
    look: int = 0  # how the cards lie in the picture

    @property
    def cards(self) -> tuple[str, ...]:
        return tuple(CARD_NAMES[rank] for rank in self.ranks)

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(map(self.rule.value, self.ranks))

    def solutions(self) -> tuple[str, ...]:
        return solutions(self.numbers, self.target)


class GeneralPoints:
    """The tasks GP-L and GP-VL: seeded deals, their questions, expert answers and verdicts.

    With `pictures` (GP-VL) the question does not name the cards: a picture shows them, and an
    answer must name them. They are of the colour `color`, and in the split visual_ood, which is
    like id_unseen otherwise, of the other one.

    A split is a rule and a condition on the hand, which can always be solved:

        train, id_seen           training rule, not held out; two streams of the same distribution
        id_unseen                training rule, held out
        rule_ood                 OOD rule, a face card, held out
        id_paired, rule_paired   the same hands under either rule: a face card, held out under both
        rule_five, rule_random   J = Q = K = 5, or one of HELD_OUT_MAPPINGS; a face card, held out
    """

    splits = (
        "train", "id_seen", "id_unseen", "rule_ood", "id_paired", "rule_paired", "rule_five",
        "rule_random",
    )  # fmt: skip
    side_splits = ("id_seen", "id_paired", "rule_paired", "rule_five", "rule_random")

    def __init__(
        self, rule: str | Rule = "ten", ood_rule: str | Rule = "eleven_twelve_thirteen",
        target: int = 24, n_cards: int = 4, scheme: str = "paper", pictures: bool = False,
        color: str = "black", feedback: str = "full",
    ) -> None:  # fmt: skip
        allowed = type(target) is int and 1 <= target <= 100
        check("the target", target, allowed, "a whole number from 1 to 100")
        check("the number of cards", n_cards, n_cards in (3, 4, 5), "3, 4 or 5")
        check("the colour", color, color in COLORS, COLORS)
        check("the reward scheme", scheme, scheme in REWARDS, REWARDS)
        check("the feedback", feedback, feedback in prompts.FEEDBACK, prompts.FEEDBACK)
        self.feedback = feedback
        self.rule, self.ood_rule = Rule.parse(rule), Rule.parse(ood_rule)
        self.target, self.n_cards, self.scheme = target, n_cards, scheme
        self.name, self.pictures, self.color = "gp-vl" if pictures else "gp-l", pictures, color
        if pictures:
            self.splits = (*self.splits, "visual_ood")

    def item(self, split: str, seed: int, index: int) -> Deal:
        """Deal `index`: ranks and suits drawn independently until the condition of the split holds.

        Raises SftrlError on an unknown split, or when 20,000 hands in a row do not fit.
        """
        check("the split", split, split in self.splits, self.splits)
        paired = split.endswith("_paired")
        rng = random.Random(f"gp/{'paired' if paired else split}/{seed}/{index}")
        rule = self.ood_rule if split in ("rule_ood", "rule_paired") else self.rule
        if split == "rule_five":
            rule = NAMED_RULES["five"]
        elif split == "rule_random":
            rule = Rule.parse(rng.choice(HELD_OUT_MAPPINGS))
        rules = (self.rule, self.ood_rule) if paired else (rule,)
        unseen = split not in ("train", "id_seen")
        needs_face = unseen and split not in ("id_unseen", "visual_ood")
        suits = SUITS
        if self.pictures:
            (other,) = set(COLORS) - {self.color}
            suits = COLORS[other if split == "visual_ood" else self.color]
        for _ in range(20_000):
            ranks = tuple(rng.choices(RANKS, k=self.n_cards))
            if needs_face and max(ranks) not in FACES:
                continue
            hands = [tuple(sorted(map(r.value, ranks))) for r in rules]
            if all(held_out(hand) == unseen and _solutions(hand, self.target) for hand in hands):
                drawn = tuple(rng.choices(suits, k=self.n_cards))
                return Deal(ranks, drawn, rule, self.target, rng.getrandbits(32))
        raise SftrlError(
            f"the split {split!r} has hardly a hand of {self.n_cards} cards for the target "
            f"{self.target} under these rules; choose another target, rule or number of cards."
        )

    def prompt(self, deal: Deal) -> str:
        return prompts.gp_prompt(deal, cards=not self.pictures)

    def picture(self, deal: Deal, size: int) -> Image.Image | None:
        """What the question shows: the hand on a table, or None in text."""
        return self.draw(deal, size) if self.pictures else None

    def draw(self, deal: Deal, size: int) -> Image.Image:
        return hands.picture(deal.cards, deal.suits, size, deal.look)

    def expert(self, deal: Deal, rng: random.Random) -> str:
        return prompts.gp_answer(deal.cards, deal.numbers, rng.choice(deal.solutions()))

    def verify(self, deal: Deal, text: str) -> Verdict:
        """Judge a whole answer: its formula and its "number" list; "cards" must be readable."""
        verdict = self._judge(deal, text)
        said = prompts.feedback(verdict.reason, verdict.message, self.feedback)
        return replace(verdict, message=said)

    def _judge(self, deal: Deal, text: str) -> Verdict:
        answer, reward = _read(text), REWARDS[self.scheme]
        if answer is None and self.scheme == "authors":
            answer = [], [], "None"  # what their reader makes of it
        if answer is None:
            message = prompts.verdict_message("unreadable")
            return Verdict(False, reward["unreadable"], "unreadable", message)
        named, claimed, formula = answer
        verdict = verify_formula(formula, deal.numbers, deal.target, self.scheme, claimed)
        if not self.pictures or sorted(named) == sorted(deal.cards):
            return verdict
        reason = "misread_cards"
        said = prompts.verdict_message(reason)
        return replace(verdict, ok=False, reward=reward[reason], reason=reason, message=said)

    def read_values(self, deal: Deal, text: str) -> list[tuple[str, int | None, int]]:
        """(card, value claimed or None, true value) for each card: the metric value_reading.

        The answer's "number" list is read along its own "cards" list, whatever their order; where
        that list is not the deal's cards, by position.
        """
        names, numbers, _ = _read(text) or ([], [], "")
        if sorted(names) != sorted(deal.cards):
            names = list(deal.cards)
        claims = defaultdict(list)
        for name, number in zip(names, numbers, strict=False):
            claims[name].insert(0, number)
        truth = zip(deal.cards, deal.numbers, strict=True)
        return [(card, claims[card].pop() if claims[card] else None, true) for card, true in truth]

    def read_cards(self, deal: Deal, text: str) -> list[tuple[str, str | None]]:
        """(card, what the answer says it is or None) for each card: the metric recognition.

        Cards that are named count as read wherever they are named; the others are paired with the
        wrong names that are left, in order.
        """
        said = (_read(text) or ([],))[0][: len(deal.cards)]
        named, wrong = Counter(said) & Counter(deal.cards), Counter(said) - Counter(deal.cards)
        others, pairs = iter(wrong.elements()), []
        for card in deal.cards:
            pairs.append((card, card if named[card] > 0 else next(others, None)))
            named[card] -= 1
        return pairs

    def test_items(self, split: str, seed: int, count: int) -> list[Deal]:
        return [self.item(split, seed, index) for index in range(count)]

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """Success within t tries for every t; the rest on the first try. Two deals of one value
        multiset are one cluster."""
        cluster = [tuple(sorted(e.item.numbers)) for e in episodes]
        first = [e.turns[0] for e in episodes]
        marks = {
            ("success", t): [any(turn.verdict.ok for turn in e.turns[:t]) for e in episodes]
            for t in range(1, tries + 1)
        }
        marks["legal", 1] = [turn.verdict.value is not None for turn in first]
        marks["numbers_right", 1] = [t.verdict.reason in ("solved", "wrong_value") for t in first]
        counts = {what: by_cluster(zip(cluster, m, strict=True)) for what, m in marks.items()}
        counts["value_reading", 1] = by_cluster(
            (key, claimed == true)
            for key, e, turn in zip(cluster, episodes, first, strict=True)
            for card, claimed, true in self.read_values(e.item, turn.text)
            if card in ("J", "Q", "K")
        )
        if self.pictures:
            turns = zip(cluster, episodes, first, strict=True)
            read = [(key, self.read_cards(e.item, turn.text)) for key, e, turn in turns]
            right = [(key, [card == said for card, said in cards]) for key, cards in read]
            counts["recognition", 1] = by_cluster((key, r) for key, each in right for r in each)
            counts["hand_read", 1] = by_cluster((key, all(each)) for key, each in right)
        return counts
