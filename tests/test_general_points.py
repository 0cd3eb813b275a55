"""The task: rules, solver, splits, deals, value reading, and the Gymnasium environment."""

import ast
import hashlib
import random
import re
import warnings
from fractions import Fraction
from itertools import combinations, combinations_with_replacement

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.envs import ENV_ID, GeneralPointsEnv
from sftrl_lib.tasks.general_points import GeneralPoints, GeneralPointsVL
from worlds import deals
from worlds.deals import (
    CARD_NAMES,
    HELD_OUT_MAPPINGS,
    NAMED_RULES,
    RANKS,
    Deal,
    Rule,
    held_out,
    share,
)
from worlds.solver import solvable, solve

TEN, OOD, FIVE = NAMED_RULES.values()
HANDS = list(combinations_with_replacement(RANKS, 4))


def exact(formula: str) -> Fraction:
    """The value of a formula by Python's own grammar: the second opinion of these tests."""

    def value(node):
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        left, right = value(node.left), value(node.right)
        kind = type(node.op)
        if kind is ast.Div:
            return left / right
        return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[kind]

    return value(ast.parse(formula, mode="eval").body)


def reachable(values: list[Fraction], target: int) -> bool:
    """Brute force: replace any two values by any of their results until one is left."""
    if len(values) == 1:
        return values[0] == target
    for i, j in combinations(range(len(values)), 2):
        x, y = values[i], values[j]
        rest = [v for k, v in enumerate(values) if k not in (i, j)]
        results = {x + y, x - y, y - x, x * y} | {a / b for a, b in ((x, y), (y, x)) if b}
        if any(reachable([*rest, result], target) for result in results):
            return True
    return False


def values_of(rule: Rule, ranks) -> tuple[int, ...]:
    return tuple(map(rule.value, ranks))


# --- Solver ---------------------------------------------------------------------------------------
def test_solver_finds_1362_of_1820_and_566_of_715_multisets_solvable():
    assert len(HANDS) == 1820 and sum(map(solvable, HANDS)) == 1362
    small = [hand for hand in HANDS if max(hand) <= 10]
    assert len(small) == 715 and sum(map(solvable, small)) == 566


@pytest.mark.parametrize(
    ("numbers", "solutions"),
    [
        ((3, 3, 8, 8), ["8/(3-8/3)"]),
        ((1, 5, 5, 5), ["(5-1/5)*5"]),
        ((1, 4, 5, 6), ["4/(1-5/6)", "6/(5/4-1)"]),
        ((4, 3, 2, 1), ["(1+2+3)*4", "(1+3)*(2+4)", "1*2*3*4", "2*3*4/1"]),
        ((1, 1, 1, 1), []),
        ((4, 4, 4), []),
    ],
)
def test_solver_lists_exactly_the_known_solutions(numbers, solutions):
    assert solve(numbers) == solutions


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=2, max_size=4), st.integers(0, 60))
def test_solver_agrees_with_brute_force(numbers, target):
    assert solvable(numbers, target) == reachable(list(map(Fraction, numbers)), target)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=4, max_size=4), st.integers(1, 40))
def test_solutions_are_exact_distinct_and_minimal(numbers, target):
    found = solve(numbers, target)
    assert len(set(found)) == len(found) and found == sorted(found)
    for formula in found:
        assert set(formula) <= set("0123456789+-*/()") and exact(formula) == target
        digits = "".join(c if c.isdigit() else " " for c in formula)
        assert sorted(map(int, digits.split())) == sorted(numbers)
        for group in re.finditer(r"\(([^()]*)\)", formula):  # only sums in products are bracketed
            around = formula[: group.start()][-1:] + formula[group.end() :][:1]
            assert set(group[1]) & set("+-") and set(around) & set("*/")


def test_solver_takes_five_numbers():
    numbers = (1, 2, 7, 11, 13)
    found = solve(numbers, 24)
    assert "((11+2)*13-1)/7" in found and all(exact(formula) == 24 for formula in found)


