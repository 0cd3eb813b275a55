"""The authors' rewards, written anew from what their code does: an oracle for both verifiers.

`scheme="authors"` must agree with it; the differences of `scheme="paper"` are listed, each with a
kind. Formulas are evaluated with Python's own grammar here, as their code does, in tests alone.
"""

import ast
import json
import operator
import random
import re
from collections import Counter

import pytest
from test_navigation import ROUTE, STEPS, answer, of

from sftrl_lib.tasks.general_points import GeneralPoints, GeneralPointsVL
from worlds.deals import NAMED_RULES, Deal
from worlds.verifier import verify_formula

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


# --- What their code does -------------------------------------------------------------------------
def python_value(formula):
    """The value that Python gives a formula of + - * / and whole numbers: floats, where divided."""

    def of(node):
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](of(node.left), of(node.right))
        return node.value

    return of(ast.parse(formula, mode="eval").body)


def out_of_place(tokens):
    """How many tokens may not stand where they stand."""
    wrong, before, opened = 0, "start", 0
    for token in tokens:
        kind = {"(": "open", ")": "close"}.get(token, "sign" if token in "+-*/" else "number")
        after_value = before in ("number", "close")
        if (kind in ("sign", "close")) != after_value:
            wrong += 1
        elif kind == "open":
            opened += 1
        elif kind == "close" and opened:
            opened -= 1
        elif kind == "close":
            wrong += 1
        before = kind
    return wrong


def text_reward(formula, cards, solutions, target):
    """(reward, the prefix its message names) of the text task."""
    formula = formula.split("=")[0]
    tokens = re.findall(r"[0-9]+|[-+*/()]", formula)
    if "".join(tokens) != formula:
        return -3, None
    used, dealt = Counter(int(token) for token in tokens if token.isdigit()), Counter(cards)
    reward = -3 * out_of_place(tokens)
    if any(number not in dealt for number in used) or any(used[n] > dealt[n] for n in used):
        reward -= 2
    if any(used[n] < dealt[n] for n in dealt):
        reward -= 2
    if reward:
        return reward, None
    try:
        if python_value(formula) == target:
            return 5, None
    except (SyntaxError, ZeroDivisionError):
        if any(solution.startswith(formula) for solution in solutions):
            return 1, None
    known = ""
    for token in tokens:
        if not any(solution.startswith(known + token) for solution in solutions):
            return -1, known
        known += token
    return 0, None


def picture_reward(named, shown, *judged):
    """(reward, prefix) of the task in pictures: cards first, then as in text."""
    return (-1.5, None) if sorted(named) != sorted(shown) else text_reward(*judged)


def walk_reward(observed, action, right, at_intersection):
    if action == right:
        return 1
    return -1 if ("intersection" in observed) == at_intersection else -1.5


# --- Answers, valid to malformed ------------------------------------------------------------------
def damaged(formula, rng):
    """A formula with up to three characters put in, taken out or exchanged."""
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at = rng.randrange(len(formula) + 1)
        put = rng.choice(
            ("", "", *"0123456789+-*/()", *"+-*/()", "10", "13", "**", " ", "=", "=24")
        )
        formula = formula[:at] + put + formula[at + rng.choice((0, 1, 1)) :]
    return formula


def near(deal, rng):
    """A formula of every kind: a solution, one of the same numbers, of others; whole or not."""
    numbers = list(deal.numbers)
    if rng.random() < 0.2:
        numbers[rng.randrange(4)] = rng.randint(1, 13)
    rng.shuffle(numbers)
    flat = "".join(f"{n}{rng.choice('+-*/')}" for n in numbers)[:-1]
    formula = rng.choice((rng.choice(deal.solutions()), flat))
    cut = rng.randrange(1, len(formula) + 1)
    return rng.choice((formula, damaged(formula, rng), damaged(formula, rng), formula[:cut]))


