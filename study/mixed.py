"""SFT in which a few rows are something else, to tell a memorised rule from forgotten words.

    rules    the same lesson under other rules (2510.00237: variety of rules protects)
    words    the training rule, answered with a calculation: its labels hold 11, 12 and 13
    replay   conversations of pre-training, about cards and walks

If SFT memorises the rule, rows under other rules heal it; if it forgets words that its labels never
hold, any row that holds them does.
"""

import random
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from commons.errors import SftrlError
from commons.settings import Share
from sftrl_lib.experiment import Experiment, MethodSettings
from sftrl_lib.methods.sft import Sft, expert_row
from sftrl_lib.registry import register_method
from worlds import card_texts as cards

Row = dict[str, Any]


def _rules(exp: Experiment, policy: Any, task: Any, index: int, rng: random.Random) -> Row:
    return expert_row(exp, policy, task.variant(rng), index)


def _words(exp: Experiment, policy: Any, task: Any, index: int, rng: random.Random) -> Row:
    from foundry.pretraining import worked_steps

    if not hasattr(task.item("train", exp.seed, index), "solutions"):
        raise SftrlError(f"kind words needs hands of cards, not task {exp.task.name}.")
    while True:  # not every formula can be calculated in whole numbers below a hundred
        deal = task.item("train", exp.seed, index)
        formula = rng.choice(deal.solutions())
        if steps := worked_steps(formula):
            break
        index = rng.randrange(10**6, 10**9)
    question = policy.first_turn(cards.prompt(deal, "steps"))
    said = cards.answer(deal.cards, deal.numbers, formula, "steps", steps)
    answer = policy.tokenizer.encode(said, add_special_tokens=False) + policy.turn_end
    labels = [-100] * len(question) + answer
    return {"input_ids": question + answer, "labels": labels, "picture": None}


def _replay(exp: Experiment, policy: Any, task: Any, index: int, rng: random.Random) -> Row:
    from foundry.foundation import encode  # slow to import
    from foundry.pretraining import Pretraining

    recipe = Pretraining()
    talk = rng.choice((recipe.cards, recipe.walk))(rng)
    ids, labels = encode(talk, policy.tokenizer)
    return {"input_ids": ids, "labels": labels, "picture": None}


KINDS: dict[str, Callable[..., Row]] = {"rules": _rules, "words": _words, "replay": _replay}


class MixedSettings(MethodSettings):
    """SFT's, and what is mixed in."""

    kind: Literal["rules", "words", "replay"] = Field("rules", description=" | ".join(KINDS))
    share: Share = Field(0.05, description="of the rows that are something else")


@register_method("sft+mix", rank=60)
class MixedSft(Sft):
    """SFT's rows, of which a `share` is of a `kind` of its own."""

    label = "SFT, mixed"
    style = {"color": "#117733", "marker": ">", "linestyle": "--"}
    settings_class = MixedSettings
    like = "sft"

    @staticmethod
    def rows(exp: Experiment, policy: Any, task: Any, trainer: Any, indices: list[int]) -> list:
        own, made = exp.method, []
        assert isinstance(own, MixedSettings)
        for index in indices:
            rng = random.Random(f"mixed/{exp.seed}/{index}")
            if rng.random() < own.share:
                made.append(KINDS[own.kind](exp, policy, task, index, rng))
            else:
                made.append(expert_row(exp, policy, task, index))
        return made