def test_all_solutions_of_all_hands_are_the_same_on_every_machine():
    every = [solve(hand) for hand in HANDS]
    assert sum(map(len, every)) == 4_078
    assert hashlib.sha256(repr(every).encode()).hexdigest()[:12] == "734d8790e5c7"


def test_solver_multiplies_by_a_part_that_is_zero():
    assert "(1-1)*(11+3)" in solve((1, 1, 3, 11), 0)
    assert "(1-1)*(11+3)+13" in solve((1, 1, 3, 11, 13), 13)


def test_solve_limit_returns_the_first_solutions():
    assert solve((1, 2, 3, 4), limit=2) == solve((4, 3, 2, 1))[:2]


# --- Rules and the held-out quarter ---------------------------------------------------------------
def test_rule_values_and_spellings():
    assert [values_of(r, (1, 10, 11, 12, 13)) for r in (TEN, OOD, FIVE)] == [
        (1, 10, 10, 10, 10), (1, 10, 11, 12, 13), (1, 10, 5, 5, 5),
    ]  # fmt: skip
    assert Rule.parse("J=7,Q=3,K=12") == Rule.parse((7, 3, 12)) == Rule("J=7,Q=3,K=12", 7, 3, 12)
    assert Rule.parse("J=10, Q=10, K=10") is TEN and Rule.parse(OOD) is OOD


@pytest.mark.parametrize(
    "rule",
    ["", "eleven", "J=7,Q=3", "J=7,Q=3,K=14", "J=0,Q=3,K=2", "Q=3,J=7,K=1", "J=7,Q=3,K=٣", (1, 2),
     (1, 2, "3"), (1, 2, 3.0), (True, 2, 3), None, 10],
)  # fmt: skip
def test_bad_rule_is_refused_with_a_sentence(rule):
    with pytest.raises(SftrlError, match="must be"):
        Rule.parse(rule)


def test_held_out_mappings_are_thirty_fixed_unnamed_ones():
    assert len(set(HELD_OUT_MAPPINGS)) == 30
    assert not {(r.j, r.q, r.k) for r in NAMED_RULES.values()} & set(HELD_OUT_MAPPINGS)
    # The weights in data/ were made without these: another list would let the test leak.
    digest = hashlib.sha256(repr(HELD_OUT_MAPPINGS).encode()).hexdigest()
    assert digest[:12] == "46c2d5f694d8"


def test_held_out_multisets_are_a_fixed_quarter():
    out = [hand for hand in HANDS if held_out(hand)]
    assert hashlib.sha256(repr(out).encode()).hexdigest()[:12] == "1e775e4d06c8"
    assert 0.2 < len(out) / len(HANDS) < 0.3
    assert all(held_out(hand[::-1]) for hand in out)


def test_hand_is_held_out_under_both_main_rules_or_neither():
    for ranks in HANDS:
        assert held_out(values_of(TEN, ranks)) == held_out(values_of(OOD, ranks))


@pytest.mark.parametrize(
    ("rules", "face", "hands"),
    [([TEN], False, 287), ([OOD], True, 171), ([TEN, OOD], True, 121), ([FIVE], True, 159)],
)
def test_number_of_held_out_hands_of_each_split(rules, face, hands):
    fits = [
        ranks
        for ranks in HANDS
        if (max(ranks) > 10 or not face)
        and all(held_out(v) and solvable(v) for v in (values_of(r, ranks) for r in rules))
    ]
    assert len(fits) == hands


# --- Deals ----------------------------------------------------------------------------------------
TASK = GeneralPoints()
APART = GeneralPoints(set_apart=True)
SPLITS = {  # split: (rule or None for any, face card needed, held out)
    "train": (TEN, False, "train"),
    "id_seen": (TEN, False, "train"),
    "validation": (TEN, False, "validation"),
    "id_unseen": (TEN, False, "test"),
    "rule_ood": (OOD, True, "test"),
    "id_paired": (TEN, True, "test"),
    "rule_paired": (OOD, True, "test"),
    "rule_five": (FIVE, True, "test"),
    "rule_random": (None, True, "test"),
    "rule_known": (None, True, "test"),
}


