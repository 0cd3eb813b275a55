"""Navigation: rail, texts, verifier, splits, metrics, and the Gymnasium environment."""

import math
import random
import re
import string
import time
import warnings
from dataclasses import replace
from functools import cache

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from commons.errors import SftrlError
from sftrl_lib.stats import clustered_interval
from sftrl_lib.tasks.base import Verdict
from sftrl_lib.tasks.envs import NAVIGATION_ID
from sftrl_lib.tasks.navigation import Navigation, NavigationVL, route_metrics
from study.baselines import BASELINES, baseline_metrics
from worlds import card_texts, cities
from worlds import walk_texts as texts
from worlds.panoramas import Panoramas, distance
from worlds.rail import lay_rail, sentences
from worlds.routes import SECTORS, Milestone, Route, RouteSet
from worlds.walks import REWARDS, WORDS, observed, sighted

START = (40.7, -74.0)


def ahead(point, heading, metres):
    """The point so many metres away."""
    north, east = (metres * f(math.radians(heading)) for f in (math.cos, math.sin))
    lat = point[0] + math.degrees(north / 6_371_000)
    across = 6_371_000 * math.cos(math.radians(point[0]))
    return lat, point[1] + math.degrees(east / across)


def made(legs, init_heading=0, index=0) -> Route:
    """A route from (heading, metres, landmark or None, side or None) of each leg."""
    points, stones, at, before = [], [], START, init_heading
    for heading, metres, name, side in legs:
        at = ahead(at, heading, metres)
        points.append(at)
        stones.append(Milestone(heading, before, round(metres), name, side))
        before = heading
    return Route(index, START, tuple(points), tuple(stones), init_heading, legs[-1][2])


# Turns right (90), slightly left (-20), left (across north, -120); one bare crossing.
ROUTE = made(
    [(90, 100, "Oak Cafe", "left front"), (70, 80, None, None), (310, 60, "Swan Bank", "right")]
)
names = st.text(min_size=1, max_size=30).filter(lambda name: name.strip())
segments = st.tuples(st.integers(0, 359), st.sampled_from([3, 6, 50, 200]), st.booleans(), names)


@st.composite
def routes(draw) -> Route:
    drawn = draw(st.lists(segments, min_size=1, max_size=6))
    sides = draw(st.lists(st.sampled_from(SECTORS), min_size=6, max_size=6))
    legs = []
    for i, (heading, metres, there, name) in enumerate(drawn, 1):
        seen = (name, sides[i - 1]) if there or i == len(drawn) else (None, None)
        legs.append((heading, metres, *seen))
    return made(legs, draw(st.integers(0, 359)), draw(st.integers(0, 9)))


def of(*given: Route, kind=Navigation, **options) -> Navigation:
    """The task on these routes, for all splits."""
    found = RouteSet(given, (), Panoramas(), len(given), generated=True)
    return kind(data=dict.fromkeys(("train", "unseen", "other"), found), **options)


@cache
def generated() -> Navigation:
    return Navigation()


def whole(split="id_unseen", route=ROUTE, **options):
    """Task and steps of one route with every forward point."""
    task = of(route, **{"drop_rate": 0, **options})
    return task, task.positions(split, route)


def answer(step, action=None, observation=None) -> str:
    position = step.position
    said = position.observation if observation is None else observation
    return texts.answer(said, position.sentence, action or step.action)


def gold(step) -> str:
    return answer(step)


# --- Rail -----------------------------------------------------------------------------------------
@settings(max_examples=80, deadline=None)
@given(routes(), st.integers(0, 4), st.floats(0, 1), st.integers(0, 99))
def test_rail_goes_from_a_turn_over_forward_points_to_the_stop(route, length, drop_rate, seed):
    laid = lay_rail(route, length, drop_rate, seed)
    kinds = "".join(position.kind[0] for position in laid)
    assert re.fullmatch(rf"(tf{{0,{length}}}){{{len(route.points)}}}s", kinds)
    assert laid == lay_rail(route, length, drop_rate, seed)
    turns = [position for position in laid if position.kind == "turn"]
    assert [turn.location for turn in turns] == [route.start, *route.points[:-1]]
    assert [turn.at_intersection for turn in turns] == [False] + [True] * (len(turns) - 1)
    assert laid[-1].location == route.points[-1] and not laid[-1].at_intersection


