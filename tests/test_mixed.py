"""SFT with a few rows of another kind: what these rows say."""

import random
import re
from functools import cache

import pytest

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks import make_task
from study.mixed import KINDS, MixedSft
from worlds.deals import HELD_OUT_MAPPINGS, NAMED_RULES


@cache
def start(task):
    exp = Experiment(task=task, method="sft+mix", seed=3)
    return start_policy(exp), make_task(exp)


def rows(task, count=60, **settings):
    policy, world = start(task)
    exp = Experiment(task=task, method="sft+mix", seed=3, **settings)
    made = MixedSft.rows(exp, policy, world, None, list(range(count)))
    plain = [expert_row(exp, policy, world, index) for index in range(count)]
    return [row for row, usual in zip(made, plain, strict=True) if row != usual], policy.tokenizer


def taught(row, tokenizer):
    return tokenizer.decode([token for token in row["labels"] if token != -100])


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_rows_is_something_else_and_the_others_are_those_of_sft(kind):
    assert 8 < len(rows("gp-l", kind=kind, share=0.3)[0]) < 30
    assert rows("gp-l", kind=kind, share=0.0)[0] == []


def test_other_rules_are_none_that_a_test_states():
    world, stated = start("gp-l")[1], {(r.j, r.q, r.k) for r in NAMED_RULES.values()}
    for seed in range(200):
        rule = world.variant(random.Random(seed)).rule
        assert (rule.j, rule.q, rule.k) not in stated | {*HELD_OUT_MAPPINGS}


def test_the_other_rule_of_a_walk_is_the_other_action_space():
    found, tokenizer = rows("virl-l", kind="rules", share=0.5)
    turns = [taught(row, tokenizer) for row in found]
    turns = [text for text in turns if "turn_direction(" in text]
    assert turns and all("left)" in text or "right)" in text for text in turns)


def test_words_of_the_test_stand_in_labels_under_the_training_rule():
    found, tokenizer = rows("gp-l", count=200, kind="words", share=0.5)
    texts = [taught(row, tokenizer) for row in found]
    assert all(text.startswith("Values: ") for text in texts)
    values = {v for t in texts for v in t[8:].partition(".\n")[0].split(", ")}
    assert values <= {str(value) for value in range(1, 11)}  # nothing is read as 11, 12 or 13
    assert {"11", "12", "13"} <= {word for text in texts for word in re.findall(r"\d+", text)}


def test_walks_have_no_calculation_to_mix_in():
    with pytest.raises(SftrlError, match="kind words needs hands of cards, not task virl-l"):
        rows("virl-l", kind="words", share=0.5)
