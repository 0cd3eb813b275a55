"""The setting `wording`: the same tasks, said as in the book or after the authors' description."""

import hashlib
import random
import re
from typing import get_args

import gymnasium
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from test_navigation import ROUTE, answer, made, of, routes
from test_rollout import Scripted
from test_verifier import DEAL, gold

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment, sections
from sftrl_lib.registry import TASKS
from sftrl_lib.rollout import rollout
from sftrl_lib.tasks.envs import ENV_ID, NAVIGATION_ID
from sftrl_lib.tasks.general_points import GeneralPoints, GeneralPointsVL
from sftrl_lib.tasks.navigation import Navigation, NavigationVL
from worlds import authors_cards, authors_walks
from worlds.deals import RANKS, Deal, Rule, read_answer, read_cards, read_values
from worlds.texts import WORDINGS
from worlds.verifier import verify_formula
from worlds.walks import KEYS, WORDS, observed, sighted

FOUR = ("gp-l", "gp-vl", "virl-l", "virl-vl")
PARTS = re.compile(r"^\[(\w[\w ]*)\]$", re.MULTILINE)
SCHEMES = ("paper", "authors", "binary")
# What the book's wording said before there was another: of 25 items of each of these splits.
BEFORE = {
    "gp-l": "fa541438047d990a",
    "gp-vl": "1f3061bef239a0d8",
    "virl-l": "ac7d3c57ab91a0f6",
    "virl-vl": "b5aab6fccc860294",
}


# --- The default ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FOUR)
def test_the_books_wording_is_what_it_was_byte_for_byte(name):
    task, said = TASKS[name](), hashlib.sha256()
    for split in ("train", "rule_ood", "visual_ood")[: 3 if "visual_ood" in task.splits else 2]:
        for index in range(25):
            item = task.item(split, 5, index)
            right = task.expert(item, random.Random(index))
            wrong = right.replace("+", "-").replace("forward", "stop").replace("turn", "run")
            told = (task.verify(item, text).message for text in (right, wrong, "?"))
            said.update("\0".join((task.prompt(item), *told, right)).encode())
    assert said.hexdigest()[:16] == BEFORE[name]


@pytest.mark.parametrize("name", FOUR)
def test_the_default_leaves_hashes_alone_and_the_other_is_another_run(name):
    exp = Experiment(task=name)
    assert exp.hash == exp.replace(wording="book").hash != exp.replace(wording="authors").hash
    assert "wording" not in exp.task.identity()


@pytest.mark.parametrize("name", FOUR)
def test_an_unknown_wording_names_the_known_ones(name):
    listed = "wording is 'theirs'.*" + ".*".join(WORDINGS)
    for make in (TASKS[name], lambda **given: Experiment(task=name, **given)):
        with pytest.raises(SftrlError, match=listed):
            make(wording="theirs")


@pytest.mark.parametrize("name", FOUR)
def test_every_wording_that_can_be_chosen_has_its_texts(name):
    field = sections(name, "rl")["task"].model_fields["wording"]
    assert tuple(TASKS[name].wordings) == get_args(field.annotation) == WORDINGS
    assert field.description == " | ".join(WORDINGS)


# --- An expert is right, whatever is dealt --------------------------------------------------------
@st.composite
def deals(draw) -> Deal:
    """A hand of any split, of three or four cards, under any rule and with any target that hands
    are found for."""
    rule, other = (Rule.parse(draw(st.tuples(*[st.sampled_from(RANKS)] * 3))) for _ in range(2))
    target, count = draw(st.sampled_from((24, 24, 7, 36))), draw(st.sampled_from((3, 4, 4)))
    task = GeneralPoints(rule=rule, ood_rule=other, target=target, n_cards=count)
    try:
        return task.item(draw(st.sampled_from(task.splits)), draw(st.integers(0, 10**6)), 0)
    except SftrlError:
        reject()


def rounds(deal, formula) -> bool:
    """Whether floats miss what the fractions of a formula make: the authors' judge does."""
    return verify_formula(formula, deal.numbers, deal.target, "authors").reward == 0


@pytest.mark.parametrize("kind", [GeneralPoints, GeneralPointsVL])
@settings(max_examples=40)
@given(deals(), st.integers(0, 99))
def test_an_experts_answer_on_any_deal_is_right_and_read_back(kind, deal, seed):
    for scheme in SCHEMES:
        task = kind(wording="authors", scheme=scheme)
        text = task.expert(deal, random.Random(seed))
        cards, numbers, formula = read_answer(text)
        assert (cards, numbers) == ([*deal.cards], [*deal.numbers])
        assert formula.endswith(f"={deal.target}")
        right = task.verify(deal, text)
        assert right.ok or (scheme == "authors" and rounds(deal, formula))
        assert not right.ok or right.message == "Correct solution"
    assert all(said == true for _, said, true in read_values(deal, text))
    assert all(said == card for card, said in read_cards(deal, text))


