"""Measures on episodes made by hand, the KL against a plain loop, and the same seed twice."""

import pytest
import torch
from helpers_training import small_policy

from engine.generation import Conversations
from sftrl_lib import Experiment, SftrlError
from sftrl_lib.evaluate import KlToInit, evaluate, full_battery, score
from sftrl_lib.rollout import Episode, Turn
from sftrl_lib.stats import clustered_interval
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.general_points import GeneralPoints
from worlds import card_texts as texts
from worlds import walk_texts as walks
from worlds.deals import Deal, Rule

TASK = GeneralPoints()
EXP = Experiment(eval_tries=2, eval_episodes=5, final_episodes=9, max_new_tokens=12)
RULE = Rule.parse("eleven_twelve_thirteen")
KING_JACK = Deal((13, 11, 1, 1), tuple("SHCD"), RULE)
QUEENS = Deal((12, 12, 2, 1), tuple("SHCD"), RULE)
SOLUTION = {KING_JACK: "(13+11)*1*1", QUEENS: "(12+12)*(2-1)"}


def right(deal):
    return texts.answer(deal.cards, deal.numbers, SOLUTION[deal])


def with_tens(deal):
    """What a model answers for which every face card counts as 10."""
    tens = [min(n, 10) for n in deal.numbers]
    return texts.answer(deal.cards, tens, "+".join(map(str, tens)))


def wrong_value(deal):
    return texts.answer(deal.cards, deal.numbers, "+".join(map(str, deal.numbers)))


def illegal(deal):
    return texts.answer(deal.cards, deal.numbers, "24")[:-2] + '+"}'


def episode(deal, *answers):
    texts = [answer(deal) for answer in answers]
    return Episode(deal, [Turn([1], [2], text, TASK.verify(deal, text)) for text in texts])


def value(rows, metric, tries=1):
    (row,) = [r for r in rows if (r["metric"], r["tries"]) == (metric, tries)]
    assert row["value"] == pytest.approx(row["successes"] / row["n"])
    return row["successes"], row["n"]


@pytest.fixture(scope="module")
def rows():
    episodes = [
        episode(KING_JACK, right),
        episode(KING_JACK, wrong_value, right),
        episode(QUEENS, with_tens, illegal, right),
        episode(QUEENS, illegal, with_tens, lambda deal: "no idea"),
        episode(QUEENS, lambda deal: "no idea", right),
    ]
    return score(TASK, "rule_ood", episodes, tries=3)


# --- score ----------------------------------------------------------------------------------------
def test_success_within_k_tries_is_counted_from_one_rollout(rows):
    assert [value(rows, "success", tries) for tries in (1, 2, 3)] == [(1, 5), (3, 5), (4, 5)]


def test_legal_and_numbers_right_judge_the_first_try(rows):
    assert value(rows, "legal") == (3, 5)  # wrong numbers still make a legal formula
    assert value(rows, "numbers_right") == (2, 5)


def test_value_reading_counts_face_cards_of_the_first_try(rows):
    """Two face cards a hand; ten for a queen is misread, an unreadable answer reads nothing."""
    assert value(rows, "value_reading") == (2 + 2 + 0 + 2 + 0, 10)


def test_hands_without_a_face_card_have_no_value_reading():
    deal = Deal((6, 4, 1, 1), tuple("SHCD"), RULE)
    rows = score(TASK, "id_unseen", [episode(deal, wrong_value)], tries=1)
    assert [r["metric"] for r in rows] == ["success", "legal", "numbers_right"]


def test_intervals_cluster_episodes_by_value_multiset():
    """Two hands of the same four values are one cluster, whatever the order and the rule."""
    swapped = Deal((11, 1, 13, 1), tuple("SHCD"), RULE)
    deals = [KING_JACK, swapped, QUEENS]
    SOLUTION[swapped] = SOLUTION[KING_JACK]
    played = [episode(d, right) for d in deals] + [episode(d, wrong_value) for d in deals[::2]]
    first = score(TASK, "rule_ood", played, tries=1)[0]
    assert (first["value"], first["lo"], first["hi"]) == clustered_interval([2, 1], [3, 2])


