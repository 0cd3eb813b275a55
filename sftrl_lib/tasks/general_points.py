"""GeneralPoints: make 24 from four cards under a card rule that can change (paper, section 4.1).

Top to bottom: what a rule is, which hands no training ever sees, and the two tasks: the cards named
in words (GP-L), or shown in a picture (GP-VL).
"""

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from worlds import hands
from worlds.answers import MAX_ANSWER, read_fields
from worlds.solver import solutions, sorted_solutions
from worlds.verifier import REWARDS, verdict_message, verify_formula

from ..errors import SftrlError, check
from ..experiment import TaskSettings
from ..registry import register_task
from . import general_points_texts as texts
from .base import Counts, Task, Verdict, by_cluster
from .texts import FEEDBACK, feedback

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


_NUMBER = re.compile(r"[0-9]{1,4}")
_CARDS = re.compile(r"""["'“”]cards["'“”]\s*:\s*\[([^\[\]{}]*)\]""")


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
        """Their names: "A", "2", ..., "K"."""
        return tuple(CARD_NAMES[rank] for rank in self.ranks)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What they count as under the rule, in the order of the cards."""
        return tuple(map(self.rule.value, self.ranks))

    def solutions(self) -> tuple[str, ...]:
        """All formulas that make the target (`solver.solutions`)."""
        return solutions(self.numbers, self.target)


class GeneralPointsSettings(TaskSettings):
    """The rules of training and test, and the verifier."""

    rule: str = Field("ten", description="training rule: a name or J=7,Q=3,K=12")
    ood_rule: str = Field("eleven_twelve_thirteen", description="rule of the OOD test")
    target: int = Field(24, ge=1, le=100, description="value that the formula must have")
    n_cards: int = Field(4, ge=3, le=5, description="cards of a hand")
    scheme: Literal["paper", "authors", "binary"] = Field("paper", description=" | ".join(REWARDS))
    feedback: Literal["full", "reason", "wrong"] = Field("full", description=" | ".join(FEEDBACK))
    set_apart: bool = Field(False, description="no test deals the hands of validation")

    @field_validator("rule", "ood_rule", mode="before")
    @classmethod
    def _known(cls, rule: Any, of: ValidationInfo) -> str:
        try:
            return Rule.parse(rule).name
        except SftrlError as error:
            raise SftrlError(f"{of.field_name}: {error}") from error


@register_task("gp-l", rank=0)
class GeneralPoints(Task):
    """GP-L: seeded deals, their questions, expert answers and verdicts.

    A split is a rule and a condition on the hand, which can always be solved:

        train, id_seen           training rule, not held out; two streams of the same distribution
        validation               training rule, a third of what is held out: to choose settings
        id_unseen                training rule, held out
        rule_ood                 OOD rule, a face card, held out
        id_paired, rule_paired   the same hands under either rule: a face card, held out under both
        rule_five, rule_random   J = Q = K = 5, or one of HELD_OUT_MAPPINGS; a face card, held out
        rule_known               one of HELD_OUT_MAPPINGS that has no value above ten
        rule_stated              J = Q = K = 1, 2, ..., 13 in turn: is the stated value read?
    """

    settings_class: ClassVar[type[TaskSettings]] = GeneralPointsSettings
    side_splits = (
        *("id_seen", "id_paired", "rule_paired"),
        *("rule_five", "rule_random", "rule_known", "rule_stated"),
    )
    splits: Sequence[str] = (
        *("train", "validation", "id_seen", "id_unseen", "rule_ood"),
        *side_splits[1:],
    )
    metrics = {
        "success": "success (%)",
        "value_reading": "face cards read right (%)",
        "legal": "legal formulas (%)",
        "numbers_right": "right numbers used (%)",
    } | {f"reads_{value}": f"face cards that count {value} read right (%)" for value in RANKS}
    split_labels = Task.split_labels | {
        "rule_paired": "rule OOD, paired hands",
        "id_paired": "ID, paired hands",
        "rule_five": "rule: faces count 5",
        "rule_random": "held-out random rules",
        "rule_known": "held-out random rules, values 1 to 10",
        "rule_stated": "faces count 1, 2, ..., 13",
        "visual_ood": "the other colour",
    }
    mechanism = (
        "are J, Q and K read as the rule says, and used so?",
        [
            ("rule_ood", "value_reading"),
            ("id_unseen", "value_reading"),
            ("rule_ood", "numbers_right"),
        ],
    )

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.rule, self.ood_rule = map(Rule.parse, (self.settings.rule, self.settings.ood_rule))

    def _suits(self, split: str) -> str:
        return SUITS

    def variant(self, rng: random.Random) -> Task:
        """Under any mapping that no test states."""
        stated = {(r.j, r.q, r.k) for r in NAMED_RULES.values()} | {*HELD_OUT_MAPPINGS}
        while (mapping := tuple(rng.choices(RANKS, k=3))) in stated:
            pass
        return self.of(self.settings.model_copy(update={"rule": Rule.parse(mapping).name}))

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
        elif split == "rule_known":
            rule = Rule.parse(rng.choice([m for m in HELD_OUT_MAPPINGS if max(m) <= 10]))
        elif split == "rule_stated":
            rule = Rule.parse((1 + index % 13,) * 3)
        rules = (self.rule, self.ood_rule) if paired else (rule,)
        whose = {"train": ("train",), "id_seen": ("train",), "validation": ("validation",)}
        tested = ("test",) if self.settings.set_apart else ("test", "validation")
        wanted = whose.get(split, tested)
        needs_face = split not in (*whose, "id_unseen", "visual_ood")
        suits = self._suits(split)
        for _ in range(20_000):
            ranks = tuple(rng.choices(RANKS, k=self.settings.n_cards))
            if needs_face and max(ranks) not in FACES:
                continue
            hands = [tuple(sorted(map(r.value, ranks))) for r in rules]
            if all(
                share(hand) in wanted and sorted_solutions(hand, self.settings.target)
                for hand in hands
            ):
                drawn = tuple(rng.choices(suits, k=self.settings.n_cards))
                return Deal(ranks, drawn, rule, self.settings.target, rng.getrandbits(32))
        raise SftrlError(
            f"the split {split!r} has hardly a hand of {self.settings.n_cards} cards for the "
            f"target {self.settings.target} under these rules; choose another target, rule or "
            "number of cards."
        )

    def prompt(self, deal: Deal) -> str:
        return texts.prompt(deal, cards=not self.pictures)

    def draw(self, deal: Deal, size: int) -> Image.Image:
        """The hand on a table, a square of `size` pixels."""
        return hands.picture(deal.cards, deal.suits, size, deal.look)

    def expert(self, deal: Deal, rng: random.Random) -> str:
        return texts.answer(deal.cards, deal.numbers, rng.choice(deal.solutions()))

    def verify(self, deal: Deal, text: str) -> Verdict:
        """Judge a whole answer: its formula and its "number" list; "cards" must be readable."""
        verdict = self._judge(deal, text)
        level = self.settings.feedback
        said = feedback(verdict.reason, verdict.message, level, texts.REASONS)
        return replace(verdict, message=said)

    def _judge(self, deal: Deal, text: str) -> Verdict:
        answer, reward = _read(text), REWARDS[self.settings.scheme]
        if answer is None and self.settings.scheme == "authors":
            answer = [], [], "None"  # what their reader makes of it
        if answer is None:
            message = verdict_message("unreadable")
            return Verdict(False, reward["unreadable"], "unreadable", message)
        named, claimed, formula = answer
        verdict = verify_formula(formula, deal.numbers, deal.target, self.settings.scheme, claimed)
        return self._judged(deal, named, verdict)

    def _judged(self, deal: Deal, named: list[str], verdict: Verdict) -> Verdict:
        """The verdict on an answer that names these cards; in text they are not judged."""
        return verdict

    def read_values(self, deal: Deal, text: str) -> list[tuple[str, int | None, int]]:
        """(card, value claimed or None, true value) for each card: the metric value_reading.

        The answer's "number" list is read along its own "cards" list, whatever their order; where
        that list is not the deal's cards, by position.
        """
        names, numbers, _ = _read(text) or ([], [], "")
        if sorted(names) != sorted(deal.cards):
            names = list(deal.cards)
        claims: dict[str, list[int]] = defaultdict(list)
        for name, number in zip(names, numbers, strict=False):
            claims[name].insert(0, number)
        truth = zip(deal.cards, deal.numbers, strict=True)
        return [(card, claims[card].pop() if claims[card] else None, true) for card, true in truth]

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """Success within t tries for every t; the rest on the first try."""
        first = [e.turns[0] for e in episodes]
        right = [turn.verdict.reason in ("solved", "wrong_value") for turn in first]
        counts = super().measures(episodes, tries)
        counts["legal", 1] = self.count(episodes, [t.verdict.value is not None for t in first])
        counts["numbers_right", 1] = self.count(episodes, right)
        read = [
            (self.cluster(e.item), true, claimed == true)
            for e, turn in zip(episodes, first, strict=True)
            for card, claimed, true in self.read_values(e.item, turn.text)
            if card in ("J", "Q", "K")
        ]
        counts["value_reading", 1] = by_cluster((cluster, right) for cluster, _, right in read)
        for value in {true for _, true, _ in read}:  # which of the stated values are read
            of = by_cluster((cluster, right) for cluster, true, right in read if true == value)
            counts[f"reads_{value}", 1] = of
        return counts

    def cluster(self, deal: Deal) -> Hashable:
        """Two deals of one value multiset are nearly one question."""
        return tuple(sorted(deal.numbers))


class GeneralPointsVLSettings(GeneralPointsSettings):
    """GP-L's, and the colour of the cards."""

    color: Literal["black", "red"] = Field(
        "black", description="cards in training: black | red; the other is the test"
    )