@pytest.mark.parametrize("kind", [Navigation, NavigationVL])
@settings(max_examples=25)
@given(route=routes(), actions=st.sampled_from(sorted(WORDS)), scheme=st.sampled_from(SCHEMES))
def test_an_experts_answer_on_any_walk_is_right_and_read_back(kind, route, actions, scheme):
    task = of(route, kind=kind, wording="authors", scheme=scheme, rule=actions, ood_rule=actions)
    for step in task.positions("train", route, 3):
        text = task.expert(step, random.Random(0))
        right = task.verify(step, text)
        assert right.ok and right.message == "Correct action"
        assert all(sighted(step, observed(text)).values())
        for wrong in {"forward()", "stop()", "turn_direction(up)"} - {step.action}:
            said = authors_walks.answer(step.seen, step.position.sentence, wrong)
            assert task.verify(step, said).reason == "wrong_action"


@pytest.mark.parametrize("wording", WORDINGS)
def test_a_name_with_signs_of_json_is_seen_and_said_alike(wording):
    route = made([(90, 100, 'Bar \\\\b "{A}" | \\times\\', "left"), (0, 50, "End", "front")])
    task = of(route, wording=wording)
    for step in task.positions("train", route, 3):
        text = task.expert(step, random.Random(0))
        assert task.verify(step, text).ok
        assert all(sighted(step, observed(text)).values())


# --- Question, answer, verdict, reply -------------------------------------------------------------
def keys(text: str) -> list[str]:
    """The keys of an object, line by line."""
    return re.findall(r'^  "([^"]+)": ', text, re.MULTILINE)


def parts(text: str) -> list[str]:
    return PARTS.findall(text)


CARDS, WALK = ["cards", "number", "formula"], [*KEYS]
ORDER = {
    "gp-l": ["Task Description", "Input", "Output"],
    "gp-vl": ["Task Description", "Output"],
    "virl-l": [
        *("Task Description", "Instruction", "Action space"),
        *("Observations and actions sequence", "Output"),
    ],
    "virl-vl": [
        *("Task Description", "Instruction", "Observation format", "Action space"),
        *("Observations and actions sequence", "Output"),
    ],
}


@pytest.mark.parametrize("name", FOUR)
def test_question_answer_and_verdict_are_of_one_form(name):
    task, of_task = TASKS[name](wording="authors"), CARDS if "gp" in name else WALK
    for split in ("train", "rule_ood"):
        for index in range(20):
            item = task.item(split, 2, index)
            asked, said = task.prompt(item), task.expert(item, random.Random(index))
            assert parts(asked) == ORDER[name]
            assert keys(asked.rpartition("[Output]")[2]) == keys(said) == of_task
            assert said.startswith("{\n") and said.endswith(",\n}")
            assert task.verify(item, said).ok and not task.verify(item, asked).ok
            assert asked != TASKS[name]().prompt(item)


def test_a_question_in_words_tells_the_hand_and_one_with_a_picture_does_not():
    hand = str([*DEAL.cards])
    asked = {
        kind: kind(wording="authors").prompt(DEAL) for kind in (GeneralPoints, GeneralPointsVL)
    }
    assert [hand in text for text in asked.values()] == [True, False]
    for text in asked.values():
        assert "'J', 'Q' and 'K' count as '10'" in text and "24 points" in text
        assert "[x, y, z, w]" in text and "[a, b, c, d]" in text
    ruled = Deal(DEAL.ranks, DEAL.suits, Rule.parse((7, 3, 12)), 20)
    assert "count as '7', '3' and '12'" in authors_cards.prompt(ruled)


@pytest.mark.parametrize("actions", WORDS)
def test_a_walk_tells_its_action_space_and_with_pictures_crossings_but_no_landmark(actions):
    options = {"wording": "authors", "rule": actions, "drop_rate": 0}
    text, shown = (of(ROUTE, kind=kind, **options) for kind in (Navigation, NavigationVL))
    for step in text.positions("train", ROUTE, 0):
        asked, seen = text.prompt(step), shown.prompt(step)
        assert str([*WORDS[actions]]) in asked and str([*WORDS[actions]]) in seen
        n, here = len(step.history) + 1, step.position
        assert f"O_{n}: {here.observation}\nA_{n}: \n\n\n[Output]" in asked
        crossing = "You observe an intersection" * here.at_intersection
        assert f"O_{n}: You observe an image of 4 views; {crossing}\nA_{n}: \n" in seen
        for (saw, did), i in zip(step.history, range(1, n), strict=True):
            assert f"O_{i}: {saw}\nA_{i}: {did}\n" in seen
        for i, sentence in enumerate(step.sentences, 1):
            assert f"\n{i}. {sentence}\n" in asked and f"\n{i}. {sentence}\n" in seen


