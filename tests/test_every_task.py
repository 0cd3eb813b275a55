"""What holds for every task that registers itself: these tests come for free with a new one."""

import math
import random
import re
import runpy
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_general_points import exact

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment, all_settings
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.rollout import Episode, Turn
from worlds.answers import plain_signs, read_fields

every_task = pytest.mark.parametrize("name", TASKS)
every_split = pytest.mark.parametrize(
    "name, split", [(name, split) for name, kind in TASKS.items() for split in kind.splits]
)
make_hostile = runpy.run_path(str(ROOT / "benchmarks" / "hostile.py"))


@cache
def made(name):
    return TASKS[name]()


def gold(name, item, seed=0) -> str:
    return made(name).expert(item, random.Random(seed))


# --- A second opinion on what solves an item ------------------------------------------------------
_SIGNS = str.maketrans("×✕·⋅∙∗÷∕⁄−–＋－＊／（）＝", "******///--+-*/()=")


def makes(formula: str, numbers, target: int, without: str = "") -> bool:
    """Whether Python's own grammar gives a formula this value, with each number used once."""
    formula = plain_signs(formula).strip("$ ").translate(_SIGNS).partition("=")[0].strip()
    used = sorted(map(int, re.findall(r"[0-9]+", formula)))
    if not re.fullmatch(r"[0-9+\-*/() ]+", formula) or used != sorted(numbers):
        return False
    return exact(formula) == target and not (without and without in formula)


def solves_cards(deal, fields, must_see: bool) -> bool:
    values = sorted(int(str(value)) for value in fields["number"])
    seen = not must_see or sorted(str(c).strip() for c in fields["cards"]) == sorted(deal.cards)
    right = makes(fields["formula"], deal.numbers, deal.target)
    return seen and right and values == sorted(deal.numbers)


ORACLES = {  # keys of an answer, and whether one solves an item
    "gp-l": (("cards", "number", "formula"), lambda deal, f: solves_cards(deal, f, False)),
    "gp-vl": (("cards", "number", "formula"), lambda deal, f: solves_cards(deal, f, True)),
    "virl-l": (("action",), lambda step, f: " ".join(f["action"].split()) == step.action),
    "virl-vl": (("action",), lambda step, f: " ".join(f["action"].split()) == step.action),
    "countdown": (
        ("formula",), lambda game, f: makes(f["formula"], game.numbers, game.target, game.forbidden)
    ),
}  # fmt: skip


def really_solves(name, item, text) -> bool:
    """A task without an oracle of its own is taken at its word."""
    if name not in ORACLES:
        return True
    keys, right = ORACLES[name]
    return right(item, read_fields(text, keys))


def judged(name, item, text):
    """The verdict on a text, after all that must hold for any."""
    task = made(name)
    verdict, best = task.verify(item, text), task.verify(item, gold(name, item)).reward
    assert verdict.ok == (verdict.reason == "solved") and math.isfinite(verdict.reward)
    assert verdict.reward == best if verdict.ok else verdict.reward < best
    assert verdict.message and "\n" not in verdict.message and len(verdict.message) < 250
    assert not verdict.ok or really_solves(name, item, text), text
    return verdict


# --- What a task declares -------------------------------------------------------------------------
@every_task
def test_task_declares_splits_metrics_and_numbers_that_fit_together(name):
    kind = TASKS[name]
    assert {*kind.curve_splits, *kind.side_splits, "train"} <= {*kind.splits}
    assert {*kind.curve_splits, *kind.side_splits} <= {*kind.split_labels}
    assert kind.headline in kind.metrics and "success" in kind.metrics
    assert {metric for _, metric in kind.mechanism[1]} <= {*kind.metrics}
    tuned = [numbers for methods in kind.tuned.values() for numbers in methods.values()]
    assert {*kind.numbers}.union(*tuned) <= {*all_settings()}
    assert {method for methods in kind.tuned.values() for method in methods} <= {*METHODS}


@every_task
@pytest.mark.parametrize("method", METHODS)
def test_experiment_with_every_method_has_its_settings_with_a_word_on_each(name, method):
    exp = Experiment(task=name, method=method)
    assert exp.task.name == name and Experiment(**exp.flat).hash == exp.hash
    fields = TASKS[name].settings_class.model_fields
    assert all(field.description for key, field in fields.items() if key != "name")