# --- evaluate -------------------------------------------------------------------------------------
def test_same_seed_same_rows_whatever_was_sampled_before():
    policy, splits = small_policy(), {"id_unseen": 5, "rule_five": 4}
    torch.manual_seed(1)
    rows, played = evaluate(policy, TASK, EXP, splits, progress=False)
    torch.manual_seed(2)
    again, replayed = evaluate(policy, TASK, EXP, splits, progress=False)
    assert rows == again
    assert played == replayed  # every token of every try
    theirs = evaluate(policy, TASK, EXP.replace(seed=1), splits, progress=False)[1]
    assert all(theirs[s][i].item != played[s][i].item for s in splits for i in range(4))


@pytest.mark.parametrize("own", [0.0, 0.2, 1.0])
def test_an_episode_does_not_depend_on_what_is_played_beside_it(own):
    """Nor on how many are written side by side, which `auto` asks the machine about."""
    policy, exp = small_policy(), EXP.replace(eval_temperature=own)

    def turns(count, *temperatures):
        _, played = evaluate(policy, TASK, exp, {"id_unseen": count}, False, temperatures)
        return [episode.turns for episode in played["id_unseen"]]

    first = turns(7)
    policy.generation_batch_size = 3
    assert turns(7) == first
    assert turns(4, 0.0, 0.2, 1.0) == first[:4]
    answers = {tuple(tries[0].completion_ids) for tries in first}
    assert own == 0 or len(answers) == 7  # each has draws of its own


def test_each_split_has_its_episodes():
    policy, splits = small_policy(), {"id_unseen": 5, "rule_five": 4}
    rows, played = evaluate(policy, TASK, EXP, splits, progress=False)
    assert {s: len(e) for s, e in played.items()} == splits
    assert {len(e.turns) for e in played["id_unseen"]} == {2}  # a random model solves nothing
    success = [(r["split"], r["tries"], r["n"]) for r in rows if r["metric"] == "success"]
    assert success == [(s, t, n) for s, n in splits.items() for t in (1, 2)]


def test_other_temperatures_are_measured_where_claims_rest_on_it():
    policy, splits = small_policy(), {"id_unseen": 5, "rule_five": 4}
    plain, played = evaluate(policy, TASK, EXP, splits, progress=False)
    rows, again = evaluate(policy, TASK, EXP, splits, progress=False, temperatures=(0.0, 0.2, 1.0))
    assert {r["eval_temperature"] for r in rows if "eval_temperature" in r} == {0.0, 0.2}
    assert {r["split"] for r in rows if "eval_temperature" in r} == {"id_unseen"}
    (counted,) = (r for r in rows if "clusters" in r)
    assert (counted["split"], counted["metric"], counted["tries"]) == ("id_unseen", "success", 2)
    of = [sum(column) for column in zip(*counted["clusters"].values(), strict=True)]
    assert of == [counted["successes"], counted["n"]]
    at_own = [r for r in rows if "eval_temperature" not in r]
    assert [(r["split"], r["metric"], r["tries"]) for r in at_own] == [
        (r["split"], r["metric"], r["tries"]) for r in plain
    ]
    assert {s: len(e) for s, e in again.items()} == {s: len(e) for s, e in played.items()}


def test_full_battery_tests_every_split_but_training():
    battery = full_battery(EXP, TASK)
    assert set(battery) == set(TASK.splits) - {"train", "validation"}
    assert {s for s, n in battery.items() if n == 9} == set(TASK.curve_splits)
    assert {n for s, n in battery.items() if s not in TASK.curve_splits} == {5}


# --- KL to the init -------------------------------------------------------------------------------
@pytest.fixture
def ragged(monkeypatch):
    """Answers of 1 to 7 tokens, so that rows of a batch are padded."""
    whole = Conversations.answer

    def answer(self, *args):
        return [ids[: 1 + i % 7] for i, ids in enumerate(whole(self, *args))]

    monkeypatch.setattr(Conversations, "answer", answer)