@pytest.mark.parametrize("split", SPLITS)
def test_every_deal_meets_the_condition_of_its_split(split):
    rule, face, whose = SPLITS[split]
    for index in range(300):
        deal = APART.item(split, 1, index)
        assert len(deal.ranks) == len(deal.suits) == 4 and set(deal.ranks) <= set(RANKS)
        assert solvable(deal.numbers) and share(deal.numbers) == whose
        assert held_out(deal.numbers) == (whose != "train")
        assert max(deal.ranks) > 10 or not face
        mapping = (deal.rule.j, deal.rule.q, deal.rule.k)
        assert deal.rule == rule or (rule is None and mapping in HELD_OUT_MAPPINGS)
        assert split != "rule_known" or max(mapping) <= 10


def test_stated_values_come_in_turn_on_hands_with_a_face_card():
    deals = [APART.item("rule_stated", 1, index) for index in range(39)]
    assert [deal.rule.value(12) for deal in deals] == [*RANKS] * 3
    assert all(max(deal.ranks) > 10 and share(deal.numbers) == "test" for deal in deals)


def test_settings_are_chosen_on_hands_that_no_test_deals():
    chosen = {tuple(sorted(TASK.item("validation", 0, i).numbers)) for i in range(500)}
    for split in set(TASK.splits) - {"validation"}:
        dealt = {tuple(sorted(APART.item(split, 0, i).numbers)) for i in range(300)}
        assert not chosen & dealt, split


def test_without_setting_apart_every_hand_that_is_held_out_is_tested():
    shares = {share(TASK.item("id_unseen", 1, index).numbers) for index in range(100)}
    assert shares == {"test", "validation"}


def test_no_test_split_shares_a_multiset_with_training():
    def multisets(split, count):
        return {tuple(sorted(TASK.item(split, 0, i).numbers)) for i in range(count)}

    trained = multisets("train", 3000)
    for split in set(TASK.splits) - {"train", "id_seen"}:
        assert not trained & multisets(split, 300), split
    assert trained & multisets("id_seen", 300)


def test_hands_of_the_ood_test_are_not_trained_on_under_the_other_rule():
    trained = {tuple(sorted(TASK.item("train", 0, i).ranks)) for i in range(3000)}
    assert not trained & {tuple(sorted(TASK.item("rule_ood", 0, i).ranks)) for i in range(500)}


def test_same_seed_same_item():
    backwards = [GeneralPoints().item("train", 7, i) for i in reversed(range(50))]
    assert [TASK.item("train", 7, i) for i in range(50)] == backwards[::-1]
    assert len({TASK.item("train", seed, 0) for seed in range(50)}) > 40
    deal = TASK.item("train", 0, 0)
    assert (deal.cards, deal.suits) == (("6", "K", "5", "2"), ("D", "D", "S", "S"))


def test_train_and_id_seen_are_different_streams():
    deals = [[TASK.item(split, 0, i).ranks for i in range(50)] for split in ("train", "id_seen")]
    assert deals[0] != deals[1]


def test_paired_splits_deal_the_same_hands_under_both_rules():
    for index in range(200):
        one, other = (TASK.item(split, 3, index) for split in ("id_paired", "rule_paired"))
        assert (one.ranks, one.suits) == (other.ranks, other.suits) and one.rule != other.rule


def test_reverse_direction_trains_on_eleven_twelve_thirteen():
    task = GeneralPoints(rule="eleven_twelve_thirteen", ood_rule="ten")
    assert task.item("train", 0, 0).rule == OOD and task.item("rule_ood", 0, 0).rule == TEN


