"""Countdown: its rule, by count and by forbidden operator, what is held out, and its verdicts."""

import random

import pytest

from commons.errors import SftrlError
from examples.countdown import Countdown, Game
from sftrl_lib.experiment import Experiment
from sftrl_lib.rollout import Episode, Turn
from sftrl_lib.tasks import make_task
from worlds.verifier import verify_formula

RULES = ["3", "4", "5", "6", "4 without +", "4 without -", "4 without *", "5 without /"]
GAME = Game((2, 3, 5, 7), 30, "", "(7+5-2)*3")
WITHOUT = Game((2, 3, 5, 7), 30, "*", "")


def said(formula: str) -> str:
    return f'{{"formula": "{formula}"}}'


@pytest.mark.parametrize("rule", RULES)
def test_every_game_obeys_its_rule_and_its_own_solution_solves_it(rule):
    task = Countdown(rule=rule)
    for index in range(150):
        game = task.item("train", 0, index)
        assert len(game.numbers) == int(rule[0]) and 10 <= game.target <= 99
        assert game.forbidden == rule[9:][-1:] and (not rule[9:] or rule[-1] not in game.solution)
        assert verify_formula(game.solution, game.numbers, game.target).ok
        assert task.verify(game, task.expert(game, random.Random(0))).reason == "solved"


def test_formulas_of_games_chain_minus_and_divided_by_from_left_to_right():
    solutions = [Countdown(rule="5").item("train", 1, index).solution for index in range(500)]
    assert any(text.count("-") > 1 for text in solutions)
    assert any(")/" in text and "-" in text.partition(")/")[0] for text in solutions)


def test_rule_ood_by_count_asks_for_more_numbers():
    task = Countdown(rule="4", ood_rule="6")
    counts = {split: len(task.item(split, 0, 0).numbers) for split in task.splits}
    assert counts == {"train": 4, "id_seen": 4, "id_unseen": 4, "rule_ood": 6}
    assert not any(task.item(split, 0, 0).forbidden for split in task.splits)


def test_rule_ood_by_forbidden_operator_is_said_in_the_question_alone_there():
    task = Countdown(rule="4", ood_rule="4 without *")
    for split in task.splits:
        game = task.item(split, 0, 0)
        question = task.prompt(game)
        assert ("Do not use times." in question) == ("*" not in question) == (split == "rule_ood")
        assert len(game.numbers) == 4


def test_held_out_games_are_met_by_no_training():
    task = Countdown(rule="3", ood_rule="3 without *")

    def games(split: str, count: int) -> set:
        dealt = (task.item(split, 0, index) for index in range(count))
        return {(tuple(sorted(game.numbers)), game.target) for game in dealt}

    trained = games("train", 800)
    assert trained & games("id_seen", 400)
    assert not trained & (games("id_unseen", 400) | games("rule_ood", 400))


@pytest.mark.parametrize(
    ("formula", "reason", "reward"),
    [("(7-2)*(5-3)*3", "wrong_numbers", -2), ("(7-2)*(3+5)", "wrong_value", -1),
     ("2*3*5*7/7", "wrong_numbers", -2), ("3*(7+5-2)", "solved", 5),
     ("3*(7+5-2", "illegal_formula", -3)],
)  # fmt: skip
def test_rewards_without_a_forbidden_operator(formula, reason, reward):
    verdict = Countdown().verify(GAME, said(formula))
    assert (verdict.reason, verdict.reward, verdict.ok) == (reason, reward, reason == "solved")


@pytest.mark.parametrize(
    "sign", ["*", "×", "·", r"\\times ", r"\\cdot "], ids=["*", "x", "dot", "times", "cdot"]
)
def test_forbidden_operator_is_found_however_it_is_written(sign):
    formula = f"3{sign}(7+5-2)"
    assert Countdown().verify(GAME, said(formula)).ok
    verdict = Countdown().verify(WITHOUT, said(formula))
    assert (verdict.reason, verdict.reward, verdict.ok) == ("forbidden", -2, False)
    assert verdict.message == "you must not use times"


def test_sign_of_what_is_claimed_to_come_out_is_no_use_of_an_operator():
    game = Game((2, 3), 6, "-", "2*3")
    assert Countdown().verify(game, said("2*3=-6")).reason == "solved"  # what follows = is not read


def test_message_speaks_of_numbers_and_not_of_cards():
    verdict = Countdown().verify(GAME, said("3*10"))
    assert "10" in verdict.message and "card" not in verdict.message


def test_right_numbers_count_whatever_else_is_wrong():
    task = Countdown(rule="4 without *")
    answers = [("3*(7+5-2)", True), ("3+7+5+2", True), ("3+7+5", False), ("3+", False)]
    episodes = [
        Episode(WITHOUT, [Turn([], [], text, task.verify(WITHOUT, said(text)))])
        for text, _ in answers
    ]
    assert task.measures(episodes, 1)["numbers_right", 1] == [(2, 4)]
    assert task.measures(episodes, 1)["success", 1] == [(0, 4)]


@pytest.mark.parametrize("rule", ["", "2", "7", "four", "4 without %", "4 without **", "4 without",
                                  "4\n", None, 2, 4.0, True, ["4"]])  # fmt: skip
def test_unknown_rule_is_refused_with_what_is_known(rule):
    with pytest.raises(SftrlError, match="rule is .*3 to 6.*4 without"):
        Countdown(rule=rule)


def test_rule_may_be_a_number_as_yaml_has_it():
    assert Countdown(rule=4).settings == Countdown(rule="4").settings
    exp = Experiment(task="countdown", method="sft", rule="3", ood_rule=4)
    assert make_task(exp).settings.ood_rule == "4"