def test_kl_is_zero_for_the_init_and_grows_with_the_distance(ragged):
    policy = small_policy()
    kl = KlToInit(policy, TASK, EXP, answers=9)
    distances = [kl(policy)]
    torch.manual_seed(0)
    noise = {n: torch.randn_like(p) for n, p in policy.model.named_parameters()}
    for _ in range(2):
        for name, parameter in policy.model.named_parameters():
            parameter.data += 0.01 * noise[name]
        distances.append(kl(policy))
    assert distances[0] == 0 < distances[1] < distances[2]


def test_kl_equals_a_plain_loop_over_single_answers(ragged):
    policy, init = small_policy(), small_policy()
    kl = KlToInit(policy, TASK, EXP, answers=9)
    for parameter in policy.model.parameters():
        parameter.data *= 1.05
    total = 0.0
    for question, answer, _ in kl.rows:
        ids = torch.tensor([question + answer])
        with torch.no_grad():
            before, now = (p.model(input_ids=ids).logits[0].log_softmax(-1) for p in (init, policy))
        for place in range(len(question) - 1, len(question) + len(answer) - 1):
            total += float((before[place].exp() * (before[place] - now[place])).sum())
    assert len({len(answer) for _, answer, _ in kl.rows}) > 3
    assert kl(policy) == pytest.approx(total / 9, rel=1e-4)
    row = kl.row(policy)
    assert (row["metric"], row["split"], row["n"]) == ("kl_to_init", "id_unseen", 9)
    assert row["value"] == kl(policy) > 0


def test_kl_leaves_the_model_in_the_mode_it_was_in():
    policy = small_policy()
    kl = KlToInit(policy, TASK, EXP, answers=2)
    policy.model.train()
    kl(policy)
    assert policy.model.training


# --- navigation: the same functions ---------------------------------------------------------------
WALK = Experiment(task="virl-l")


def played_by(answer, count=6):
    """Episodes on all positions of some routes; `answer(step, try)` is the action."""
    task = make_task(WALK)
    episodes = []
    for step in task.test_items("rule_ood", 0, count):
        here = Episode(step)
        while len(here.turns) < 2 and not here.solved:
            action = answer(step, len(here.turns))
            text = walks.answer(step.position.observation, step.position.sentence, action)
            here.turns.append(Turn([1], [2], text, task.verify(step, text)))
        episodes.append(here)
    return task, episodes


def test_an_expert_walks_every_route_to_its_end():
    task, episodes = played_by(lambda step, t: step.action)
    rows = score(task, "rule_ood", episodes, 2)
    assert {r["value"] for r in rows} == {1.0}
    assert {(r["metric"], r["tries"]) for r in rows} == {
        ("success", 1), ("success", 2), ("per_step", 1), ("per_step", 2), ("per_step_full", 1),
        ("turn_accuracy", 1), ("turn_found", 1), ("words_right", 1), ("sentence_right", 1),
        *((f"says_{word}", 1) for word in ("left", "right", "slightly_left", "slightly_right")),
    }  # fmt: skip


def test_a_second_try_saves_a_route_and_costs_an_answer():
    task, episodes = played_by(lambda step, t: step.action if t or step.index else walks.STOP)
    rows = {(r["metric"], r["tries"]): r for r in score(task, "rule_ood", episodes, 2)}
    assert rows["success", 1]["successes"] == 0
    assert rows["success", 2]["successes"] == 6
    assert rows["per_step", 1]["successes"] == 0  # the first position ends every route
    assert rows["per_step", 2]["n"] == len(episodes) + 6


def test_rules_are_tested_on_the_same_routes_and_seeds_on_others():
    task = make_task(WALK)
    steps = {split: task.test_items(split, 0, 5) for split in ("id_unseen", "rule_ood")}
    places = {split: [s.position.location for s in found] for split, found in steps.items()}
    assert places["id_unseen"] == places["rule_ood"]
    assert task.test_items("id_unseen", 1, 5)[0].route != steps["id_unseen"][0].route


def test_more_routes_than_there_are_is_an_error():
    with pytest.raises(SftrlError, match="the number of routes is 500, but it must be at most 400"):
        make_task(WALK).test_items("id_unseen", 0, 500)


def test_full_battery_of_navigation_has_other_cities():
    battery = full_battery(WALK, make_task(WALK))
    assert battery == {"id_unseen": 200, "rule_ood": 200, "id_seen": 40, "visual_ood": 40}