FORMULAS = ("10+4+6+2", "11+4+6+2", "4*6", "10-4)*(6-2)", "10-4*", "(10-4)*(6-2")


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_replies_about_cards_are_the_authors_judges_under_any_scheme(formula, scheme):
    task = GeneralPoints(wording="authors", scheme=scheme)
    text = authors_cards.written(DEAL.cards, DEAL.numbers, f"{formula}=24")
    theirs = verify_formula(formula, DEAL.numbers, 24, "authors")
    verdict, ours = task.verify(DEAL, text), GeneralPoints(scheme=scheme).verify(DEAL, text)
    assert verdict.message == theirs.message and not verdict.ok
    assert (verdict.reward, verdict.reason) == (ours.reward, ours.reason)


def test_a_fault_that_the_authors_judge_does_not_see_is_said_in_our_words():
    task, seen = GeneralPoints(wording="authors"), GeneralPointsVL(wording="authors")
    misread = authors_cards.written(DEAL.cards, (11, 4, 6, 2), "(10-4)*(6-2)=24")
    assert task.verify(DEAL, misread).message.startswith("you used invalid numbers: 11")
    unseen = authors_cards.written(("A", *DEAL.cards[1:]), DEAL.numbers, "(10-4)*(6-2)=24")
    assert seen.verify(DEAL, unseen).message == "you recognized wrong cards"
    assert task.verify(DEAL, "?").message == "illegal characters"


@pytest.mark.parametrize("kind", [Navigation, NavigationVL])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_replies_about_walks_are_the_authors_under_any_scheme(kind, scheme):
    task = of(ROUTE, kind=kind, wording="authors", scheme=scheme, drop_rate=0)
    for step in task.positions("train", ROUTE, 0):
        crossing = step.position.at_intersection
        wrong = "stop()" if step.action != "stop()" else "forward()"
        said = {
            seen: task.verify(step, answer(step, wrong, seen)).message
            for seen in ("nothing", "You observe an intersection")
        }
        blind, claims = said.values()
        at = "you are at an intersection" if crossing else "you are not at any intersection"
        assert (blind, claims)[crossing] == "you make incorrect action"
        assert (claims, blind)[crossing] == at
        reply = task.texts.retry(blind)
        assert reply.startswith(f"You failed this trial because {blind}. ")
        assert parts(reply) == ["Output"] and keys(reply) == WALK


def test_how_much_is_told_is_another_setting():
    for level, said in (("reason", "target"), ("wrong", "your answer is wrong")):
        task = GeneralPoints(wording="authors", feedback=level)
        assert said in task.verify(DEAL, gold("10+4+6+2")).message
        assert task.verify(DEAL, gold("(10-4)*(6-2)")).message == "Correct solution"


# --- Where the texts go ---------------------------------------------------------------------------
@pytest.mark.parametrize("wording", WORDINGS)
def test_a_rollout_and_an_environment_reply_in_the_wording_of_the_task(wording, monkeypatch):
    task, told = GeneralPoints(wording=wording), []
    policy = Scripted(monkeypatch, [5, 6])
    policy.next_turn = lambda text: told.append(text) or [2]
    (episode,) = rollout(policy, task, [DEAL], tries=2)
    env = gymnasium.make(ENV_ID, wording=wording).unwrapped
    env.reset(seed=1)
    reply, *_ = env.step("?")
    end = {"book": "asked for. Try again.", "authors": "because illegal characters."}[wording]
    assert told == [reply] and reply.endswith(end)
    assert episode.turns[1].prompt_ids == [2]


@pytest.mark.parametrize("pictures", [False, True])
def test_an_environment_is_walked_to_its_end_in_the_authors_wording(pictures):
    env = gymnasium.make(NAVIGATION_ID, wording="authors", pictures=pictures).unwrapped
    asked, info = env.reset(seed=4)
    rewards = []
    for step in env.items:
        assert parts(asked) == ORDER["virl-vl" if pictures else "virl-l"]
        asked, reward, over, *_ = env.step(env.task.expert(step, random.Random(0)))
        rewards.append(reward)
    assert over and rewards == [1.0] * info["positions"] and asked == "Correct action"