def dealt(count):
    """(deal, cards named, numbers claimed, formula) of many answers."""
    task, rng = GeneralPoints(), random.Random("authors")
    for index in range(count):
        deal = task.item(rng.choice(("train", "rule_ood")), 5, index)
        cards, claimed = list(deal.cards), list(deal.numbers)
        if rng.random() < 0.2:
            cards[rng.randrange(4)] = rng.choice("A5JQK")
        if rng.random() < 0.2:
            claimed[rng.randrange(4)] = rng.randint(1, 13)
        yield deal, cards, claimed, near(deal, rng)


def written(cards, claimed, formula):
    return json.dumps({"cards": cards, "number": claimed, "formula": formula})


ANSWERS = list(dealt(5_000))
WORDS = ["forward()", "stop()", "turn_direction(east)", "turn_direction(left)", " stop()", "?"]
SAID = [
    "No landmarks nearby;", "You observe an intersection", "no intersection", "Intersection",
    "intersection Cafe is on your left;",
]  # fmt: skip
PAPER = of(ROUTE)


# --- scheme="authors" -----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [GeneralPoints, GeneralPointsVL])
def test_authors_scheme_agrees_with_the_oracle_on_cards(kind):
    task, seen = kind(scheme="authors"), Counter()
    for deal, cards, claimed, formula in ANSWERS:
        judged = formula, deal.numbers, deal.solutions(), deal.target
        right, prefix = (
            picture_reward(cards, deal.cards, *judged) if task.pictures else text_reward(*judged)
        )
        verdict = task.verify(deal, written(cards, claimed, formula))
        assert verdict.reward == right and verdict.ok == (right == 5), formula
        assert prefix is None or verdict.message.startswith(prefix or "your formula does not match")
        seen[right] += 1
    assert {5, 1, 0, -1, -2, -3, -4, -5} <= set(seen) and seen[5] > 500


def test_authors_scheme_agrees_with_the_oracle_on_walks():
    rng, seen, task = random.Random("walks"), Counter(), of(ROUTE, scheme="authors")
    for _ in range(5_000):
        step = rng.choice(STEPS)
        action, observed = rng.choice([step.action, *WORDS]), rng.choice(SAID)
        right = walk_reward(observed, action, step.action, step.position.at_intersection)
        assert task.verify(step, answer(step, action, observed)).reward == right
        seen[right] += 1
    assert set(seen) == {1, -1, -1.5}


@pytest.mark.parametrize(
    ("formula", "reward", "message"),
    [
        ("(10-4)*(6-2)", 5, "Correct solution"),
        ("(10-4)*(6-2)=25", 5, "Correct solution"),
        ("11+4+6+2", -4, "you used invalid numbers: [11], you didn't use numbers: [10]"),
        ("4*6", -2, "you didn't use numbers: [10, 2]"),
        ("10-4*6*6", -4, "you used numbers too many times: [6], you didn't use numbers: [2]"),
        ("(10-4)*(6-2", 1, "partial solution"),
        ("(10-4)*6-2", -1, "(10-4)* is partially correct but the full formula does not match any "
         "solution"),
        ("(10 - 4)*(6-2)", -3, "illegal characters"),
    ],
)  # fmt: skip
def test_authors_scheme_by_hand(formula, reward, message):
    verdict = verify_formula(formula, (10, 4, 6, 2), scheme="authors")
    assert (verdict.reward, verdict.message) == (reward, message)


def test_authors_scheme_lets_rounding_decide():
    assert verify_formula("8/(3-8/3)", (3, 3, 8, 8), scheme="authors").reward == 0
    assert verify_formula("8/(3-8/3)", (3, 3, 8, 8)).reward == 5


def test_a_value_beyond_all_floats_is_no_exception():
    huge = "*".join(["9999"] * 79) + "/3"
    verdict = verify_formula(huge, (10, 4, 6, 2), scheme="authors")
    assert verdict.reason == "wrong_numbers" and verdict.value > 10**300


# --- scheme="paper": the intended differences -----------------------------------------------------
def has_no_value(formula):
    try:
        python_value(formula.partition("=")[0])
    except (SyntaxError, ZeroDivisionError):
        return True
    except (AttributeError, KeyError):  # a sign alone or two: out of place
        return False
    return False