# --- Settings -------------------------------------------------------------------------------------
def is_one_sentence(error: SftrlError) -> bool:
    said = str(error)
    return "\n" not in said and said.endswith(".") and len(said) < 700


@pytest.mark.parametrize(
    "name, setting",
    [(n, s) for n, kind in TASKS.items() for s in kind.settings_class.model_fields if s != "name"],
)
@pytest.mark.parametrize("wrong", [["x"], {"x": 1}, object(), b"\xff"], ids=str.__name__.format)
def test_wrong_setting_is_one_sentence_that_names_it(name, setting, wrong):
    for make in (TASKS[name], lambda **k: Experiment(task=name, method="sft", **k)):
        with pytest.raises(SftrlError, match=setting) as refused:
            make(**{setting: wrong})
        assert is_one_sentence(refused.value)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just(b''),
    st.sampled_from([10**5_000, -(10**5_000), math.nan, math.inf, "\ud800", "\0", "x" * 10_000]),
    st.lists(st.integers(0, 20), max_size=4),
)  # fmt: skip


@every_task
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_setting_makes_a_task_or_one_sentence(name, data):
    fields = [key for key in TASKS[name].settings_class.model_fields if key != "name"]
    given_ = data.draw(st.dictionaries(st.sampled_from(fields), JUNK, min_size=1, max_size=2))
    try:
        TASKS[name](**given_)
    except SftrlError as error:
        assert is_one_sentence(error)


@every_task
def test_unknown_setting_and_unknown_split_are_one_sentence_each(name):
    with pytest.raises(SftrlError, match="flavour") as refused:
        TASKS[name](flavour=1)
    assert is_one_sentence(refused.value)
    with pytest.raises(SftrlError, match="nowhere.*train") as refused:
        made(name).item("nowhere", 0, 0)
    assert is_one_sentence(refused.value)


# --- Items ----------------------------------------------------------------------------------------
@every_split
def test_same_split_seed_and_index_give_the_same_item_in_any_order(name, split):
    asked = [(seed, index) for seed in (0, 7) for index in range(8)]
    one, other = TASKS[name](), TASKS[name]()
    first = {key: one.item(split, *key) for key in asked}
    again = {key: other.item(split, *key) for key in random.Random(split).sample(asked, len(asked))}
    assert first == again
    prompts = {key: one.prompt(item) for key, item in first.items()}
    assert prompts == {key: other.prompt(item) for key, item in again.items()}
    assert len({repr(item) for item in first.values()}) > len(asked) // 2


@every_split
def test_prompts_are_text_that_says_what_is_asked_and_pictures_are_where_they_belong(name, split):
    task = made(name)
    for index in range(5):
        item = task.item(split, 1, index)
        prompt = task.prompt(item)
        assert isinstance(prompt, str) and len(prompt) > 40 and "<|" not in prompt
        assert prompt.encode("utf-8").decode("utf-8") == prompt
        picture = task.picture(item, 64)
        assert picture.size == (64, 64) if task.pictures else picture is None


@every_split
def test_test_items_are_the_same_each_time_and_have_clusters(name, split):
    task = made(name)
    items = task.test_items(split, 3, 5)
    assert items == task.test_items(split, 3, 5) and len(items) >= 5
    assert len({task.cluster(item) for item in items}) <= len(items)  # hashable


# --- Verdicts -------------------------------------------------------------------------------------
@every_split
def test_expert_answers_are_solved_with_the_reward_of_solved(name, split):
    task, rewards = made(name), set()
    for index in range(30):
        item = task.item(split, 2, index)
        verdict = judged(name, item, gold(name, item, index))
        assert verdict.ok
        rewards.add(verdict.reward)
    assert len(rewards) == 1 and rewards.pop() > 0


@every_task
def test_cut_answers_are_solved_where_they_are_whole_alone(name):
    item = made(name).item("train", 0, 7)
    text = gold(name, item)
    solved = [length for length in range(len(text) + 1) if judged(name, item, text[:length]).ok]
    assert solved == [len(text)]