@settings(max_examples=40, deadline=None)
@given(routes(), st.integers(0, 6))
def test_nothing_dropped_means_every_point_of_every_segment_over_five_metres(route, length):
    places = (route.start, *route.points)
    walked = sum(distance(a, b) > 5 for a, b in zip(places, places[1:], strict=False))
    laid = lay_rail(route, length, 0.0)
    assert sum(position.kind == "forward" for position in laid) == length * walked
    everything_dropped = lay_rail(route, length, 1.0)
    assert {position.kind for position in everything_dropped} == {"turn", "stop"}


def test_forward_points_are_evenly_spaced_between_the_ends():
    laid = lay_rail(ROUTE, 4, 0.0)[:6]  # the first leg, 100 m
    steps = [distance(a.location, b.location) for a, b in zip(laid, laid[1:], strict=False)]
    assert steps == pytest.approx([20] * 5, abs=0.01)
    assert [position.heading for position in laid] == [0, 90, 90, 90, 90, 90]


def test_rails_of_other_seeds_and_routes_drop_other_points():
    lengths = {len(lay_rail(ROUTE, 5, 0.5, seed)) for seed in range(20)}
    assert len(lengths) > 3
    others = {len(lay_rail(replace(ROUTE, index=index), 5, 0.5)) for index in range(20)}
    assert len(others) > 3


def test_points_move_to_panoramas_that_are_near_and_not_at_the_ends():
    route = made([(90, 100, "Swan Bank", "right")])
    near, at_the_end = ahead(ahead(START, 90, 45), 0, 10), ahead(START, 90, 94)
    mapped = Panoramas({near: "a", at_the_end: "b", ahead(START, 90, 500): "c"})
    laid = lay_rail(route, 9, 0.0, panoramas=mapped)
    # The points at 40, 50 and 60 m are all nearest to one picture; those at 90 m have one that is
    # only 6 m from the end; those at 10 and 20 m have none.
    assert [position.location for position in laid] == [route.start, near, route.points[0]]


def test_real_wrap_of_a_turn_over_north():
    route = made([(350, 50, None, None), (80, 50, "Swan Bank", "left")], init_heading=350)
    wrapped, public = (
        [p.relative for p in lay_rail(route, 0, 0, wrap=wrap)] for wrap in (True, False)
    )
    assert wrapped[1] == "turn_direction(right)" and public[1] == "turn_direction(left)"
    assert sentences(route, wrap=False)[2] == "Turn left to face east."


@pytest.mark.parametrize(
    ("change", "word"),
    [(-90, "left"), (-46, "left"), (-45, "slightly left"), (0, "slightly left"),
     (1, "slightly right"), (45, "slightly right"), (46, "right"), (179, "right")],
)  # fmt: skip
def test_relative_words_by_their_thresholds(change, word):
    route = made([((200 + change) % 360, 50, "Swan Bank", "left")], init_heading=200)
    assert lay_rail(route, 0, 0)[0].relative == f"turn_direction({word})"


# --- Texts ----------------------------------------------------------------------------------------
def test_instruction_is_two_sentences_a_milestone():
    assert sentences(ROUTE) == (
        "First, turn right to face east.",
        "Move forward until you reach next intersection where Oak Cafe is on your left front.",
        "Turn slightly left to face east.",
        "Move forward until you reach next intersection.",
        "Turn left to face northwest.",
        "Move forward until you reach destination where The destination Swan Bank is on your "
        "right.",
    )


def test_observations_actions_and_sentences_along_the_rail():
    laid = lay_rail(ROUTE, 1, 0.0)
    said = [(p.observation, p.absolute, p.relative) for p in laid]
    street = ("No landmarks nearby;", "forward()", "forward()")
    assert said == [
        ("No landmarks nearby;", "turn_direction(east)", "turn_direction(right)"),
        street,
        ("Oak Cafe is on your left front; You observe an intersection", "turn_direction(east)",
         "turn_direction(slightly left)"),
        street,
        ("No landmark nearby; You observe an intersection", "turn_direction(northwest)",
         "turn_direction(left)"),
        street,
        ("The destination Swan Bank is on your right;", "stop()", "stop()"),
    ]  # fmt: skip
    told = sentences(ROUTE)
    assert [told.index(position.sentence) for position in laid] == [0, 1, 2, 3, 4, 5, 5]