# (deal, values claimed, formula, their reward, ours): where the two may differ on cards, and why.
CARDS_DIFFER = {
    "of several faults the worst counts": lambda theirs, ours, **_: (
        ours == -2 and theirs == -4 or ours == -3 and theirs < -3
    ),
    "the values claimed are judged": lambda deal, claimed, ours, **_: (
        ours == -2 and sorted(claimed) != sorted(deal.numbers)
    ),
    "a formula without a value is illegal, whatever it begins like": lambda formula, ours, **_: (
        ours == -3 and has_no_value(formula)
    ),
    "fractions are exact": lambda theirs, ours, **_: (theirs, ours) == (0, 5),
    "spaces are no fault": lambda formula, theirs, **_: theirs == -3 and " " in formula,
    "only a number may follow the equals sign": lambda formula, ours, **_: (
        ours == -3 and not re.fullmatch(r"[^=]*= *[0-9]{1,9} *", formula) and "=" in formula
    ),
    "numbers of five digits or with leading zeros are illegal": lambda formula, ours, **_: (
        ours == -3 and re.search(r"[0-9]{5}|(?<![0-9])0[0-9]", formula)
    ),
}


@pytest.mark.parametrize("kind", [GeneralPoints, GeneralPointsVL])
def test_paper_scheme_differs_from_the_authors_code_on_cards_as_listed(kind):
    task, met = kind(), Counter()
    thirds = Deal((3, 3, 8, 8), ("S",) * 4, NAMED_RULES["ten"])
    for deal, cards, claimed, formula in [
        (thirds, list(thirds.cards), [3, 3, 8, 8], "8/(3-8/3)"), *ANSWERS,
    ]:  # fmt: skip
        judged = formula, deal.numbers, deal.solutions(), deal.target
        theirs, _ = (
            picture_reward(cards, deal.cards, *judged) if task.pictures else text_reward(*judged)
        )
        ours = task.verify(deal, written(cards, claimed, formula)).reward
        if theirs != ours:
            case = {"deal": deal, "claimed": claimed, "formula": formula}
            kinds = [k for k, f in CARDS_DIFFER.items() if f(**case, theirs=theirs, ours=ours)]
            assert kinds, (formula, theirs, ours)
            met.update(kinds)
    assert set(met) == set(CARDS_DIFFER)


# (observation, action, right action): the same for walks.
WALKS_DIFFER = {
    "white space around an action is no fault": lambda observed, action, right: (
        action != right and action.strip() == right
    ),
    "a denial is no claim": lambda observed, *_: observed.startswith("no "),
    "capital letters do not count": lambda observed, *_: "intersection" not in observed,
    "a landmark's name is no claim": lambda observed, *_: "intersection Cafe is" in observed,
}


def test_paper_scheme_differs_from_the_authors_code_on_walks_as_listed():
    rng, met = random.Random("paper"), Counter()
    for _ in range(5_000):
        step = rng.choice(STEPS)
        action = rng.choice([step.action, f" {step.action}", *WORDS])
        observed = rng.choice(SAID)
        theirs = walk_reward(observed, action, step.action, step.position.at_intersection)
        ours = PAPER.verify(step, answer(step, action, observed)).reward
        if theirs != ours:
            kinds = [k for k, f in WALKS_DIFFER.items() if f(observed, action, step.action)]
            assert kinds, (observed, action, theirs, ours)
            met.update(kinds)
    assert set(met) == set(WALKS_DIFFER)


def test_authors_code_reads_a_broken_answer_of_a_walk_field_by_field():
    text = '{"action": "turn_direction(east)"}'
    assert of(ROUTE, scheme="authors").verify(STEPS[2], text).reward == 1
    assert PAPER.verify(STEPS[2], text).reason == "unreadable"
    assert of(ROUTE, scheme="authors").verify(STEPS[2], "?").reward == -1.5
    assert of(ROUTE, scheme="authors").verify(STEPS[1], "?").reward == -1


def test_authors_code_takes_no_answer_for_an_illegal_formula_or_for_misread_cards():
    deal = ANSWERS[0][0]
    assert GeneralPoints(scheme="authors").verify(deal, "?").reward == -3
    assert GeneralPointsVL(scheme="authors").verify(deal, "?").reward == -1.5
