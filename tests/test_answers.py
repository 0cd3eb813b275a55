"""The reader of answers: what real models write is read, and nothing is made up or runs long."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_navigation import STEPS, answer
from test_navigation import TASK as WALK
from test_verifier import DEAL, TASK, gold

from worlds.answers import MAX_ANSWER, read_fields
from worlds.deals import named_cards
from worlds.verifier import verify_formula

KEYS = ("cards", "number", "formula")
A = '{"cards": ["K","4","6","2"], "number": [10,4,6,2], "formula": "(10-4)*(6-2)"}'
DRAFT = A.replace("(10-4)*(6-2)", "10+4+6+2")
THOUGHT = "<think>I can't use {10, 4}; \\frac{1}{2} is {x: x < 1}. \"So\n" * 2_000 + "</think>\n"
CROSSING = STEPS[2]  # turn east, at an intersection


# --- The rows that were found wrong ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "reason", "reward"),
    [
        (A + r"$\boxed{24}$", "solved", 5),
        (A[:-1] + ', "steps": ["10-4=6", "6-2=4", "6*4=24"]}', "solved", 5),
        (A[:-1] + ', "check": {"value": 24, "used": [10, 4, 6, 2]}}', "solved", 5),
        (A.replace("[10,4,6,2]", '["10","4","6","2"]'), "solved", 5),
        (A.replace("(10-4)*(6-2)", "(10-6)*4+2=18"), "wrong_value", -1),
        (THOUGHT + A, "solved", 5),
        (THOUGHT + DRAFT, "wrong_value", -1),
    ],
)
def test_answer_as_real_models_write_it(text, reason, reward):
    verdict = TASK.verify(DEAL, text)
    assert (verdict.reason, verdict.reward) == (reason, reward)


@pytest.mark.parametrize("tail", ["24", "25", " 18 ", "-3", "2/3", "24.0"])
def test_what_follows_the_equals_sign_does_not_count(tail):
    assert verify_formula(f"(10-4)*(6-2)={tail}", (10, 4, 6, 2)).reason == "solved"
    assert verify_formula(f"(10-6)*4+2={tail}", (10, 4, 6, 2)).reason == "wrong_value"


@pytest.mark.parametrize(
    ("observation", "at_crossing", "away"),
    [
        ("Oak Cafe is on your left front; I observe an intersection", -1, -1.5),
        ("There is an intersection ahead.", -1, -1.5),
        ("No landmarks nearby; at the Intersection", -1, -1.5),
        ("I don't see a landmark, but I am at an intersection", -1, -1.5),
        ("I observe no intersection", -1.5, -1),
        ("I am not at an intersection", -1.5, -1),
        ("not yet at the next intersection", -1.5, -1),
        ("I don't observe any intersection", -1.5, -1),
        ("no landmark or intersection", -1.5, -1),
        ("Intersection: none", -1.5, -1),
        ("an intersection is not visible", -1.5, -1),
        ("Intersection Cafe is on your left;", -1.5, -1),
        ("Intersection Cafe is on your left; You observe an intersection", -1, -1.5),
    ],
)
def test_claim_of_an_intersection_is_understood_in_any_words(observation, at_crossing, away):
    for step, reward in ((CROSSING, at_crossing), (STEPS[1], away)):
        assert WALK.verify(step, answer(step, "stop()", observation)).reward == reward


# --- The kind -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{A}\n```",
        f"{THOUGHT}```\n{A}\n```\nThis makes $24$: \\boxed{{(10-4)*(6-2)}}.",
        f"{DRAFT} No: {A}",
        f"{A} {{",
        f'{A} {{"cards": ["K", "4',
        f'{A} {{"cards": ["K","4","6","2"], "number": [10,4,6,2], "formula": "10+',
        f'{{"answer": {A}}}',
        f'{{"answers": [{DRAFT}, {A}]}}',
        f'{{"draft": {DRAFT}, {A[1:]}',
        f'{A[:-1]}, "draft": {DRAFT}}}',
        f'{{"thought": "so: {{\\"{{\\" it\'s \\frac{{1}}{{2}}", {A[1:]}',
        f"{{\"seen\": \"{{'cards': [1], 'number': [2], 'formula': '3'}}\", {A[1:]}",
        A.replace('"', "'"),
        A.replace('"', "”"),
        A.replace('"K"', "“K”").replace('"formula"', "‘formula’"),
        A.replace('"cards"', "cards").replace('"number"', "number"),
        A.replace('["K","4","6","2"]', "[K, 4, 6, 2]"),
        A.replace("]", ",]").replace("}", ",}"),
        A.replace("2],", "2], // K counts as 10\n"),
        A.replace("*", "\\u002a"),
        A.replace("*", r"\times "),
        A.replace("*", r" \\times "),
        A.replace("*", r"\cdot").replace("(10", r"\left(10").replace("4)", r"4\right)"),
        A.replace("*", "×").replace("-", "−"),
        A.replace("*", "\\u00d7"),
        A.replace("(10-4)*(6-2)", r"$(10-4)\\times(6-2)$"),
        A.replace("(10-4)*(6-2)", "（10－4）＊（6－2）"),
        A.replace(", ", ",\n\t") + "\x00",
        A + "\n" * 90_000,
    ],
)
def test_last_complete_object_with_the_keys_is_the_answer(text):
    assert TASK.verify(DEAL, text).reason == "solved"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"<think>{text.replace('east', 'west')} {{x: 1}} Hm.</think> {text}",
        lambda text: text[:-1] + ', "why": ["a", {"b": 1}]}',
        lambda text: text + r" $\boxed{east}$",
        lambda text: text.replace('"', "’"),
        lambda text: text + ' {"action": "stop()"}',
    ],
)
def test_navigation_reads_alike(change):
    assert WALK.verify(CROSSING, change(answer(CROSSING))).ok


@pytest.mark.parametrize(
    "text",
    [
        A[:-1],
        A[1:],
        A.replace('6-2)"', '6-2)" - 1'),
        A.replace('6-2)"', '6-2)" "+1"'),
        A.replace('"(10-4)*(6-2)"', "(10-4)*(6-2)"),
        A.replace("[10,4,6,2]", "[10 4 6 2]"),
        A.replace("[10,4,6,2]", "[10,,4,6,2]"),
        A.replace("[10,4,6,2]", '["10,4,6,2"]'),
        A.replace("[10,4,6,2]", "[1.0e1,4,6,2]"),
        A.replace("[10,4,6,2]", '{"K": 10, "4": 4, "6": 6, "2": 2}'),
        A.replace('], "number"', '] "number"'),
        A.replace('"(10-4)*(6-2)"', '["(10-4)*(6-2)"]'),
        "cards K 4 6 2, number 10 4 6 2, formula (10-4)*(6-2)",
        A + " " * MAX_ANSWER,
    ],
)
def test_nothing_is_added_to_an_answer_or_cut_from_it(text):
    assert TASK.verify(DEAL, text).reason == "unreadable"


_PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), _PLAIN | st.lists(st.integers(), max_size=3)),
    _PLAIN.filter(lambda text: not set(text) & set("{}")),
    _PLAIN.filter(lambda text: "{" not in text),
    st.booleans(),
)
def test_object_is_read_as_it_stands_whatever_stands_around_it(extra, before, after, broken):
    given = extra | json.loads(A)
    text = json.dumps(given, ensure_ascii=False)
    if broken:
        text = text[:-1] + ", }"
    assert read_fields(f"{before}{text}{after}", KEYS) == given


def test_cards_are_named_by_the_last_list_of_them():
    assert named_cards(f'{DRAFT} then {{"cards": ["Q", "4"], "number": [1') == ["Q", "4"]
    assert named_cards("no cards") == []


# --- Time -----------------------------------------------------------------------------------------
HOLLOW = '"cards":1,"number":2,"formula":3'
HOSTILE = {
    "open braces": "{" * MAX_ANSWER + HOLLOW,
    "nested objects": '{"a":' * 19_000 + HOLLOW,
    "nested lists": '{"a":' + "[" * 99_000 + HOLLOW,
    "lists that go on": ('{"a":[' + "1," * 2_400) * 20 + HOLLOW,
    "objects to mend": ('{"a":x' + ",x" * 2_400) * 20 + HOLLOW,
    "one string": '{"a":' * 20 + '"' + "x" * 99_000 + HOLLOW,
    "quotes": "{'" * 49_000 + HOLLOW,
    "keys": '{"formula":' * 9_000,
    "broken objects": ("{" + HOLLOW + ",x y}") * 3_000,
    "one object in another": '{"a":1,"b":' * 9_000 + "{" + HOLLOW + "}" * 500,
    "digits": '{"a":' + "9" * 99_000 + "," + HOLLOW + "}",
    "exponents": '{"a":1e999999999,' * 5_000 + HOLLOW + "}" * 5_000,
    "backslashes": '{"a":"' + "\\" * 99_000 + HOLLOW,
    "LaTeX": r"\times" * 16_000 + HOLLOW,
    "spaces": "{" + " " * 99_000 + HOLLOW,
    "surrogates": '{"a":"' + "\\ud800" * 16_000 + '",' + HOLLOW + "}",
    "null bytes": "\x00" * 99_000 + HOLLOW,
    "a million braces": "{" * 10**6,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_read_in_bounded_time(text):
    start = time.process_time()
    verdicts = TASK.verify(DEAL, text), WALK.verify(CROSSING, text), TASK.verify(DEAL, gold(text))
    assert not any(verdict.ok for verdict in verdicts)
    assert time.process_time() - start < 0.5
