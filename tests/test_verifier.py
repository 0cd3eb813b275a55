"""The verifier: exact, tolerant where it should be, strict elsewhere, bounded on any input."""

import random
import time
import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_general_points import SPLITS, exact

from commons.errors import SftrlError
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds.deals import NAMED_RULES, Deal
from worlds.verifier import REWARDS, verify_formula

TASK = GeneralPoints()
DEAL = Deal((13, 4, 6, 2), tuple("SHCD"), NAMED_RULES["ten"])  # values 10, 4, 6, 2
SOLUTION = "(10-4)*(6-2)"
CARDS = '"cards": ["K", "4", "6", "2"]'


def gold(formula: str = SOLUTION, number: str = "[10, 4, 6, 2]") -> str:
    return f'{{{CARDS}, "number": {number}, "formula": "{formula}"}}'


# --- Formulas -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("formula", "numbers"),
    [("8/(3-8/3)", (3, 3, 8, 8)), ("(5-1/5)*5", (1, 5, 5, 5)), ("4/(1-5/6)", (1, 4, 5, 6))],
)
def test_fractions_count_exactly(formula, numbers):
    verdict = verify_formula(formula, numbers)
    assert verdict.ok and verdict.value == 24 and verdict.reward == 5


@pytest.mark.parametrize(
    ("formula", "reason", "paper"),
    [
        (SOLUTION, "solved", 5),
        ("10+4+6+2", "wrong_value", -1),
        ("10*4/6/2", "wrong_value", -1),
        ("10+4+6+4", "wrong_numbers", -2),
        ("4*6", "wrong_numbers", -2),
        ("4*6+10-10", "wrong_numbers", -2),
        ("4*6*10/10+2-2", "wrong_numbers", -2),
        ("24", "wrong_numbers", -2),
        ("(10-4)*(6-2", "illegal_formula", -3),
        ("", "illegal_formula", -3),
    ],
)
def test_rewards_of_both_schemes(formula, reason, paper):
    verdict = verify_formula(formula, (10, 4, 6, 2))
    assert (verdict.reason, verdict.reward, verdict.ok) == (reason, paper, reason == "solved")
    binary = verify_formula(formula, (10, 4, 6, 2), scheme="binary")
    assert (binary.reason, binary.reward) == (reason, float(reason == "solved"))


def test_unknown_scheme_names_the_known_ones():
    with pytest.raises(SftrlError, match="paper, authors, binary"):
        verify_formula("1", (1,), scheme="dense")


@pytest.mark.parametrize(
    "formula",
    ["(10−4)×(6–2)", "(10-4)·(6-2)", " ( 10 - 4 )*( 6 -2 ) ", "((((10-4))))*((6)-2)",
     "(10-4)*(6-2)=24", "(10-4)*(6-2) = 24 ",
     r"(10-4) \times \left(6-2\right)", "$(10-4)∗(6-2)$", "6÷(2/(10-4+2-2))*1"],
)  # fmt: skip
def test_operator_signs_spaces_brackets_and_the_target_are_tolerated(formula):
    numbers = (10, 4, 6, 2) if "+2-2" not in formula else (6, 2, 10, 4, 2, 2, 1)
    assert verify_formula(formula, numbers, 24 if len(numbers) == 4 else 18).ok


@pytest.mark.parametrize(
    "formula",
    ["(10-4)**(6-2)", "(10-4)^(6-2)", "(10-4)//(6-2)", "-4+10*6/2", "+10*4-6", "10*-4", "(-4)",
     "(10-4)(6-2)", "10 4 6 2", "1 0*4", "010-4", "10.0-4", "1e1", "10*4*", "*4", "()", "10()",
     ")(", "10)", "(10", "10*(4+)6", "10*[4-6]", "10,4", "(10-4)*(6-2)=6*4=24", "24=(10-4)*(6-2)",
     "1=1=24", "(10-4)*(6-2)==24", "=24", "١٠-٤", "(１０-4)*(6-2)", "10²", "½", "10x4", "10\n-4",
     "10\x00", "10-4#", "10%4", "~4", "1$0-4", "10-4;6", "10000-9976", "__import__('os').getpid()",
     "[].__class__"],
)  # fmt: skip
def test_illegal_formulas(formula):
    verdict = verify_formula(formula, (10, 4, 6, 2))
    assert (verdict.reason, verdict.value, verdict.numbers) == ("illegal_formula", None, ())


@pytest.mark.parametrize("formula", ["10/0", "4/(6-6)", "6/(2-10/5)", "0/0"])
def test_division_by_zero_is_illegal(formula):
    assert verify_formula(formula, (10, 4, 6, 2)).reason == "illegal_formula"