@register_task("gp-vl", rank=2)
class GeneralPointsVL(GeneralPoints):
    """GP-VL: the question does not name the cards: a picture shows them, and an answer must name
    them. They are of one colour; in the split visual_ood, otherwise like id_unseen, of the other.
    """

    settings_class = GeneralPointsVLSettings
    pictures = True
    splits = (*GeneralPoints.splits, "visual_ood")
    curve_splits = ("id_unseen", "rule_ood", "visual_ood")
    tuned = {"tiny": {"rl": {"lr": 1e-4, "steps": 50}}}  # as much compute as 345 steps of SFT
    metrics = GeneralPoints.metrics | {
        "recognition": "cards seen right (%)",
        "hand_read": "whole hands seen right (%)",
    }
    mechanism = (
        "are the cards seen, and then read as the rule says?",
        [("rule_ood", "recognition"), ("visual_ood", "recognition"), ("rule_ood", "value_reading")],
    )

    def _suits(self, split: str) -> str:
        color = self.settings.color
        (other,) = set(COLORS) - {color}
        return COLORS[other if split == "visual_ood" else color]

    def picture(self, deal: Deal, size: int) -> Image.Image:
        return self.draw(deal, size)

    def _judged(self, deal: Deal, named: list[str], verdict: Verdict) -> Verdict:
        """A misread card is the first fault."""
        if sorted(named) == sorted(deal.cards):
            return verdict
        reason = "misread_cards"
        reward = REWARDS[self.settings.scheme][reason]
        said = verdict_message(reason)
        return replace(verdict, ok=False, reward=reward, reason=reason, message=said)

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

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """GP-L's, and what first answers saw: cards, and whole hands."""
        counts = super().measures(episodes, tries)
        read = [
            (self.cluster(e.item), [card == said for card, said in self.read_cards(e.item, text)])
            for e, text in ((e, e.turns[0].text) for e in episodes)
        ]
        counts["recognition", 1] = by_cluster((key, right) for key, each in read for right in each)
        counts["hand_read", 1] = by_cluster((key, all(each)) for key, each in read)
        return counts