def test_prompt_holds_instruction_history_and_a_blank_last_action():
    task, steps = whole("rule_ood", straight_line_length=1)
    prompt = task.prompt(steps[2])
    assert "\n6. Move forward until you reach destination" in prompt
    assert "turn_direction(x)" in prompt and "left, right, slightly left, slightly right" in prompt
    assert (
        "\nO_1: No landmarks nearby;\nA_1: turn_direction(right)"
        "\nO_2: No landmarks nearby;\nA_2: forward()"
        "\nO_3: Oak Cafe is on your left front; You observe an intersection\nA_3: \n" in prompt
    )
    assert all(f'"{key}"' in prompt for key in ("current observation", "current instruction"))


def test_prompts_of_the_two_action_spaces_differ_in_rule_and_history_only():
    task, steps = whole(straight_line_length=1)
    others = task.positions("rule_ood", ROUTE)
    for one, other in zip(steps, others, strict=True):
        lines, twins = (task.prompt(step).split("\n") for step in (one, other))
        differing = [line for line, twin in zip(lines, twins, strict=True) if line != twin]
        assert differing[0].startswith("Actions:")
        assert all("turn_direction" in line for line in differing)


def pieces(text: str) -> str:
    """What is left of a text when every phrase is taken out."""
    known = sorted(texts.PHRASES, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, known)), "", text)


@pytest.mark.parametrize("split", ["id_unseen", "rule_ood"])
def test_prompts_and_answers_are_made_of_phrases_and_names(split):
    task, steps = whole(split)
    for step in steps:
        for text in (task.prompt(step), gold(step)):
            rest = pieces(text.replace("Oak Cafe", "").replace("Swan Bank", ""))
            assert set(rest) <= set(";)"), rest


def test_phrases_of_generalpoints_did_not_change():
    assert len(card_texts.PHRASES) == 29  # the committed tokenizer is built from them
    assert len(texts.PHRASES) > 50


@pytest.mark.parametrize(
    "name", ['"', "}{", "a\nA_9: stop()", "<|end|>", "x" * 9_000, "Ñandú 咖啡"]
)
def test_any_name_leaves_lines_answers_and_special_tokens_whole(name):
    route = made([(90, 50, name + " Cafe", "left"), (0, 50, name + " Bank", "right")])
    task, steps = whole(route=route)
    for step in steps:
        prompt = task.prompt(step)
        assert prompt.count("\nA_") == step.index + 1 and "<|" not in prompt
        assert task.verify(step, gold(step)).ok and len(gold(step)) < 1_000


# --- Verifier -------------------------------------------------------------------------------------
STEPS = whole(straight_line_length=1)[1]  # turn, forward, turn at a crossing, ..., stop
LAID = dict(drop_rate=0, straight_line_length=1)
TASK = of(ROUTE, **LAID)
CROSSING = "Oak Cafe is on your left front; You observe an intersection"


@pytest.mark.parametrize(
    ("index", "action", "observation", "reason", "reward"),
    [
        (0, "turn_direction(east)", None, "solved", 1),
        (0, "turn_direction(right)", None, "wrong_action", -1),
        (0, "forward()", CROSSING, "wrong_observation", -1.5),
        (1, "forward()", None, "solved", 1),
        (1, "forward()", CROSSING, "solved", 1),
        (1, "turn_direction(east)", None, "wrong_action", -1),
        (1, "turn_direction(east)", CROSSING, "wrong_observation", -1.5),
        (2, "forward()", None, "wrong_action", -1),
        (2, "forward()", "No landmarks nearby;", "wrong_observation", -1.5),
        (2, "forward()", "you  observe an Intersection", "wrong_action", -1),
        (6, "stop()", None, "solved", 1),
        (6, "stop", None, "wrong_action", -1),
        (6, "forward()", "You observe an intersection", "wrong_observation", -1.5),
    ],
)
def test_rewards_of_both_schemes(index, action, observation, reason, reward):
    step = STEPS[index]
    text = answer(step, action, observation)
    verdict = TASK.verify(step, text)
    assert (verdict.reason, verdict.reward, verdict.ok) == (reason, reward, reason == "solved")
    binary = of(ROUTE, scheme="binary").verify(step, text)
    assert (binary.reason, binary.reward) == (reason, float(reason == "solved"))