@pytest.mark.parametrize(
    ("color", "trained", "tested"), [("black", "CS", "DH"), ("red", "DH", "CS")]
)
def test_pictures_are_of_one_colour_in_training_and_of_the_other_in_the_visual_test(
    color, trained, tested
):
    task = make_task(Experiment(task="gp-vl", color=color))
    for split, suits in (("train", trained), ("rule_ood", trained), ("visual_ood", tested)):
        assert {s for i in range(50) for s in task.item(split, 0, i).suits} == set(suits)


def test_question_about_a_picture_does_not_name_the_cards():
    pictured, deal = GeneralPointsVL(), Deal((1, 11, 12, 13), ("S",) * 4, TEN)
    assert "A, J, Q, K" in TASK.prompt(deal) and "A, J" not in pictured.prompt(deal)


def test_picture_is_shown_where_the_task_has_pictures_alone():
    deal = TASK.item("train", 0, 0)
    assert TASK.picture(deal, 64) is None
    assert GeneralPointsVL().picture(deal, 64).size == (64, 64)


def test_misread_cards_cost_more_than_a_wrong_value_and_are_said():
    deal = Deal((1, 2, 3, 4), ("S",) * 4, TEN)
    answer = '{"cards": ["A", "2", "3", "5"], "number": [1, 2, 3, 4], "formula": "1*2*3*4"}'
    verdict = GeneralPointsVL().verify(deal, answer)
    assert (verdict.reason, verdict.reward) == ("misread_cards", -1.5)
    assert "wrong cards" in verdict.message and TASK.verify(deal, answer).ok


def test_cards_read_are_counted_wherever_they_are_named():
    deal = Deal((1, 2, 11, 11), ("S",) * 4, TEN)
    said = '{"cards": ["J", "A", "3"], "number": [10, 1, 3, 10], "formula": "1+1"}'
    read = GeneralPointsVL().read_cards(deal, said)
    assert read == [("A", "A"), ("2", "3"), ("J", "J"), ("J", None)]


@pytest.mark.parametrize(("n_cards", "target"), [(3, 24), (5, 24), (4, 10)])
def test_other_numbers_of_cards_and_targets(n_cards, target):
    task = GeneralPoints(n_cards=n_cards, target=target)
    deal = task.item("id_unseen", 0, 0)
    assert len(deal.ranks) == n_cards and deal.target == target
    assert task.verify(deal, task.expert(deal, random.Random(0))).ok


@pytest.mark.parametrize(
    "wrong, named",
    [({"rule": "twelve"}, "rule.*'twelve'.*ten.*J=7"), ({"ood_rule": "J=1"}, "rule.*'J=1'.*J=7"),
     ({"target": 0}, "target is 0.*1"), ({"target": 101}, "target is 101.*100"),
     ({"target": 24.5}, "target is 24.5.*whole number"), ({"n_cards": 2}, "n_cards is 2.*3"),
     ({"color": "green"}, "color is 'green'.*black.*red"),
     ({"scheme": "dense"}, "scheme is 'dense'.*paper.*authors.*binary"),
     ({"feedback": None}, "feedback is None.*full"), ({"deck": 1}, "deck")],
)  # fmt: skip
def test_bad_argument_is_refused_at_construction_with_what_is_allowed(wrong, named):
    with pytest.raises(SftrlError, match=rf"^[^\n]*{named}[^\n]*$"):
        GeneralPointsVL(**wrong)


def test_colour_of_cards_is_a_setting_of_pictures_alone():
    with pytest.raises(SftrlError, match="color"):
        GeneralPoints(color="red")


def test_unknown_split_names_the_known_ones():
    with pytest.raises(SftrlError, match="rule_ood"):
        TASK.item("test", 0, 0)


def test_split_without_hands_says_so_instead_of_dealing_for_ever(monkeypatch):
    monkeypatch.setattr(deals, "sorted_solutions", lambda hand, target: ())
    with pytest.raises(SftrlError, match="another target"):
        TASK.item("train", 0, 0)


def test_prompt_states_target_rule_and_cards():
    prompt = TASK.prompt(Deal((1, 11, 12, 13), tuple("SHCD"), Rule.parse((7, 3, 12)), 24))
    assert "J counts as 7, Q counts as 3, K counts as 12" in prompt
    assert "Target: 24." in prompt and "Cards: A, J, Q, K." in prompt


