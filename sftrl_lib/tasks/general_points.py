"""GeneralPoints: make 24 from four cards under a card rule that can change (paper, section 4.1).

Top to bottom: what a rule is, which hands no training ever sees, and the two tasks: the cards named
in words (GP-L), or shown in a picture (GP-VL).
"""

import random
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from commons.errors import SftrlError, check
from worlds import authors_cards, card_texts, hands
from worlds.deals import (
    COLORS,
    HELD_OUT_MAPPINGS,
    NAMED_RULES,
    RANKS,
    SUITS,
    Deal,
    Rule,
    draw_ranks,
    read_answer,
    read_cards,
    read_values,
)
from worlds.texts import FEEDBACK, WORDINGS, feedback
from worlds.verifier import REWARDS, verdict_message, verify_formula

from ..experiment import TaskSettings
from ..registry import register_task
from .base import Counts, Task, Verdict, by_cluster


class GeneralPointsSettings(TaskSettings):
    """The rules of training and test, and the verifier."""

    rule: str = Field("ten", description="training rule: a name or J=7,Q=3,K=12")
    ood_rule: str = Field("eleven_twelve_thirteen", description="rule of the OOD test")
    target: int = Field(24, ge=1, le=100, description="value that the formula must have")
    n_cards: int = Field(4, ge=3, le=5, description="cards of a hand")
    scheme: Literal["paper", "authors", "binary"] = Field("paper", description=" | ".join(REWARDS))
    feedback: Literal["full", "reason", "wrong"] = Field("full", description=" | ".join(FEEDBACK))
    wording: Literal["book", "authors"] = Field("book", description=" | ".join(WORDINGS))
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
    wordings = {"book": card_texts, "authors": authors_cards}
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
        own, whose = self.settings, {"train": ("train",), "id_seen": ("train",)}
        whose["validation"] = ("validation",)
        tested = ("test",) if own.set_apart else ("test", "validation")
        ranks = draw_ranks(
            rng, own.n_cards, own.target, (self.rule, self.ood_rule) if paired else (rule,),
            whose.get(split, tested), face=split not in (*whose, "id_unseen", "visual_ood"),
        )  # fmt: skip
        if ranks is None:
            raise SftrlError(
                f"the split {split!r} has hardly a hand of {own.n_cards} cards for the target "
                f"{own.target} under these rules; choose another target, rule or number of cards."
            )
        suits = tuple(rng.choices(self._suits(split), k=own.n_cards))
        return Deal(ranks, suits, rule, own.target, rng.getrandbits(32))

    def prompt(self, deal: Deal) -> str:
        return self.texts.prompt(deal, cards=not self.pictures)

    def draw(self, deal: Deal, size: int) -> Image.Image:
        """The hand on a table, a square of `size` pixels."""
        return hands.picture(deal.cards, deal.suits, size, deal.look)

    def expert(self, deal: Deal, rng: random.Random) -> str:
        return self.texts.expert(deal, rng.choice(deal.solutions()))

    def verify(self, deal: Deal, text: str) -> Verdict:
        """Judge a whole answer: its formula and its "number" list; "cards" must be readable."""
        verdict = self._judge(deal, text)
        told = self.texts.told(deal, text, verdict)
        said = feedback(verdict.reason, told, self.settings.feedback, card_texts.REASONS)
        return replace(verdict, message=said)

    def _judge(self, deal: Deal, text: str) -> Verdict:
        answer, reward = read_answer(text), REWARDS[self.settings.scheme]
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

    read_values = staticmethod(read_values)

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

    read_cards = staticmethod(read_cards)

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
