"""How much of a verdict the model is told: a setting that leaves recorded hashes."""

import pytest
from test_navigation import ROUTE, STEPS, answer, of
from test_verifier import DEAL, gold

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.general_points import GeneralPoints

FORMULAS = ("10+4+6+2", "11+4+6+2", "4*6", "10-4)*(6-2)", "(10-4)*(6-2)")


def told(feedback, scheme="paper"):
    """The messages to a wrong answer of every kind, and to a right one, of both tasks."""
    cards = GeneralPoints(feedback=feedback, scheme=scheme)
    walk = of(ROUTE, feedback=feedback, scheme=scheme)
    said = [cards.verify(DEAL, gold(formula)).message for formula in FORMULAS]
    said += [walk.verify(STEPS[2], answer(STEPS[2], "stop()", seen)).message for seen in ("", None)]
    return said + [cards.verify(DEAL, "?").message, walk.verify(STEPS[2], "?").message]


def test_full_feedback_names_the_facts():
    assert ["22" in told("full")[0], "11" in told("full")[1], "10, 2" in told("full")[2]] == [
        True
    ] * 3


@pytest.mark.parametrize("scheme", ["paper", "authors"])
def test_reason_is_told_without_facts_and_differs_from_fault_to_fault(scheme):
    said = told("reason", scheme)
    assert not any(char.isdigit() for message in said for char in message)
    assert said[1] == said[2] and len({*said[:2], *said[3:7]}) == 6
    assert "target" in said[0] and "once" in said[1] and "legal" in said[3]


def test_wrong_is_all_that_is_told_of_a_wrong_answer():
    said = told("wrong")
    assert set(said[:4] + said[5:]) == {"your answer is wrong"} and said[4] == "correct"


def test_feedback_changes_no_reward_and_no_reason():
    for feedback in ("full", "reason", "wrong"):
        task = GeneralPoints(feedback=feedback)
        rewards = [task.verify(DEAL, gold(formula)).reward for formula in FORMULAS]
        assert rewards == [-1, -2, -2, -3, 5]


@pytest.mark.parametrize("task", ["gp-l", "virl-l", "gp-vl", "virl-vl"])
def test_experiment_hands_feedback_to_its_task_and_the_default_leaves_hashes_alone(task):
    exp = Experiment(task=task)
    assert make_task(exp.replace(feedback="reason")).settings.feedback == "reason"
    assert make_task(exp).settings.feedback == "full"
    assert exp.replace(feedback="wrong").hash != exp.hash == exp.replace(feedback="full").hash


def test_unknown_feedback_names_the_known_ones():
    for make in (GeneralPoints, lambda **k: of(ROUTE, **k), lambda **k: Experiment(**k)):
        with pytest.raises(SftrlError, match="feedback is 'none'.*full.*reason.*wrong"):
            make(feedback="none")
