"""Deals of cards: what a rule is, which hands no training sees, what an answer says of one."""

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from commons.errors import check

from .answers import MAX_ANSWER, read_fields
from .solver import solutions, sorted_solutions

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
        """What a rank, 1 to 13, counts as."""
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
            values = [*rule] if isinstance(rule, Sequence) else []
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


def share(values: Sequence[int]) -> str:
    """Whose a multiset of values is: "train", three quarters of all, or "validation" or "test",
    a twelfth and a sixth, which no training sees with their target.

    A fixed hash of the sorted values, independent of rule, target and seed. Values above ten count
    as ten in it: so a hand is of the same share under `ten` and `eleven_twelve_thirteen`, and a
    hand of the OOD test was not met in training under the other rule either.
    """
    key = ",".join(str(min(value, 10)) for value in sorted(values))
    drawn = hashlib.sha256(f"held out/{key}".encode()).digest()[0]
    return "validation" if drawn < 21 else "test" if drawn < 64 else "train"


def held_out(values: Sequence[int]) -> bool:
    """Whether no training sees a multiset of values with its target."""
    return share(values) != "train"


def draw_ranks(
    rng: random.Random, count: int, target: int, rules: Sequence[Rule], shares: Sequence[str],
    face: bool,
) -> tuple[int, ...] | None:  # fmt: skip
    """`count` ranks, drawn independently until they can make the target and are of these `shares`,
    under each of the rules, and, where it is asked for, hold a face card. None when 20,000 hands in
    a row do not fit."""
    for _ in range(20_000):
        ranks = tuple(rng.choices(RANKS, k=count))
        if face and max(ranks) not in FACES:
            continue
        hands = [tuple(sorted(map(rule.value, ranks))) for rule in rules]
        if all(share(hand) in shares and sorted_solutions(hand, target) for hand in hands):
            return ranks
    return None


_NUMBER = re.compile(r"[0-9]{1,4}")
_CARDS = re.compile(r"""["'“”]cards["'“”]\s*:\s*\[([^\[\]{}]*)\]""")


def named_cards(text: str) -> list[str]:
    """The cards that an answer names, finished or not: what it saw, whatever became of the rest."""
    listed = _CARDS.findall(text[-MAX_ANSWER:])
    return [name.strip(" \n\"'“”") for name in listed[-1].split(",")] if listed else []


def read_answer(text: str) -> tuple[list[str], list[int], str] | None:
    """(cards, numbers, formula) of the answer in a text; None where it is unreadable."""
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
        """Their names: "A", "2", ..., "K"."""
        return tuple(CARD_NAMES[rank] for rank in self.ranks)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What they count as under the rule, in the order of the cards."""
        return tuple(map(self.rule.value, self.ranks))

    def solutions(self) -> tuple[str, ...]:
        """All formulas that make the target (`solver.solutions`)."""
        return solutions(self.numbers, self.target)


def read_values(deal: Deal, text: str) -> list[tuple[str, int | None, int]]:
    """(card, value claimed or None, true value) for each card: the metric value_reading.

    The answer's "number" list is read along its own "cards" list, whatever their order; where
    that list is not the deal's cards, by position.
    """
    names, numbers, _ = read_answer(text) or ([], [], "")
    if sorted(names) != sorted(deal.cards):
        names = list(deal.cards)
    claims: dict[str, list[int]] = defaultdict(list)
    for name, number in zip(names, numbers, strict=False):
        claims[name].insert(0, number)
    truth = zip(deal.cards, deal.numbers, strict=True)
    return [(card, claims[card].pop() if claims[card] else None, true) for card, true in truth]


def read_cards(deal: Deal, text: str) -> list[tuple[str, str | None]]:
    """(card, what the answer says it is or None) for each card: the metric recognition.

    Cards that are named count as read wherever they are named; the others are paired with the
    wrong names that are left, in order.
    """
    said = (read_answer(text) or ([],))[0][: len(deal.cards)]
    named, wrong = Counter(said) & Counter(deal.cards), Counter(said) - Counter(deal.cards)
    others, pairs = iter(wrong.elements()), []
    for card in deal.cards:
        pairs.append((card, card if named[card] > 0 else next(others, None)))
        named[card] -= 1
    return pairs