def test_messages_say_what_was_wrong():
    def said(index, action, observation=None):
        return TASK.verify(STEPS[index], answer(STEPS[index], action, observation)).message

    assert said(0, "stop()") == "your action is not the right one at this position"
    assert said(1, "stop()", CROSSING) == "you are not at an intersection"
    assert said(2, "stop()", "nothing") == "you are at an intersection"
    assert "format" in TASK.verify(STEPS[0], "stop()").message


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"', "'"),
        lambda text: text.replace('"}', '",}').replace(", ", " ,\n "),
        lambda text: f"Well, {{I}} think:\n```json\n{text}\n```",
        lambda text: answer(STEPS[2], "stop()") + " no: " + text,
        lambda text: text.replace("turn_direction(east)", "  turn_direction(east)\n"),
        lambda text: text.replace("}", ', "sure": true}'),
    ],
)
def test_answer_format_is_read_tolerantly(change):
    assert TASK.verify(STEPS[2], change(gold(STEPS[2]))).ok


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "turn_direction(east)",
        lambda text: text[1:],
        lambda text: text[:-1],
        lambda text: text.replace("current observation", "observation"),
        lambda text: text.replace("current instruction", "instruction"),
        lambda text: text.replace('"action"', '"actions"'),
        lambda text: text.replace('"turn_direction(east)"', "forward()"),
        lambda text: text.replace('"turn_direction(east)"', '["turn_direction(east)"]'),
        lambda text: text + " " * 100_000,
    ],
)
def test_unreadable_answers(change):
    verdict = TASK.verify(STEPS[2], change(gold(STEPS[2])))
    assert (verdict.reason, verdict.reward) == ("unreadable", -1)


@pytest.mark.parametrize("step", STEPS)
def test_quoted_pays_for_no_action_without_the_due_sentence_and_leaves_what_is_right(step):
    quoted, plain = of(ROUTE, scheme="quoted", **LAID), of(ROUTE, **LAID)
    said = texts.answer(step.position.observation, "Turn round.", step.action)
    verdict = quoted.verify(step, said)
    assert (verdict.ok, verdict.reason, verdict.reward) == (True, "wrong_sentence", 0)
    for text in (answer(step), said.replace(step.action, "turn_direction(up)"), said[:-9]):
        assert quoted.verify(step, text) == plain.verify(step, text)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.integers(0, 200), st.integers(0, 200), st.sampled_from(STEPS))
@example("\ud800", 3, 5, STEPS[0])
def test_damaged_answers_get_a_verdict(noise, start, end, step):
    verdict = TASK.verify(step, gold(step)[:start] + noise + gold(step)[end:])
    assert verdict.reason in REWARDS["paper"] and verdict.reward == REWARDS["paper"][verdict.reason]
    assert verdict.ok == (verdict.reward == 1) and len(verdict.message) < 100


@settings(max_examples=100, deadline=None)
@given(routes(), st.text(max_size=40))
def test_only_the_right_action_is_right(route, action):
    task, steps = whole("rule_ood", route)
    for step in steps:
        if not set(action) & set("'\"{}"):
            ok = task.verify(step, answer(step, action or " ")).ok
            assert ok == (" ".join(action.split()) == step.action)