@pytest.mark.parametrize(("formula", "value"), [("8-4-2", 2), ("8/4/2", 1), ("8-4+2", 6)])
def test_equal_operators_bind_from_the_left(formula, value):
    assert verify_formula(formula, (8, 4, 2)).value == value


def test_messages_name_the_fault():
    numbers = (10, 4, 6, 2)
    assert "equals 20/3 and not 24" in verify_formula("10*4/6", (10, 4, 6)).message
    assert "invalid numbers: 11;" in verify_formula("11+4+6+2", numbers).message
    assert "legal" in verify_formula("4*", numbers).message
    assert verify_formula(SOLUTION, numbers).message == "correct"


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("4*6", "4, 6 and not 10, 2"),  # missing
        ("(4-2)*6*6-10", "6, 6 and not 6"),  # overused
        ("11+4+6+2", "11"),  # invalid
        ("11+4+4+2", "11"),  # the first of these faults that there is
        ("2*2*6", "2, 2 and not 2"),
    ],
)
def test_message_tells_missing_overused_and_invalid_numbers_apart(formula, said):
    message = verify_formula(formula, (10, 4, 6, 2)).message
    assert message.startswith(f"you used invalid numbers: {said};")


def test_message_about_equal_cards_says_how_often_their_value_is_dealt():
    assert "8, 8 and not 8;" in verify_formula("8+8+13-9", (8, 8, 13, 9)[1:]).message
    assert "8, 13 and not 8;" in verify_formula("8+13", (8, 8, 13)).message


def test_message_stays_short_however_many_numbers_are_wrong():
    assert len(verify_formula("+".join(["9999"] * 80), (1, 2, 3, 4)).message) < 150


_LEAVES = st.integers(0, 9999).map(str)
_TREES = st.recursive(
    _LEAVES,
    lambda part: st.tuples(part, st.sampled_from([*"+-*/", " - ", " / "]), part, st.booleans()).map(
        lambda t: f"({t[0]}{t[1]}{t[2]})" if t[3] else f"{t[0]}{t[1]}{t[2]}"
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_TREES)
def test_values_agree_with_pythons_grammar_and_exact_fractions(formula):
    verdict = verify_formula(formula, (1,))
    try:
        assert verdict.value == exact(formula)
    except ZeroDivisionError:
        assert verdict.reason == "illegal_formula"


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text("0123456789+-*/() =×÷−", max_size=30)))
@example("\ud800")
def test_any_text_gets_a_verdict_and_is_legal_only_where_python_agrees(formula):
    verdict = verify_formula(formula, (1, 2))
    assert verdict.reason in REWARDS["paper"]
    if verdict.value is not None:
        ascii_formula = formula.translate(str.maketrans("×·÷−–", "**/--")).partition("=")[0]
        assert verdict.value == exact(ascii_formula.strip())


# --- Whole answers --------------------------------------------------------------------------------
@pytest.mark.parametrize("split", SPLITS)
def test_expert_answers_solve_under_every_rule(split):
    for index in range(150):
        deal = TASK.item(split, 2, index)
        verdict = TASK.verify(deal, TASK.expert(deal, random.Random(index)))
        assert (verdict.reason, verdict.reward, verdict.numbers) == ("solved", 5, deal.numbers)


@pytest.mark.parametrize(
    "text",
    [
        gold(),
        gold(f"{SOLUTION}=24"),
        gold().replace('"', "'"),
        gold().replace('"}', '",}').replace("2]", "2,]"),
        f"I take K as 10 {{so}}.\n```json\n{gold()}\n```\nDone}}.",
        gold().replace(", ", " ,\n\t ").replace("{", "{\n"),
        f"{{'formula': '{SOLUTION}', 'number': [2,4,6,10], 'cards': [K, 4, 6, 2]}}",
        gold("10+4") + " no, better: " + gold(),
        gold().replace("}", ', "comment": "easy", "sure": true}'),
    ],
)
def test_answer_format_is_read_tolerantly(text):
    assert TASK.verify(DEAL, text).reward == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (gold("10+4+6+2"), "wrong_value"),
        (gold("(10-4)*(6-2)*1"), "wrong_numbers"),
        (gold(number="[13, 4, 6, 2]"), "wrong_numbers"),
        (gold(number="[10, 4, 6]"), "wrong_numbers"),
        (gold(number="[10, 4, 6, 2, 2]"), "wrong_numbers"),
        (gold("13+4+6+2-1", "[13, 4, 6, 2]"), "wrong_numbers"),
        (gold("(10-6)*4+2=24"), "wrong_value"),
        (gold("(10-4)*6-2)", "[13, 4, 6, 2]"), "illegal_formula"),
        (gold(""), "illegal_formula"),
    ],
)
def test_near_misses_do_not_solve(text, reason):
    verdict = TASK.verify(DEAL, text)
    assert (verdict.reason, verdict.ok) == (reason, False) and verdict.reward < 0


