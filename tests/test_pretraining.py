"""What the foundation model is pre-trained on: what the data may hold, and what it must not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry.pretraining import (
    Pretraining,
    Seeing,
    _town,
    random_formula,
    random_route,
    recorded_names,
    view_patches,
    worked_steps,
)
from sftrl_lib import verify_formula
from worlds import cities
from worlds import walk_texts as walks_texts
from worlds.deals import CARD_NAMES, HELD_OUT_MAPPINGS, NAMED_RULES, held_out
from worlds.rail import lay_rail, sentences
from worlds.routes import TURNS, turn_word
from worlds.walks import Step, observed

RECIPE = Pretraining(batch=64, walks=64)


@pytest.fixture(scope="module")
def deals():
    rng = random.Random("test")
    return [RECIPE.deal(rng) for _ in range(3000)]


def test_pretraining_never_sees_a_named_or_held_out_rule(deals):
    seen = {(deal.rule.j, deal.rule.q, deal.rule.k) for deal, _ in deals}
    named = {(rule.j, rule.q, rule.k) for rule in NAMED_RULES.values()}
    assert not seen & (named | set(HELD_OUT_MAPPINGS))
    assert len(seen) > 1000  # and yet it sees very many


def test_pretraining_never_sees_a_held_out_multiset_with_the_task_target(deals):
    assert not [d for d, _ in deals if d.target == 24 and held_out(d.numbers)]


def test_pretraining_formulas_solve_their_deals(deals):
    assert all(verify_formula(f, d.numbers, d.target).ok for d, f in deals[:500])


def test_conversations_end_with_a_right_answer_after_wrong_ones():
    talks = [c for c in RECIPE.batch_of(0) if len(c) > 2]
    assert 10 < len(talks) < 60  # a quarter of 128, less those whose wrong answer was right
    for talk in talks:
        assert [role for role, _ in talk][-3:] == ["assistant", "user", "assistant"]
        assert talk[-2][1].startswith("You failed this trial because ")


def test_json_switch_leaves_the_tasks_format_out():
    for kinds in ({"batch": 400, "walks": 0}, {"batch": 0, "walks": 400}):
        without = Pretraining(**kinds, json=0.0).batch_of(0)
        assert not [c for c in without if "JSON" in c[0][1]]
        assert [c for c in Pretraining(**kinds).batch_of(0) if "JSON" in c[0][1]]


def test_batches_are_the_same_for_the_same_seed_and_step():
    assert RECIPE.batch_of(3) == RECIPE.batch_of(3) != RECIPE.batch_of(4)


def test_worked_steps_are_true_and_refuse_fractions():
    assert worked_steps("(10-4)*3+6") == ["10-4=6", "6*3=18", "18+6=24"]
    assert worked_steps("8/(3-8/3)") is None


@given(st.lists(st.integers(1, 13), min_size=4, max_size=4), st.integers(0, 10**6))
def test_random_formula_value_is_what_the_verifier_computes(numbers, seed):
    formula, value = random_formula(numbers, random.Random(seed))
    verdict = verify_formula(formula, numbers, 24)
    assert verdict.value == value
    assert verdict.reason in (("illegal_formula",) if value is None else ("solved", "wrong_value"))


# --- Walks ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def routes():
    rng = random.Random("test")
    return [random_route(rng) for _ in range(1000)]


@pytest.fixture(scope="module")
def walks():
    rng = random.Random("test")
    return [RECIPE.walk(rng) for _ in range(500)]


def test_pretraining_never_names_a_landmark_of_a_city(routes):
    seen = {stone.landmark for route in routes for stone in route.milestones}
    assert len(seen) > 1000
    assert not seen & recorded_names()


def test_the_landmarks_of_all_ten_cities_are_recorded():
    for name in cities.names():
        assert {x.name for x in cities.city(name).landmarks.values()} <= recorded_names()


def test_pretraining_turns_in_all_words_equally_often(routes):
    turns = [turn_word(s.heading_before, s.heading) for r in routes for s in r.milestones]
    assert all(0.2 < turns.count(word) / len(turns) < 0.3 for word in TURNS)


def test_both_action_spaces_are_asked_for_equally_often(walks):
    told = [c[0][1].count("the direction to face then") for c in walks]
    assert 0.4 < sum(told) / len(told) < 0.6


def test_the_last_answer_of_a_walk_is_never_a_wrong_one(walks):
    """Where an answer was wrong, the right one differs from it."""
    for talk in walks:
        if len(talk) == 4:
            assert talk[-1][1] != talk[1][1]


def test_a_walk_in_the_tasks_format_is_solved_by_its_last_answer(routes):
    recipe, rng = Pretraining(json=1.0), random.Random("json")
    for _ in range(100):
        talk = recipe.walk(rng)
        told = talk[0][1].rpartition("\nO_")[2].partition(": ")[2].partition("\nA_")[0]
        assert observed(talk[-1][1]) == told


def test_wrong_actions_are_wrong_and_of_several_kinds(routes):
    rng, kinds = random.Random(0), set()
    for route in routes[:200]:
        laid = lay_rail(route, 3, 0.5)
        step = Step(route, sentences(route), laid, rng.randrange(len(laid)), "relative")
        wrong = RECIPE.wrong_action(step, rng)
        assert wrong != step.action
        kinds.add(wrong.partition("(")[0])
    assert kinds == {"forward", "stop", "turn_direction"}


# --- Pictures -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shown():
    rng, seeing = random.Random("test"), Seeing(towns=2)
    return [seeing.hand(rng) for _ in range(300)], [seeing.street(rng) for _ in range(300)]


def test_conversations_about_pictures_do_not_say_what_is_shown(shown):
    for one in shown[0]:
        assert "of the picture" in one.talk[0][1]
    for one in shown[1]:
        assert one.talk[0][1].count(walks_texts.LOOK) == 1


def test_learning_to_see_has_few_red_cards():
    rng, seeing = random.Random("test"), Seeing(red=0.1)
    suits = [seeing.hand(rng).draw.args[1] for _ in range(500)]
    assert 0.05 < sum(set(s) <= set("HD") for s in suits) / 500 < 0.15
    assert all(set(s) <= set("HD") or set(s) <= set("SC") for s in suits)


def test_each_patch_of_a_hand_names_the_card_of_its_quarter(shown):
    for one in shown[0]:
        rows = [one.patches[i : i + 8] for i in range(0, 64, 8)]
        corners = rows[0][0], rows[3][7], rows[4][3], rows[7][4]
        assert [CARD_NAMES[rank + 1] for rank in corners] == list(one.draw.args[0])


def test_a_landmark_is_named_in_the_view_where_the_route_says_it_is():
    city, routes = _town(0)
    first = {"front": 0, "right": 4, "behind": 32, "left": 36}  # patch of the view's upper row
    views = {word: range(i, i + 4) for word, i in first.items()}
    for route in routes:
        for point, stone in zip(route.points, route.milestones, strict=True):
            patches = view_patches(city, city.position(point), stone.heading)
            assert all((label - 13) % 2 for label in patches)  # at a crossing
            signs = {i: (label - 13) // 2 for i, label in enumerate(patches) if label > 14}
            assert len(signs) == 4 * bool(stone.landmark)  # one column of one view
            if stone.landmark:
                kind = cities.KINDS[signs[min(signs)] - 1]
                assert kind.capitalize() == stone.landmark.split()[-1]
                assert any(min(signs) in views[word] for word in stone.side.split())


def test_random_cities_name_no_landmark_of_the_ten():
    names = {mark.name for seed in range(6) for mark in _town(seed)[0].landmarks.values()}
    assert len(names) > 60 and not names & recorded_names()