@pytest.mark.parametrize(
    "text",
    ["{" * 9_999, '{"' * 4_999, '{"action": "' + "(" * 9_000, "{" + '"action": "a", ' * 600 + "]",
     '{"action":' + " " * 9_900, "{" + "'\"" * 4_900 + "}",
     answer(STEPS[2], "turn_direction(" * 600)],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_answers_are_refused_quickly(text):
    start = time.process_time()
    assert not TASK.verify(STEPS[2], text).ok
    assert time.process_time() - start < 0.3


# --- Splits ---------------------------------------------------------------------------------------
def test_same_seed_same_item():
    backwards = [Navigation().item("train", 7, i) for i in reversed(range(20))]
    assert [generated().item("train", 7, i) for i in range(20)] == backwards[::-1]
    prompts_ = {generated().prompt(generated().item("train", seed, 0)) for seed in range(20)}
    assert len(prompts_) == 20


def test_train_and_id_seen_are_two_streams_of_the_same_routes():
    assert generated().routes("train") is generated().routes("id_seen")
    streams = [[generated().item(s, 0, i) for i in range(20)] for s in ("train", "id_seen")]
    assert streams[0] != streams[1]


def test_training_draws_a_rail_of_its_own_for_every_item():
    task = of(ROUTE)
    assert len({task.item("train", 0, index).rail for index in range(20)}) > 10
    assert {task.item("train", 0, index).position.kind for index in range(60)} == {
        "turn", "forward", "stop",
    }  # fmt: skip


def test_rule_ood_is_the_same_rails_under_the_other_actions():
    task = generated()
    for route in task.routes("id_unseen")[:20]:
        pairs = [task.positions(split, route, 3) for split in ("id_unseen", "rule_ood")]
        assert pairs[0][0].rail == pairs[1][0].rail
        assert {step.actions for step in pairs[0]} == {"absolute"}
        assert {step.actions for step in pairs[1]} == {"relative"}


def test_reverse_direction_trains_on_relative_actions():
    task = of(ROUTE, rule="relative", ood_rule="absolute")
    actions = [task.positions(split, ROUTE)[0].action for split in ("train", "rule_ood")]
    assert actions == ["turn_direction(right)", "turn_direction(east)"]


def test_splits_have_the_promised_numbers_of_routes_of_the_right_cities():
    found = {split: generated().routes(split) for split in Navigation.splits}
    assert len(found["train"]) == 1_000 and len(found["id_unseen"]) >= 200
    assert len(found["visual_ood"]) >= 200
    home = {cities.city_of(r.start).name for s in ("train", "id_unseen") for r in found[s]}
    away = {cities.city_of(route.start).name for route in found["visual_ood"]}
    assert home == {cities.TRAINING_CITY} and len(away) >= 9 and not home & away


def test_most_generated_routes_have_8_to_16_positions():
    task = generated()
    lengths = [len(task.positions("train", route)) for route in task.routes("train")[:300]]
    assert sum(8 <= length <= 16 for length in lengths) > 0.75 * len(lengths)
    most = max(len(Navigation(drop_rate=0).positions("train", r)) for r in task.routes("train"))
    assert f"\nA_{most}: " in texts.PHRASES


@pytest.mark.parametrize(
    "wrong, named",
    [({"rule": "compass"}, "rule is 'compass'.*absolute.*relative"),
     ({"ood_rule": None}, "ood_rule is None.*absolute.*relative"),
     ({"straight_line_length": -1}, "straight_line_length is -1.*0"),
     ({"straight_line_length": 2.5}, "straight_line_length is 2.5.*whole number"),
     ({"drop_rate": 1.1}, "drop_rate is 1.1.*1"), ({"drop_rate": math.nan}, "drop_rate is nan.*"),
     ({"drop_rate": "all"}, "drop_rate is 'all'.*number"), ({"wrap": 2}, "wrap is 2.*boolean"),
     ({"tries": 2}, "tries"), ({"scheme": "dense"}, "scheme is 'dense'.*paper.*binary.*authors")],
)  # fmt: skip
def test_bad_argument_is_refused_at_construction_with_what_is_allowed(wrong, named):
    with pytest.raises(SftrlError, match=rf"^[^\n]*{named}[^\n]*$"):
        Navigation(**wrong)


def test_unknown_split_names_the_known_ones():
    with pytest.raises(SftrlError, match="rule_ood"):
        generated().routes("test")


def test_split_without_data_is_none_and_one_without_routes_says_so():
    with pytest.raises(SftrlError, match="must be one of id_unseen, rule_ood;"):
        Navigation(data={"unseen": of(ROUTE).data["unseen"]}).item("visual_ood", 0, 0)
    with pytest.raises(SftrlError, match="'other' has no usable route"):
        of().item("visual_ood", 0, 0)


@pytest.mark.parametrize("split", Navigation.splits)
def test_expert_solves_every_position_of_every_split(split):
    task = generated()
    for route in task.routes(split)[:60]:
        for step in task.positions(split, route):
            assert task.verify(step, task.expert(step, random.Random(0))).reward == 1


def test_history_is_right_actions_only():
    for step in generated().positions("rule_ood", generated().routes("rule_ood")[0]):
        before = step.rail[: step.index]
        assert step.history == [(p.observation, p.relative) for p in before]


# --- Pictures -------------------------------------------------------------------------------------
@cache
def pictured() -> tuple[Navigation, tuple]:
    """The task and all positions of ten routes of other cities."""
    task = NavigationVL()
    ten = task.routes("visual_ood")[:10]
    return task, tuple(step for route in ten for step in task.positions("visual_ood", route))


def test_question_about_a_picture_says_nothing_of_what_is_observed_now():
    task, steps = pictured()
    for step in steps:
        last = task.prompt(step).rpartition(f"\nO_{step.index + 1}: ")[2]
        assert last.startswith(f"{texts.LOOK}\nA_{step.index + 1}: \n")


def test_picture_is_shown_where_the_task_has_pictures_alone():
    task, steps = pictured()
    assert task.picture(steps[0], 64).size == (64, 64)
    assert generated().picture(steps[0], 64) is None


def test_expert_says_what_a_picture_shows_and_solves_every_position():
    task, steps = pictured()
    for step in steps:
        answer = task.expert(step, random.Random(0))
        assert task.verify(step, answer).ok
        assert set(sighted(step, observed(answer)).values()) == {True}


def test_picture_of_a_mapped_position_is_cut_from_its_panorama(tmp_path):
    (tmp_path / "street_views").mkdir()
    Image.new("RGB", (360, 180), (200, 10, 10)).save(tmp_path / "street_views" / "p.jpg")
    (tmp_path / "street_views" / "p.metadata.json").write_text('{"rotation": 0}')
    panoramas = Panoramas(dict.fromkeys((ROUTE.start, *ROUTE.points), "p"))
    found = RouteSet((ROUTE,), (), panoramas, 1, tmp_path)
    task = NavigationVL(data={"unseen": found})
    crossing = next(s for s in task.positions("id_unseen", ROUTE) if s.position.at_intersection)
    assert task.picture(crossing, 64).getpixel((5, 5))[0] > 150


def test_a_landmark_is_seen_as_its_kind_with_its_side():
    task, steps = whole(kind=NavigationVL)
    at = {step.position.observation: step.position.seen for step in steps}
    assert at == {
        "No landmarks nearby;": "No landmarks nearby;",
        "Oak Cafe is on your left front; You observe an intersection": "A Cafe is on your left "
        "front; You observe an intersection",
        "No landmark nearby; You observe an intersection": "No landmark nearby; You observe an "
        "intersection",
        "The destination Swan Bank is on your right;": "A Bank is on your right;",
    }


@pytest.mark.parametrize(
    ("said", "right"),
    [("A Cafe is on your left front;  You observe an intersection", (True, True, True)),
     ("A Cafe is on your left front;", (False, False, True)),
     ("A Cafe is on your left; You observe an intersection", (False, True, False)),
     ("Oak Cafe is on your left front; You observe an intersection", (False, True, False)),
     ("", (False, False, False))],
)  # fmt: skip
def test_what_was_seen_right_is_told_apart(said, right):
    step = next(step for step in whole(kind=NavigationVL)[1] if step.position.at_intersection)
    seen = sighted(step, said)
    assert tuple(seen[n] for n in ("recognition", "intersection_seen", "landmark_seen")) == right


def test_positions_without_a_landmark_have_none_to_see():
    assert "landmark_seen" not in sighted(whole(kind=NavigationVL)[1][0], "No landmarks nearby;")


# --- Metrics --------------------------------------------------------------------------------------
RIGHT, WRONG = Verdict(True, 1.0, "solved", ""), Verdict(False, -1.0, "wrong_action", "")


def counted(verdicts: str, tries: int = 2) -> dict:
    """Metrics of ROUTE without forward points (turn, turn, turn, stop): "+ -+ + +" and the like."""
    _, steps = whole(straight_line_length=0)
    said = [[RIGHT if mark == "+" else WRONG for mark in part] for part in verdicts.split()]
    counts = route_metrics(list(zip(steps, said, strict=True))[::-1], tries)
    return {metric: count[0] for metric, count in counts.items()}


@pytest.mark.parametrize(
    ("verdicts", "tries", "per_step", "full", "turns", "success"),
    [
        ("+ + + +", 2, (4, 4), (4, 4), (3, 3), (1, 1)),
        ("+ -+ + +", 2, (4, 5), (3, 4), (2, 3), (1, 1)),
        ("+ -- + +", 2, (1, 3), (3, 4), (2, 3), (0, 1)),
        ("-- -- -- --", 2, (0, 2), (0, 4), (0, 3), (0, 1)),
        ("+ -+ + +", 1, (1, 2), (3, 4), (2, 3), (0, 1)),
        ("+ + + --", 2, (3, 5), (3, 4), (3, 3), (0, 1)),
    ],
)
def test_metrics_count_with_and_without_early_ending(
    verdicts, tries, per_step, full, turns, success
):
    assert counted(verdicts, tries) == {
        "per_step": per_step, "per_step_full": full, "turn_accuracy": turns, "success": success,
    }  # fmt: skip


def test_metrics_refuse_a_route_with_a_position_missing():
    _, steps = whole()
    with pytest.raises(ValueError, match="every position"):
        route_metrics([(step, [RIGHT]) for step in steps[1:]], 2)


def test_metrics_of_several_routes_are_one_cluster_each():
    two = [ROUTE, replace(ROUTE, index=1)]
    task = of(*two)
    played = [(s, [RIGHT]) for route in two for s in task.positions("train", route)]
    counts = route_metrics(played, 2)
    assert len(counts["success"]) == 2
    assert clustered_interval(*zip(*counts["per_step"], strict=True)).value == 1


def share(counts) -> float:
    return sum(hits for hits, _ in counts) / sum(n for _, n in counts)


def test_baseline_always_forward_is_right_on_straight_pieces_and_finishes_nothing():
    task = generated()
    found = baseline_metrics(task, "rule_ood", "always_forward", count=100)
    steps = [s for r in task.routes("rule_ood")[:100] for s in task.positions("rule_ood", r)]
    straight = sum(step.position.kind == "forward" for step in steps) / len(steps)
    assert share(found["per_step_full"]) == straight and 0.4 < straight < 0.7
    assert share(found["turn_accuracy"]) == share(found["success"]) == share(found["per_step"]) == 0


def test_baseline_of_compass_words_is_perfect_at_home_and_fails_every_turn_under_the_other_rule():
    at_home, abroad = (
        baseline_metrics(generated(), split, "compass_words", count=50)
        for split in ("id_unseen", "rule_ood")
    )
    assert all(share(counts) == 1 for counts in at_home.values())
    assert share(abroad["turn_accuracy"]) == share(abroad["per_step"]) == 0
    assert share(abroad["per_step_full"]) > 0.5


def test_baseline_of_random_legal_actions_is_seeded_and_near_one_in_six():
    runs = [baseline_metrics(generated(), "rule_ood", "random_legal", s, 100) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert 0.12 < share(runs[0]["per_step_full"]) < 0.22  # of 2 + 4 actions
    assert share(baseline_metrics(generated(), "id_unseen", "random_legal")["success"]) == 0


def test_unknown_baseline_names_the_known_ones():
    with pytest.raises(SftrlError, match=", ".join(BASELINES)):
        baseline_metrics(generated(), "train", "clever")


# --- Gymnasium ------------------------------------------------------------------------------------
def make(**options):
    return gymnasium.make(NAVIGATION_ID, **options)


def test_environment_is_clean_under_the_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(render_mode="ansi").unwrapped)


def test_environment_takes_names_of_any_script():
    route = made([(90, 50, "Ñandú 咖啡", "left")])
    env = make(data=of(route).data)
    observation, _ = env.reset(seed=0)
    assert "咖啡" in observation and env.observation_space.contains(observation)


def finish(env, seed: int) -> list[float]:
    """Rewards of an expert that first errs everywhere, once."""
    env.reset(seed=seed)
    task, steps, rewards, over = env.unwrapped.task, env.unwrapped.items, [], False
    for step in steps:
        assert not over
        for text in (answer(step, "fly()"), task.expert(step, random.Random(0))):
            prompt, reward, over, truncated, info = env.step(text)
            assert env.observation_space.contains(prompt) and not truncated
            assert "fly" not in prompt
            rewards.append(reward)
    assert over and info["ok"]
    return rewards


@pytest.mark.parametrize("rule", WORDS)
def test_expert_finishes_every_route_and_no_wrong_action_enters_the_history(rule):
    env = make(rule=rule, split="visual_ood")
    for seed in range(40):
        rewards = finish(env, seed)
        assert set(rewards[::2]) == {-1} and set(rewards[1::2]) == {1}


def test_environment_ends_where_the_tries_at_one_position_run_out():
    env = make(tries=2, render_mode="ansi")
    question, info = env.reset(seed=1)
    assert info["positions"] == len(env.unwrapped.items)
    gold_ = env.unwrapped.task.expert(env.unwrapped.items[0], random.Random(0))
    second, reward, terminated, _, info = env.step(gold_)
    assert (reward, terminated, info["tries_left"]) == (1, False, 2) and "\nO_2: " in second
    reply, reward, terminated, _, info = env.step("no idea")
    assert (reward, terminated, info["tries_left"]) == (-1, False, 1)
    assert reply.startswith("You failed this trial because")
    _, reward, terminated, _, _ = env.step("no idea")
    assert (reward, terminated) == (-2, True)  # one for the answer, one for the route
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("too late")
    assert env.render().startswith(question)


def test_environment_resets_to_the_same_route_for_the_same_seed():
    one, other = make(), make()
    for seed in (5, None, None):
        assert one.reset(seed=seed) == other.reset(seed=seed)
    assert one.reset()[0] != one.reset()[0]


def test_environment_gives_2000_steps_a_second():
    env = make().unwrapped
    steps, start = 0, time.process_time()
    while steps < 2_000:
        env.reset(seed=steps)
        for step in env.items:
            env.step(env.task.expert(step, random))
            steps += 1
    assert time.process_time() - start < 1


def test_reset_plays_the_route_of_an_index_on_the_rail_of_the_seed():
    env = make(data=of(ROUTE, replace(ROUTE, index=5)).data, render_mode="ansi").unwrapped
    for index in (5, 0):
        _, info = env.reset(seed=3, options={"route_idx": index})
        assert info == {"route": index, "positions": len(env.items)}
        assert {step.route.index for step in env.items} == {index}
    first = env.reset(seed=3, options={"route_idx": 5}), env.items
    assert first == (env.reset(seed=3, options={"route_idx": 5}), env.items)


@pytest.mark.parametrize(
    "options, words",
    [({"route_idx": index}, "route_idx is .* one of the 2 routes of train in their file, 0 to 5")
     for index in (1, -1, 6, "0", 0.0, True, [0])]
    + [({"route": 0}, "option of reset is 'route', but it must be one of route_idx")],
)  # fmt: skip
def test_reset_refuses_other_routes_and_options(options, words):
    env = make(data=of(ROUTE, replace(ROUTE, index=5)).data)
    with pytest.raises(SftrlError, match=words):
        env.reset(options=options)


@pytest.mark.parametrize(
    "text", ["", "Ñandú 咖啡 🍜", "\ud800", "\0", "a" * 200_000, "\u202e}{"], ids=len
)
def test_action_space_holds_every_text_and_step_judges_it(text):
    env = make()
    env.reset(seed=0)
    assert env.action_space.contains(text)
    assert env.step(text)[4]["reason"] == "unreadable"


@pytest.mark.parametrize("given_", [None, 3, b"forward()", ["forward()"], [0] * 10_000])
def test_action_that_is_no_text_is_one_sentence(given_):
    env = make()
    env.reset(seed=0)
    assert not env.action_space.contains(given_)
    with pytest.raises(SftrlError, match="it must be a text") as refused:
        env.step(given_)
    assert len(str(refused.value)) < 250


def test_samples_of_the_action_space_are_printable_and_belong_to_it():
    space = make().action_space
    space.seed(0)
    drawn = [space.sample() for _ in range(20)]
    assert all(map(space.contains, drawn)) and len(set(drawn)) == 20
    assert all(set(text) <= set(string.printable) and len(text) <= 1_000 for text in drawn)


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"split": "test"}, {"rule": "up"}])
def test_environment_refuses_bad_options(wrong):
    with pytest.raises(SftrlError, match=next(iter(wrong))):
        make(**wrong)


def test_settings_are_chosen_on_routes_that_no_test_walks():
    task = Navigation(set_apart=True)
    chosen, tested = (set(task.routes(split)) for split in ("validation", "id_unseen"))
    assert not chosen & tested and len(chosen) > 100 and len(tested) > 200
    assert tested == set(task.routes("rule_ood"))
    assert chosen | tested == set(Navigation().routes("id_unseen"))