@every_task
def test_answers_to_other_items_and_near_misses_are_solved_only_where_they_are_right(name):
    task, rng, seen = made(name), random.Random(name), Counter()
    items = [task.item("train", 0, index) for index in range(40)]
    for item in items:
        text = gold(name, item)
        for other in rng.sample(items, 3):
            seen[judged(name, item, gold(name, other)).reason] += 1
        for _ in range(10):  # another sign, digit or letter in one place
            at = rng.randrange(len(text))
            near = text[:at] + rng.choice("+-*/()0123456789 ,\"'x") + text[at + 1 :]
            seen[judged(name, item, near).reason] += 1
    assert seen.total() - seen["solved"] > 200 and len(seen) > 2


@every_task
@settings(max_examples=60, deadline=None)
@given(noise=st.text(), start=st.floats(0, 1), end=st.floats(0, 1))
def test_damaged_answers_get_a_verdict(name, noise, start, end):
    item = made(name).item("train", 0, 7)
    text = gold(name, item)
    cut, on = round(start * len(text)), round(end * len(text))
    judged(name, item, text[:cut] + noise + text[on:])
    assert not judged(name, item, noise).ok


@every_task
def test_hostile_texts_get_a_verdict_and_solve_nothing_that_they_should_not(name):
    rng, task = random.Random(f"hostile/{name}"), made(name)
    mutated, jumbled, repeated = (make_hostile[k] for k in ("mutated", "jumbled", "repeated"))
    item = task.item("train", 0, 7)
    text = gold(name, item)
    texts = [mutated(text, rng) for _ in range(400)]
    texts += [jumbled(rng.randint(0, 60), rng) for _ in range(150)]
    texts += [repeated(rng.choice((100, 400, 20_000)), rng) for _ in range(60)]
    reasons = Counter(judged(name, item, hostile).reason for hostile in texts)
    assert len(reasons) > 2 and reasons["solved"] < 300


# --- Measures -------------------------------------------------------------------------------------
def played(name, items, tries, answer) -> list[Episode]:
    """Episodes in which `answer(item, turn)` is said until it solves or the tries run out."""
    episodes = []
    for item in items:
        episode = Episode(item)
        while len(episode.turns) < tries and not episode.solved:
            text = answer(item, len(episode.turns))
            episode.turns.append(Turn([0], [0], text, made(name).verify(item, text)))
        episodes.append(episode)
    return episodes


def share(counts) -> float:
    return sum(right for right, _ in counts) / sum(of for _, of in counts)


@every_task
@pytest.mark.parametrize("split", ["id_unseen", "rule_ood"])
def test_measures_are_counts_within_their_sizes(name, split):
    task, rng, tries = made(name), random.Random(split), 3
    items = task.test_items(split, 0, 12)
    wrong = ["", "no idea", gold(name, task.item("train", 0, 1))]
    answers = lambda item, turn: rng.choice([*wrong, gold(name, item)])  # noqa: E731
    counts = task.measures(played(name, items, tries, answers), tries)
    assert {metric for metric, _ in counts} <= {*task.metrics}
    assert {("success", t) for t in range(1, tries + 1)} | {(task.headline, 1)} <= {*counts}
    for (_, t), clusters in counts.items():
        assert 1 <= t <= tries and len(clusters) <= len(items)
        assert all(0 <= right <= of <= 5 * t * len(items) for right, of in clusters)
        assert all(type(n) is int for pair in clusters for n in pair)
    successes = [share(counts["success", t]) for t in range(1, tries + 1)]
    assert successes == sorted(successes)


@every_task
@pytest.mark.parametrize(("expert", "value"), [(True, 1), (False, 0)])
def test_experts_succeed_always_and_silence_never(name, expert, value):
    task = made(name)
    items = task.test_items("rule_ood", 0, 6)
    episodes = played(name, items, 1, lambda item, turn: gold(name, item) if expert else "")
    counts = task.measures(episodes, 1)
    assert share(counts["success", 1]) == share(counts[task.headline, 1]) == value
    if expert:
        assert all(share(found) == 1 for found in counts.values() if any(of for _, of in found))