@pytest.mark.parametrize(
    "text",
    [
        "", SOLUTION, "{}", gold()[:-1], gold()[1:], gold().replace("cards", "card"),
        gold().replace("number", "numbers"), gold().replace("formula", "formulas"),
        gold(number="[]"), gold(number="10"), gold(number='["10, 4, 6, 2"]'),
        gold(number="[10.0, 4, 6, 2]"), gold(number="[-10, 4, 6, 2]"), gold(number="[10 4 6 2]"),
        gold(number="[١٠, 4, 6, 2]"), gold(number="[10, 4, 6, 99999]"), gold(number="[10,,4]"),
        gold().replace(f'"{SOLUTION}"', "24"), gold().replace('], "number', '] "number'),
        gold().replace("[10", "[[10"), gold().replace(CARDS, '"cards": "K462"'),
    ],
)  # fmt: skip
def test_unreadable_answers(text):
    verdict = TASK.verify(DEAL, text)
    assert (verdict.reason, verdict.reward, verdict.numbers) == ("unreadable", -3, None)


def test_wrong_number_list_is_what_the_message_names():
    assert "invalid numbers: 13;" in TASK.verify(DEAL, gold(number="[13, 4, 6, 2]")).message


def test_whole_answers_follow_the_scheme():
    binary = GeneralPoints(scheme="binary")
    assert [binary.verify(DEAL, text).reward for text in (gold(), gold("1+"), "?")] == [1, 0, 0]


@settings(max_examples=200, deadline=None)
@given(st.text(), st.integers(0, len(gold())), st.integers(0, len(gold())))
def test_damaged_answers_get_a_verdict(noise, start, end):
    text = gold()[:start] + noise + gold()[end:]
    verdict = TASK.verify(DEAL, text)
    assert verdict.reason in REWARDS["paper"] and verdict.ok == (verdict.reward == 5)
    assert len(TASK.read_values(DEAL, text)) == 4


MILLION = 10**6
HOSTILE = {
    "nested brackets": "(" * 10_000 + "24" + ")" * 10_000,
    "open brackets": "(" * 400,
    "a million characters": "1+" * (MILLION // 2) + "1",
    "a million spaces": " " * MILLION,
    "a million digits": "9" * MILLION,
    "as many nines as fit": "9" * 400,
    "a long product": "*".join(["9999"] * 80),
    "long quotients": "/".join(["9999", *["9998-1/9997"] * 32]),
    "powers": "9**9**9**9**9**9",
    "power signs": "9^9^9^9^9",
    "unicode digits": "٢٤" * 100,
    "unicode letters": "𝟚𝟜" * 5_000,
    "null characters": "\x00" * MILLION,
}


@pytest.mark.parametrize("formula", HOSTILE.values(), ids=HOSTILE)
def test_hostile_formulas_are_refused_quickly_and_in_little_memory(formula):
    tracemalloc.start()
    start = time.process_time()
    verdicts = [verify_formula(formula, (10, 4, 6, 2)), TASK.verify(DEAL, gold(formula))]
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(v.reward in (-2, -3) and len(v.message) < 150 for v in verdicts)
    assert seconds < 0.3 and peak < 8e6


@pytest.mark.parametrize(
    "text",
    ["{" * 9_999, "{" * 5_000 + "}" * 4_999, '{"' * 4_999, "{" + '"a": 1, ' * 1_200 + "]",
     "{" + '"a": [' * 1_600, '{"a": 1' + " " * 9_900, '{"a": 1,' + "\n" * 9_900 + "!",
     gold(number="[1" + " " * 9_800 + "!]"), gold(number="[1" + " , 1" * 2_400 + " !]"),
     '{"a":' + "-" * 9_900, "{" + "'\"" * 4_900 + "}", gold(number=f"[{'9' * 9_000}]")],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_answers_are_refused_quickly(text):
    start = time.process_time()
    verdict = TASK.verify(DEAL, text)
    assert verdict.reason == "unreadable" and time.process_time() - start < 0.3


def test_huge_value_is_exact():
    formula = "*".join(["9999"] * 80)
    assert verify_formula(formula, [9999] * 80).value == Fraction(9999) ** 80