# --- Value reading --------------------------------------------------------------------------------
HAND = Deal((11, 11, 13, 4), tuple("SHCD"), OOD)


def answer(cards, numbers):
    return f'{{"cards": {list(cards)}, "number": {list(numbers)}, "formula": "1"}}'


def claimed(text):
    assert [(card, true) for card, _, true in TASK.read_values(HAND, text)] == [
        ("J", 11), ("J", 11), ("K", 13), ("4", 4),
    ]  # fmt: skip
    return [claim for _, claim, _ in TASK.read_values(HAND, text)]


def test_value_reading_follows_the_cards_of_the_answer():
    assert claimed(answer("JJK4", [10, 11, 10, 4])) == [10, 11, 10, 4]
    assert claimed(answer("4KJJ", [4, 13, 11, 10])) == [11, 10, 13, 4]


def test_value_reading_goes_by_position_where_the_answer_lists_other_cards():
    assert claimed(answer("JK", [11, 10])) == [11, 10, None, None]


def test_value_reading_gives_none_for_what_the_answer_leaves_out():
    assert claimed(answer("JJK4", [11])) == [11, None, None, None]
    assert claimed("J is 11") == [None] * 4


def test_expert_answers_read_every_card_right():
    for index in range(100):
        deal = TASK.item("rule_ood", 0, index)
        read = TASK.read_values(deal, TASK.expert(deal, random.Random(index)))
        assert read == [(CARD_NAMES[r], OOD.value(r), OOD.value(r)) for r in deal.ranks]


# --- Gymnasium ------------------------------------------------------------------------------------
def test_environment_is_clean_under_the_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(ENV_ID, render_mode="ansi").unwrapped)


def test_environment_resets_to_the_same_deal_for_the_same_seed():
    one, other = gymnasium.make(ENV_ID), gymnasium.make(ENV_ID)
    for seed in (5, None, None):
        assert one.reset(seed=seed) == other.reset(seed=seed)
    assert one.reset()[0] != one.reset()[0]


def test_environment_ends_after_its_tries_and_sends_the_message_back():
    env = gymnasium.make(ENV_ID, tries=2, rule="five", target=10)
    assert "J counts as 5" in env.reset(seed=0)[0]
    reply, reward, terminated, truncated, info = env.step("no idea")
    assert (reward, terminated, truncated) == (-3.0, False, False) and info["tries_left"] == 1
    assert reply.startswith("You failed this trial because") and reply.endswith("Try again.")
    assert env.step("no idea")[1:3] == (-4.0, True)  # -1 since the tries ran out
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("too late")


def test_environment_renders_the_hand():
    env = gymnasium.make(ENV_ID, render_mode="rgb_array", pictures=True)
    env.reset(seed=1)
    assert env.render().shape == (560, 560, 3)


def test_environment_ends_at_once_when_solved():
    env = gymnasium.make(ENV_ID, scheme="binary", render_mode="ansi")
    env.reset(seed=1)
    gold = env.unwrapped.task.expert(env.unwrapped.deal, random.Random(0))
    _, reward, terminated, _, info = env.step(gold)
    assert (reward, terminated, info["reason"]) == (1.0, True, "solved")
    assert gold in env.render()


@pytest.mark.parametrize(
    "wrong",
    [{"tries": 0}, {"tries": -1}, {"split": "test"}, {"rule": "nine"}, {"color": "blue"}],
)
def test_environment_refuses_bad_options(wrong):
    with pytest.raises(SftrlError, match=next(iter(wrong))):
        gymnasium.make(ENV_ID, pictures=True, **wrong)


def test_environment_names_the_render_modes_to_one_who_asks_for_another():
    with pytest.raises(SftrlError, match="'human', but it must be one of None, ansi, rgb_array"):
        GeneralPointsEnv(render_mode="human")
