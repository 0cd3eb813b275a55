"""Sentences of the results page and the notebooks, held to the rows and episodes they speak of."""

import re
from collections import Counter
from functools import cache

import jupytext
import numpy as np
import pandas as pd
import pytest

from engine.presets import PRESETS
from sftrl_lib import stats
from sftrl_lib.cli import assignment
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.registry import ABLATIONS
from sftrl_lib.results import load_results
from sftrl_lib.runner import start_policy
from sftrl_lib.runs import RUNS, Run, experiment_of, find_run, is_done, read_manifest
from sftrl_lib.tasks import make_task
from study import (
    book,
    claims,
    costs,
    figures,
    followups,
    hero,
    lessons,
    notebook,
    one_knob,
    playground,
    plots,
    reasons,
    registration,
    speeds,
    touch,
    verdicts,
)
from study.notebook import recorded_episodes
from worlds.routes import COMPASS

FACES = ("J", "Q", "K")
PAGES = [f"notebooks/{path.name}" for path in book.NOTEBOOKS]
ARMS = ("init", "sft", "rl")


@cache
def results() -> pd.DataFrame:
    return load_results(yours=None)


@pytest.fixture(scope="module", autouse=True)
def rows_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "load_results", results)
        yield


@cache
def text(name: str) -> str:
    """A page's words; of a notebook those of its markdown."""
    path = ROOT / name
    if path.suffix == ".py":
        cells = jupytext.read(path).cells
        return " ".join(" ".join(c.source.split()) for c in cells if c.cell_type == "markdown")
    return " ".join(path.read_text().split())


def run_cell(name: str, word: str, **names) -> dict:
    """The names that one code cell of a notebook, the one with this word in it, leaves behind."""
    cells = [c.source for c in jupytext.read(ROOT / "notebooks" / name).cells]
    (cell,) = (source for source in cells if word in source)
    exec(cell, names := {"preset": "tiny", "seed": 0, "plots": plots} | names)
    return names


@cache
def grid(task: str) -> pd.DataFrame:
    return stats.main_grid(results().query("task == @task and preset == 'tiny'"))


@cache
def ends(task: str, method: str, split: str, metric: str, tries: int = 1) -> pd.Series:
    return stats.last(grid(task), method, split, metric, tries).value


def change(task: str, method: str, split: str, metric: str, tries: int = 1) -> stats.Change:
    init, arm = (ends(task, m, split, metric, tries) for m in ("init", method))
    return stats.paired_change(dict(init), dict(arm))


def points(change: stats.Change) -> str:
    mean, lo, hi = (100 * x for x in change[:3])
    return f"{mean:+.1f} [{lo:+.1f}, {hi:+.1f}]"


def percent(task: str, method: str, split: str, metric: str) -> str:
    return f"{100 * ends(task, method, split, metric).mean():.0f}%"


@cache
def kept(task: str, method: str) -> list[tuple]:
    """(deal, episode) of every episode kept under the new rule at an arm's end."""
    game = make_task(Experiment(task=task))
    return [
        (game.item("rule_ood", seed, index), episode)
        for seed in range(5)
        for index, episode in recorded_episodes(method, "rule_ood", "tiny", seed, task).items()
    ]


@cache
def cards() -> pd.DataFrame:
    """The registered runs of cards as text."""
    return registration.confirmed(results(), "gp-l")


def card_end(method: str, split: str, metric: str = "success", tries: int = 1) -> float:
    """Mean over the registered seeds of cards at an arm's end, in percent; success within three."""
    tries = 3 if metric == "success" else tries
    return 100 * stats.last(cards(), method, split, metric, tries).value.mean()


def face_cards(task: str, deal, episode) -> list[tuple]:
    """(card, claimed value, true value) of the face cards of a first answer."""
    read = make_task(Experiment(task=task)).read_values(deal, episode["turns"][0])
    return [card for card in read if card[0] in FACES]


def wrong_numbers(method: str) -> Counter:
    """Of the kept first answers in text: how many have wrong numbers, and of which kind."""
    found = Counter()
    for deal, episode in kept("gp-l", method):
        found["answers"] += 1
        if episode["verdicts"][0]["reason"] == "wrong_numbers":
            formula = episode["turns"][0].rpartition("formula")[2]
            used, due = Counter(map(int, re.findall("[0-9]+", formula))), Counter(deal.numbers)
            read = all(said == true for _, said, true in face_cards("gp-l", deal, episode))
            left_out = any(value > 10 for value in due - used)
            found.update(["wrong"] + ["left out"] * left_out + ["ten"] * ((used - due)[10] > 0))
            found["read and left out"] += read and left_out
    return found


def test_sft_reads_most_face_cards_and_leaves_their_values_out():
    sft, init = wrong_numbers("sft"), wrong_numbers("init")
    read = (percent("gp-l", m, "rule_ood", "value_reading") for m in ("sft", "init"))
    said = "SFT still reads {} of the face cards as the new rule says, the init {}."
    assert said.format(*read) in text("book/first_edition.md")
    assert (
        f"of {sft['answers']} kept first answers under the new rule, {sft['wrong']} have wrong "
        f"numbers (the init: {init['wrong']}). In {sft['left out']} of these the formula leaves "
        f"out the value of a face card, in {sft['read and left out']} after the answer had read "
        f"every face card rightly. The old rule is seldom what replaces it: only {sft['ten']} of "
        f"the {sft['wrong']} formulas hold a 10 too many."
    ) in text("book/first_edition.md")


def test_which_pictured_face_cards_sft_calls_a_ten():
    tens = {}
    for method in ARMS[:2]:
        kept_ones = kept("gp-vl", method)
        claimed = [said for d, e in kept_ones for _, said, _ in face_cards("gp-vl", d, e)]
        tens[method] = claimed.count(10)
    share = {m: f"{100 * n / len(claimed):.0f}%" for m, n in tens.items()}
    words = f"it calls {share['sft']} of the face cards a 10, the init {share['init']}."
    assert words in text("notebooks/03b_walks_and_pictures.py")
    words = f"calls {share['sft']} of the face cards a 10 ({tens['sft']} of {len(claimed)} in"
    assert words in text("book/first_edition.md")


def test_tables_of_claims_show_what_notebook_02_says_of_them():
    said = text("notebooks/02_sft.py")
    cell = run_cell("02_sft.py", "def claims", cards=cards())
    claims, read = cell["claims"], cell["read"]
    shares = claims("sft", read["rule_ood"])
    assert "many a queen is called a ten" in said and shares.loc[12, "10"] > 0.25
    assert "most face cards are still read as the question says" in said
    assert all(shares.loc[right].idxmax() == str(right) for right in (11, 12, 13))
    assert "some are called by a neighbour, an eleven by twelve" in said
    assert shares.loc[11, "12"] > 0.05
    assert "No training has ever stated this rule, and SFT reads it." in said
    assert claims("sft", read["rule_five"]).loc[5, "5"] > 0.97
    pictures = hero.readings(results(), "gp-vl", "rule_ood")
    assert "With cards as *pictures* the same training does recite" in said
    shares = claims("sft", pictures)
    assert all(shares.loc[right].idxmax() == "10" for right in (11, 12, 13))


def test_the_hand_of_notebook_00_shows_what_is_said_of_it():
    said = text("notebooks/00_start_here.py")
    cell = run_cell("00_start_here.py", "telling =", cards=cards())
    shown = {m: cell["played"][m][cell["index"]] for m in ARMS}
    run = notebook.recorded_run("rl", "tiny", cell["first"], "gp-l", cards())
    game = make_task(experiment_of(run.manifest["config"]))
    deal = game.item("rule_ood", cell["first"], cell["index"])
    assert cell["telling"]  # chosen by the rule, not for want of such a deal
    assert "All three first answers read the queen as 12" in said
    read = [face_cards("gp-l", deal, e) for e in shown.values()]
    assert read == [[("Q", 12, 12)]] * 3
    formulas = {m: [t.rpartition("formula")[2] for t in e["turns"]] for m, e in shown.items()}
    assert "SFT's formulas leave the 12 out, all of them, and use a card twice" in said
    assert len(formulas["sft"]) == 3 and not any("12" in formula for formula in formulas["sft"])
    assert "RL's use every number, and miss the target all the same" in said
    assert {v["reason"] for v in shown["rl"]["verdicts"]} == {"wrong_value"}
    assert "there is a tail of brackets" in said
    assert all(turn.endswith('"}"}"}') for turn in shown["rl"]["turns"])
    assert "Its lists name cards that do not lie on the table" in said
    lists = [
        re.findall('"([^"]+)"', turn.partition("number")[0])[1:5] for turn in shown["rl"]["turns"]
    ]
    assert any(set(named) - {*deal.cards} for named in lists) or any(
        Counter(named) - Counter(deal.cards) for named in lists
    )


def test_the_hand_with_which_the_playground_opens_shows_what_is_said_of_it():
    said = "SFT reads the king, and calls the queen a ten."
    assert said in text("notebooks/00_start_here.py")
    hand = touch.deal_of(touch.FIRST, playground.RULE)
    answers = playground.answers(playground.load(), make_task(Experiment()), hand)
    (sft,) = [a for a in answers if a.method == "sft"]
    likely = {c.of: max(c.chances, key=lambda word: c.chances[word]) for c in sft.claims}
    assert likely == {"K": "13", "Q": "10"}


def test_what_notebook_00_says_of_its_walks():
    said = text("notebooks/00_start_here.py")
    walked = plots.Data(registration.confirmed(results(), "virl-l"), None, "virl-l")
    steps = {s: {m: e.value.mean() for m, e in walked.ends(s, "per_step").items()} for s in (
        "id_unseen", "rule_ood"
    )}  # fmt: skip
    turns = hero.turns(walked)
    new, old, lost = hero.TURNS
    assert "SFT is now right nearly always" in said and steps["id_unseen"]["sft"] > 0.9
    assert "SFT falls from the top of the chart to the bottom" in said
    assert max(steps["id_unseen"], key=steps["id_unseen"].get) == "sft"
    assert min(steps["rule_ood"], key=steps["rule_ood"].get) == "sft"
    assert "at more than half of the corners it still finds the right turn" in said
    assert turns.loc["sft", new] + turns.loc["sft", old] > 50 and turns.loc["sft", new] < 10
    assert "RL does use the new words. But it finds fewer turns than the init did" in said
    assert turns.loc["rl", old] < 2 and turns.loc["rl", lost] > turns.loc["init", lost]
    assert "here RL loses too, if far less" in said
    falls = {m: steps["rule_ood"]["init"] - steps["rule_ood"][m] for m in ("rl", "sft")}
    assert 0 < falls["rl"] < falls["sft"] / 2


def within(method: str, split: str) -> float:
    """Success within three tries on the first edition's cards as text, in percent."""
    return 100 * ends("gp-l", method, split, "success", 3).mean()


def test_what_notebook_00_says_of_its_first_picture():
    said = text("notebooks/00_start_here.py")
    assert "it knows nearly all of its hands by heart" in said and card_end("sft", "id_seen") > 85
    assert "it is *behind* the model that it started from" in said
    assert card_end("sft", "id_unseen") < card_end("init", "id_unseen") - 2
    assert "under the new rule it solves next to nothing" in said
    assert card_end("sft", "rule_ood") < 3
    assert "RL gains less at the left end, and loses less in the middle." in said
    gain = {m: card_end(m, "id_seen") - card_end("init", "id_seen") for m in ("rl", "sft")}
    assert 3 < gain["rl"] < gain["sft"] / 3
    assert card_end("sft", "id_unseen") + 3 < card_end("rl", "id_unseen")
    assert "At the right end it has fallen, too. Ahead of both stands the init" in said
    assert max(card_end("sft", "rule_ood"), card_end("rl", "rule_ood")) + 1 < card_end(
        "init", "rule_ood"
    )
    five, high = (hero.shares(hero.readings(cards(), "gp-l", s)).loc["sft"] for s in hero.RULES)
    right, ten, _ = hero.READINGS
    assert "SFT reads it as five" in said and five[right] > 97
    assert "come out wrong, and then the model often says ten" in said
    assert high[right] < 80 and high[ten] > (100 - high[right]) / 3


def test_what_notebook_02_says_of_copied_and_of_new_hands():
    said = text("notebooks/02_sft.py")
    own = registration.sections()["gp-l"][0].method
    assert own.name == "sft"
    assert "copies more than a hundred thousand answers" in said and own.steps * own.batch > 100_000
    assert "It solves nearly all of those that it has seen, and fewer new ones" in said
    assert card_end("sft", "id_seen") > 85
    assert card_end("sft", "id_unseen") < card_end("init", "id_unseen") - 2
    assert "uses ten times their learning rate" in said and 1e-3 == pytest.approx(10 * own.lr)
    minutes = [
        read_manifest(RUNS / exp.run_id)["wall_s"] / 60
        for exp in registration.sections()["gp-l"]
        if exp.method.name == "sft"
    ]
    assert "what takes them a quarter of an hour" in said and 10 < np.median(minutes) < 20
    for split, far in (("rule_ood", 30), ("rule_five", 0)):
        gap = card_end("init", split, "numbers_right") - card_end("sft", split, "numbers_right")
        assert far <= gap < far + 20


def test_what_notebook_03_says_of_the_recorded_arms():
    said = text("notebooks/03_rl.py")
    assert "SFT sinks, and RL, up and down, stays above it" in said
    assert card_end("sft", "id_unseen") < card_end("init", "id_unseen") - 2
    assert card_end("rl", "id_unseen") > card_end("sft", "id_unseen") + 2
    assert "on new ones it is no better than its start, and under the new rule it is worse" in said
    assert card_end("rl", "id_unseen") < card_end("init", "id_unseen") + 1
    assert card_end("rl", "rule_ood") < card_end("init", "rule_ood") - 1
    assert "what it gains it gains on the hands that it has played" in said
    assert card_end("rl", "id_seen") > card_end("init", "id_seen") + 5
    rl, sft = (
        next(e.method for e in registration.sections()["gp-l"] if e.method.name == name)
        for name in ("rl", "sft")
    )
    assert "it makes far fewer updates than SFT" in said and 4 * rl.steps < sft.steps
    assert "At equal compute RL meets each hand far less often, too" in said
    assert 10 * rl.steps * rl.batch / rl.group < sft.steps * sft.batch
    asked = followups.at_temperatures(results(), "gp-l").groupby(["split", "method", "temperature"])
    asked = asked.y.mean()
    assert "At the temperature of its training RL *has* gained" in said
    (new, ruled) = (asked[split].unstack("method") for split in ("id_unseen", "rule_ood"))
    assert new.rl[1.0] > new.init[1.0] + 1 and ruled.rl[1.0] > ruled.init[1.0] + 1
    assert "The init is at its best when it is cold" in said
    assert new.init[1.0] < new.init.max() and ruled.init[1.0] < ruled.init.max()
    assert "on new hands next to nothing of RL's gain is left" in said
    assert abs(new.rl.max() - new.init.max()) < 1.5
    assert "under the new rule the init is ahead" in said
    assert ruled.init.max() > ruled.rl.max() + 0.5


def test_what_the_results_say_of_cards():
    page = text("book/results.md")
    assert "SFT learns its hands by heart, nearly all of them" in page
    assert card_end("sft", "id_seen") > 85
    assert (
        "below the init it came from, under the rule of its training as under the new one" in page
    )
    for split in ("id_unseen", "rule_ood"):
        assert card_end("sft", split) < card_end("init", split) - 2
    assert "In the first edition, a third as long, new hands still held their ground." in page
    assert abs(within("sft", "id_unseen") - within("init", "id_unseen")) < 2
    assert "under the new rule it ends below its start as well" in page
    assert card_end("rl", "rule_ood") < card_end("init", "rule_ood") - 1
    assert "at temperature 1, it is ahead of the init on both" in page
    asked = followups.at_temperatures(results(), "gp-l").groupby(["split", "method", "temperature"])
    asked = asked.y.mean()
    for split in ("id_unseen", "rule_ood"):
        assert asked[split, "rl", 1.0] > asked[split, "init", 1.0] + 1
    assert "SFT's fall does not depend on the temperature." in page
    for at in followups.TEMPERATURES:
        assert asked["rule_ood", "sft", at] < asked["rule_ood", "init", at] - 1
    assert "reads far fewer face cards as the question says" in page
    for metric in ("value_reading", "numbers_right"):
        assert card_end("sft", "rule_ood", metric) < card_end("init", "rule_ood", metric) - 15
    assert "it goes on reading" in page
    assert card_end("sft", "rule_five", "value_reading") > 97
    rows = {row["id"]: row for row in verdicts.registered(results()) if row["section"] == "gp-l"}
    assert "Fives are read as before." in page and rows["words.five"]["verdict"] == "equivalent"
    known, unknown = (-100 * rows[name]["change"] for name in ("words.known", "gp-l.mechanism"))
    assert "a few cards in a hundred are lost" in page and 1 < known < 5
    assert "under 11, 12, 13 many times as many" in page and unknown > 4 * known
    assert "loses some reading under any new rule" in page
    for split in ("rule_five", "rule_known", "rule_ood"):
        reading = (card_end(m, split, "value_reading") for m in ("rl", "init"))
        assert 1 < -np.subtract(*reading) < 10
    told = [rows[name] for name in ("gp-l.rule", "words.five.success", "words.known.success")]
    assert "under none of these rules do we see the arms differ in hands that are solved" in page
    assert {row["verdict"] for row in told} == {"inconclusive"}
    fall = rows["gp-l.rule.rl"]
    assert "the registered test, over seeds, tells it from nothing" in page
    assert fall["verdict"] == "contradicted" and fall["lo"] < 0 < fall["hi"]


@cache
def first_foundation() -> dict[tuple[str, int], dict[int, float]]:
    """Success under the new rule by method, training tries and seed, on the earlier model."""
    rows = pd.read_csv(ROOT / "data" / "first_foundation.csv")
    assert set(rows.seed) == set(range(5)) and set(rows.foundation) == {"constant-900"}
    ends = rows.groupby(["method", "train_tries"])
    return {key: dict(arm.set_index("seed").value) for key, arm in ends}


def test_the_seeds_had_been_run_on_an_earlier_foundation_model():
    ends = first_foundation()
    rl, sft = (stats.paired_change(ends["init", 1], ends[a]) for a in (("rl", 3), ("sft", 1)))
    said = f"(under the new rule RL {points(rl)}, SFT {points(sft)}; `data/first_foundation.csv`)"
    assert said in text("book/first_edition.md")
    for page in ("README.md", "book/first_edition.md", "data/README.md", *PAGES):
        assert "seeds were run once" not in text(page), page


def test_more_tries_did_not_help_the_earlier_foundation_model():
    ends = first_foundation()
    behind = stats.paired_change(ends["rl", 1], ends["rl", 10])
    mean, lo, hi = (100 * x for x in behind[:3])
    said = f"ended {-mean:.1f} points [{lo:.1f}, {hi:.1f}] behind one."
    assert f"more tries did not help: ten {said}" in text("book/first_edition.md")
    assert "On one start more tries help, on the other they hurt" in text(
        "notebooks/06_ablations.py"
    )
    assert "The earlier model solved more hands before RL began" in text(
        "notebooks/06_ablations.py"
    )
    start = sum(ends["init", 1].values()) / 5
    assert behind.hi < 0 < tries_gain()[10].mean - tries_gain()[1].mean
    assert 100 * start > within("init", "rule_ood")


def test_how_many_runs_were_made_on_uncommitted_changes():
    ours = results().query("preset == 'tiny'")
    arms = stats.main_grid(ours)
    arms = set(arms[arms.method.isin(["rl", "sft"])].run_id)
    first = [p for p in RUNS.iterdir() if read_manifest(p)["config"]["foundation"] == "default"]
    inits = {path.name for path in first if "-init-tiny-" in path.name}
    tries = set(ABLATIONS["tries"].rows(ours).run_id) - arms
    dirty = {path.name for path in RUNS.iterdir() if read_manifest(path)["git"].endswith("-dirty")}
    assert (len(arms), len(arms & dirty)) == (40, 10)
    assert inits <= dirty and tries <= dirty and (len(inits), len(tries)) == (4, 13)
    assert dirty <= arms | inits | tries
    assert (
        "Of the 40 runs of the two arms, ten record a git revision with uncommitted changes; so do "
        "all four inits and the 13 runs with other numbers of tries."
    ) in text("book/first_edition.md")


def test_temperature_is_ours_and_not_the_papers():
    configs = [read_manifest(path)["config"] for path in RUNS.iterdir()]
    first = [config for config in configs if config["foundation"] == "default"]
    assert {config["eval_temperature"] for config in first} == {1.0}
    assert {config.get("temperature", 1.0) for config in configs} == {1.0}
    assert "at temperature 1 in training, and in the first edition's tests" in text(
        "book/limits.md"
    )
    assert "those of the second at 0.2, as the authors' rollouts are" in text("data/README.md")


def test_first_answers_of_sft_gain_a_little_on_unseen_hands():
    gain = change("gp-l", "sft", "id_unseen", "success")
    said = f"first answers alone gain {100 * gain.mean:.1f} points {points(gain).split(' ', 1)[1]}"
    assert said in text("book/first_edition.md")


def test_how_often_sft_finds_a_turn_and_names_it_in_the_old_words():
    found, said = (ends("virl-l", "sft", "rule_ood", m) for m in ("turn_found", "turn_accuracy"))
    share = f"{100 * (1 - said.mean() / found.mean()):.0f}% of the turns that it finds"
    assert f"under the new actions it names {share}" in text("book/first_edition.md")


def test_both_arms_keep_nearly_all_of_their_gain_in_new_cities():
    assert "In new cities both arms keep nearly all of their gain." in text("book/first_edition.md")
    for arm in ("rl", "sft"):
        home, away = (
            change("virl-l", arm, s, "per_step", 2).mean for s in ("id_unseen", "visual_ood")
        )
        assert 0.85 < away / home < 1


def test_all_of_rls_gain_on_pictures_lies_behind_the_first_answer():
    assert "all of RL's gain lies in what it answers after a verdict" in text(
        "book/first_edition.md"
    )
    for split in ("id_seen", "id_unseen", "rule_ood", "visual_ood"):
        assert change("gp-vl", "rl", split, "success", 3).lo > 0
        assert change("gp-vl", "rl", split, "success").mean < 0.001


def test_rl_rises_in_all_six_tests_and_sft_falls_by_a_point_in_three():
    tests = [
        ("gp-l", "rule_ood", "success", 3), ("gp-vl", "rule_ood", "success", 3),
        ("gp-vl", "visual_ood", "success", 3), ("virl-l", "rule_ood", "per_step", 2),
        ("virl-vl", "rule_ood", "per_step", 2), ("virl-vl", "visual_ood", "success", 2),
    ]  # fmt: skip
    rl, sft = ([change(t, arm, *which).mean for t, *which in tests] for arm in ("rl", "sft"))
    assert min(rl) > 0 and sum(x < -0.01 for x in sft) == 3 and max(sft) == sft[-1]
    words = "RL rises in all six tests; SFT falls by more than a point in three, and in other"
    assert words in text("book/first_edition.md")


def test_most_probable_answers_on_street_views_gain_little():
    gain = f"{100 * change('virl-vl', 'rl', 'id_unseen', 'per_step_greedy').mean:.1f} points."
    assert f"its most probable answers gain only {gain}" in text("book/first_edition.md")


def test_first_answers_are_equally_right_whatever_the_tries_in_training():
    rows = ABLATIONS["tries"].rows(results().query("preset == 'tiny'"))
    rows = rows.query("split == 'rule_ood' and metric == 'success' and tries == 1")
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    shares = rows.groupby("train_tries").value.mean()
    assert set(shares.round(2)) == {0.05} and len(shares) == 4
    assert "Of *first* answers all make as many right, 5 in 100" in text("book/first_edition.md")
    assert "Read down the first column: it hardly moves" in text("notebooks/06_ablations.py")


def attempts(task: str, metric: str, split: str, tries: int) -> pd.Series:
    """Means of the attempts on the development seeds, by foundation, method and rate; those of
    another reward left out."""
    rows = pd.read_csv(ROOT / "data" / "tuning.csv")
    rows = rows[~rows.condition.str.contains("scheme")]
    rows = rows.query("task == @task and metric == @metric and split == @split and tries == @tries")
    return rows.groupby(["foundation", "method", "lr"]).value.mean()


def test_rates_at_the_edge_of_what_was_tried():
    assert "on both walks the chosen ones are the lowest of RL's and the highest of SFT's" in text(
        "book/first_edition.md"
    )
    for task, foundation in (("virl-l", "h48-500"), ("virl-vl", "default")):
        tried = attempts(task, "per_step", "id_unseen", 2)[foundation]
        rl, sft = (Experiment(task=task, method=m).method.lr for m in ("rl", "sft"))
        assert rl == min(tried["rl"].index) and sft == max(tried["sft"].index)


@cache
def tries_gain() -> dict[int, stats.Change]:
    """RL's change under the new rule by tries in training, on the book's model."""
    ours = results().query("preset == 'tiny' and foundation == 'default'")
    init = ours.query("task == 'gp-l' and method == 'init' and condition == '{}'")
    return one_knob.gains_by_tries(plots.stack(ABLATIONS["tries"].rows(ours), init))


def test_more_tries_in_training_gain_as_notebook_06_says():
    said = text("notebooks/06_ablations.py")
    assert "one try in training gives the least. From three on our curve is flat" in said
    one, *more = (gain.mean for gain in tries_gain().values())
    assert one < min(more) and max(more) - min(more) < 0.015


def test_one_try_leaves_more_rows_without_an_advantage_as_notebook_06_says():
    assert "With one try fewer rows have an advantage" in text("notebooks/06_ablations.py")
    arms = ABLATIONS["tries"].rows(results().query("preset == 'tiny'"))
    shares: dict[int, list[float]] = {1: [], 3: []}
    for tries, runs in arms[arms.method == "rl"].groupby("train_tries").run_id.unique().items():
        for name in runs if tries in shares else ():
            log = Run(RUNS / name, read_manifest(RUNS / name)).metrics()
            shares[tries].append(log.trained_rows[:12].mean())
    assert max(shares[1]) < min(shares[3]) - 0.1


def test_the_price_of_tries_is_what_notebook_06_says():
    assert "Hatched bars are nearly equal, as planned. Filled bars are not." in text(
        "notebooks/06_ablations.py"
    )
    arms = ABLATIONS["tries"].rows(results().query("preset == 'tiny'"))
    planned, spent = (
        one_knob.price_of_tries(arms)[c] for c in (one_knob.NOMINAL, one_knob.EXECUTED)
    )
    assert planned.max() < 1.15 * planned.min() and spent[10] > 3 * spent[1]


def test_the_rates_of_the_second_edition_are_chosen_as_notebook_06_says():
    said = text("notebooks/06_ablations.py")
    assert "Both curves turn down at their ends, so both rings are real choices." in said
    tried = one_knob.attempts("virl-l", "two-cities", "per_step", 2)
    assert set(tried.split) == {"validation"}
    rates = {m: arm.set_index("lr").value for m, arm in tried.groupby("method")}
    for method, arm in rates.items():
        assert (
            len(arm) == 5
            and arm.idxmax() == registration.registration()["arms"]["virl-l"][method]["lr"]
        )
        assert arm.idxmax() not in (arm.index.min(), arm.index.max())
    assert "what suits SFT already harms RL, and one step further RL walks nowhere at all" in said
    best = rates["sft"].idxmax()
    assert rates["rl"][best] < rates["rl"].max() - 5 and rates["rl"].iloc[-1] == 0


def test_the_first_edition_s_rates_on_cards_are_what_notebook_06_says():
    said = text("notebooks/06_ablations.py")
    tried = one_knob.attempts("gp-l", "h48-500", "success", 3)
    init, new, old = (
        tried[(tried.method == m) & (tried.split == s)].set_index("lr").value
        for m, s in (("init", "rule_ood"), ("sft", "rule_ood"), ("sft", "id_unseen"))
    )
    assert "Under the new rule SFT goes from its start's level to nothing" in said
    assert abs(new.iloc[0] - init.iloc[0]) < 1 and new.iloc[-1] == 0
    assert "under the training's rule the lowest rate is the worst of the three" in said
    assert old.idxmin() == 1e-4
    assert "RL's ring stands at the edge of what was tried" in said
    assert Experiment(method="rl").method.lr == max(tried[tried.method == "rl"].lr)


def test_the_rate_decides_what_sft_loses():
    success = attempts("gp-l", "success", "rule_ood", 3)
    starts = [
        start
        for start in success.index.unique("foundation")
        if len(success.get((start, "sft"), ())) >= 3
    ]
    assert len(starts) == 4
    for start in starts:
        init, sft = success[start, "init"].mean(), success[start, "sft"]
        assert sft.iloc[-1] < init / 2 and sft.iloc[0] == sft.max()
        assert sft.iloc[-1] == sft.min()
    assert "SFT keeps most at the lowest and loses most at the highest" in text(
        "notebooks/06_ablations.py"
    )


def test_where_arms_move_is_as_notebook_06_says():
    words = "Whatever its tries, RL moves to the right and up; SFT moves down."
    assert words in text("notebooks/06_ablations.py")
    found = plots.explored_points(results(), "rule_ood", "success", "id_unseen", "gp-l", "tiny")
    plain = found[found.arm.str.fullmatch(r"SFT|RL( steps=\d+ tries=\d+)?")]
    moved = {}
    for arm, rows in plain.groupby("arm"):
        ends = rows.sort_values("step").groupby("seed")[["x", "y"]]
        moved[arm] = (ends.last() - ends.first()).mean()
    assert len(moved) == 5 and moved.pop("SFT").y < 0
    assert all(by.x > 0 and by.y > 0 for by in moved.values())


LATER = "notebooks/07_what_came_after.py"


def trained(page: str, kl: bool = False, **more) -> Run:
    """The live run of a notebook with its own parameters; skips where no book has trained it."""
    given = book.parameters_of(jupytext.read(ROOT / page))
    exp = Experiment(
        preset=given["preset"], precision=given["precision"], seed=given["seed"],
        steps=given["live_steps"], batch=given["live_batch"], lr=1e-3,
        eval_episodes=given["episodes"], eval_tries=1,
    ).replace(**more)  # fmt: skip
    folder = find_run(exp, notebook.live_root() / (notebook.WITH_KL if kl else ""))
    if not is_done(folder):
        pytest.skip(f"`make book` has not trained {folder.name} here")
    return Run(folder, read_manifest(folder))


def test_the_fall_of_sft_is_as_notebook_07_says():
    said, curves = text(LATER), followups.sft_curves(results())
    first, second = curves["first edition"], curves["second edition"]
    assert "it rises a little under the new rule, and has begun to fall" in said
    mean = first["rule_ood"].groupby("step").y.mean()
    assert 0 < mean.max() - mean.iloc[0] < 10 and mean.iloc[-1] < mean.max() - 5
    assert "until hardly a step is right" in said
    step, _ = followups.peak(second["rule_ood"])
    mean = second["rule_ood"].groupby("step").y.mean()
    assert step < mean.index[-1] / 2 and mean.iloc[-1] < 10
    assert "new routes under the training's rule, shows none of it" in said
    mean = second["id_unseen"].groupby("step").y.mean()
    assert mean.iloc[-1] > mean.max() - 3
    assert "carries on to three times its length" in said
    assert mean.index[-1] == 3 * first["rule_ood"].step.max()


def test_what_temperature_does_is_as_notebook_07_says():
    said, ends = text(LATER), followups.at_temperatures(results())
    at = ends[ends.split == "id_unseen"].groupby(["method", "temperature"]).y.mean()
    assert "Colder sampling alone lifts it, most of the way to RL" in said
    assert at["init", 0.0] - at["init", 1.0] > (at["rl", 1.0] - at["init", 1.0]) / 2
    assert "RL's own line is flat" in said and at["rl"].max() - at["rl"].min() < 3
    gained = followups.gains(ends)
    assert "Mostly right on walks" in said and gained[0.0] < gained[1.0] / 2


def test_what_rates_trade_is_as_notebook_07_says():
    said, tried = text(LATER), {}
    for task, which in followups.STARTS.items():
        rows = one_knob.attempts(task, *which)
        for method in ("init", "sft"):
            arm = rows[rows.method == method].pivot(index="lr", columns="split", values="value")
            tried[task, method] = arm
    walks, cards = tried["virl-l", "sft"], tried["gp-l", "sft"]
    assert "On walks SFT's lowest rate stands highest and gives up little" in said
    assert walks.rule_ood.idxmax() == walks.index.min()
    assert walks.id_unseen.max() - walks.id_unseen.iloc[0] < 5
    assert "no rate of SFT brings it to the right of its start" in said
    assert cards.id_unseen.max() < tried["gp-l", "init"].id_unseen.iloc[0]
    assert cards.rule_ood.idxmax() == cards.index.min()
    counts = [one_knob.attempts(task, *which).n for task, which in followups.STARTS.items()]
    assert "Each point is one run to three" in said
    assert {n for tried in counts for n in tried} == {1, 2, 3}
    tried = one_knob.attempts("virl-l", "two-cities", "per_step", 2)
    assert "tried five rates for each arm, but looked at validation routes alone" in said
    assert set(tried.split) == {"validation"}
    assert {m: len(tried[tried.method == m]) for m in ("rl", "sft")} == {"rl": 5, "sft": 5}


def test_both_live_replies_fall_as_notebook_07_says():
    assert "Both fall from the same start." in text(LATER)
    for method in ("sft", "dft"):
        rows = trained(LATER, method=method, eval_points=2).evals()
        kept = rows.query("split == 'rule_ood' and metric == 'numbers_right'").value
        assert kept.iloc[-1] < ends("gp-l", "init", "rule_ood", "numbers_right").mean() - 0.05


def test_how_answers_on_cards_change_is_as_notebook_07_says():
    said = text(LATER)
    assert "each number once, a formula that counts" in said
    for metric in ("numbers_right", "legal"):
        assert change("gp-l", "rl", "rule_ood", metric).mean > 0
    assert "towards formulas in which no number exceeds ten" in said
    without = {}
    for method in ("init", "sft"):
        texts = [episode["turns"][0] for _, episode in kept("gp-l", method)]
        used = [re.findall("[0-9]+", t.rpartition("formula")[2].partition("=")[0]) for t in texts]
        without[method] = sum(max(map(int, numbers), default=0) <= 10 for numbers in used)
    assert without["sft"] > without["init"] + 10


def test_what_notebook_07_lists_is_heard_where_it_says():
    rows = re.findall(r"\| (\d{4}\.\d{5}) \| [^|]* \| ([^|]*) \|", text(LATER))
    heard = [where for _, where in rows]
    assert "Four can be heard tonight" in text(LATER) and "one you can run" in text(LATER)
    own = {"first trial", "second trial", "third trial", "the surprise"}
    assert own < set(heard) and heard.count("live") == 1
    assert "Five replies were heard" in text(LATER)
    assert {arxiv for arxiv, where in rows if where == "not run"} <= set(
        followups.not_run()["from"]
    )


def test_how_far_arms_move_is_as_notebook_07_says():
    said, found = text(LATER), followups.distances(results())
    ends = {
        (panel, method): arm[arm.step == arm.step.max()][["x", "y"]].mean()
        for panel, rows in found.items()
        for method, arm in rows.groupby("method")
    }
    assert "On first-edition walks, street views and cards in pictures" in said
    for panel in ("walks", "street views", "cards in pictures"):
        assert ends[panel, "rl"].x < ends[panel, "sft"].x / 2
    assert "RL goes *further* than SFT, and rises under the new rule, while SFT" in said
    assert ends["cards", "rl"].x > 1.2 * ends["cards", "sft"].x
    assert ends["cards", "rl"].y > 0 > ends["cards", "sft"].y
    assert "At any distance that both have reached, RL is far above" in said
    paths = {
        m: arm.groupby("step")[["x", "y"]].mean() for m, arm in found["cards"].groupby("method")
    }
    curves = {m: stats.Curve.of(p.x, p.y, [1.0] * len(p)) for m, p in paths.items()}
    for level in (1, 2, 3, 4, 5):
        assert curves["rl"].at(level) > curves["sft"].at(level) + 2
    assert "RL ends about as far from the init as SFT stands at its first checkpoint" in said
    again = found[followups.WALKS].groupby(["method", "step"])[["x", "y"]].mean()
    rl, first, last = again.loc["rl"].iloc[-1], *again.loc["sft"].iloc[[1, -1]].itertuples()
    assert abs(rl.x - first.x) < 1 and last.x > 2 * rl.x
    assert "There SFT has kept the new words and RL has lost some" in said
    assert first.y > -1 and -40 < rl.y < -10
    assert "SFT loses nearly all of them further out, where RL never went" in said
    assert last.y < -70


def test_what_notebook_07_lists_as_not_run_can_be_run_and_was_not(tmp_path):
    table = followups.not_run()
    for row in table.itertuples():
        assert row.command.startswith("python -m sftrl_lib ")
    recorded = {path.name for path in RUNS.iterdir()}
    for _, _, exp in followups.candidates():
        method, *typed = followups.command(exp).split()[3:]
        pairs = zip(typed[::2], typed[1::2], strict=True)
        given = dict(assignment(f"{name[2:]}={value}") for name, value in pairs)
        assert Experiment(method=method, **given).run_id == exp.run_id
        listed = followups.command(exp) in set(table.command)
        assert listed == (exp.run_id not in recorded)


SCALING = "notebooks/08_scaling_up.py"


def test_what_notebook_08_says_of_the_small_language_model():
    said, own = text(SCALING), PRESETS["smol"].methods["init"]
    assert "less than two hundred worked answers" in said
    assert 100 < own["steps"] * own["batch"] < 200
    rows = results().query("preset == 'smol' and method == 'base' and metric == 'legal'")
    assert "As delivered it writes nothing that can be read" in said and not rows.value.any()


def test_what_notebook_08_says_of_memory_is_what_is_planned():
    said = text(SCALING)
    assert "The weights are the smaller part of the longest bar." in said
    plans = {name: costs.least(name)["rl"] for name in costs.SETUPS}
    longest = max(plans.values(), key=lambda made: made.peak)
    assert longest is plans["11B, pictures, all weights"]
    assert longest.phases["stays"]["weights"] < longest.peak / 2


def test_the_table_of_cards_has_every_tier_for_gpus_and_no_gpu_among_what_was_run():
    named = {preset for preset, *_ in costs.SETUPS.values()}
    assert named == {name for name, preset in PRESETS.items() if preset.gpu}
    assert "The third column never says GPU." in text(SCALING)
    assert all("GPU" not in where for *_, where in costs.SETUPS.values())
    table = costs.cards()
    need = table["GB at least"].astype(float)
    assert list(need) == sorted(need)
    assert table["smallest card"].iloc[-1] == "none of these"
    for name, card in table["smallest card"].iloc[:-1].items():
        room = int(card.removesuffix(" GB"))
        assert need[name] <= room + 0.5
        smaller = [size for size in costs.CARDS if size < room]
        assert not smaller or need[name] > max(smaller) - 0.5


def test_what_notebook_08_says_of_evenings_is_what_is_forecast():
    assert (
        "on the smallest card that holds it, one seed of the 11B model in four bits takes days, "
        "and of the first two an evening. So says the forecast on the page *Tiers*"
    ) in text(SCALING)
    rows = {row["what"]: row["hours"] for row in speeds.record("forecast")["by_card"]}
    table = costs.cards()
    for name in table.index[:4]:
        low, high = rows[name][table["smallest card"][name].removesuffix(" GB")]
        assert low > 48 if "11B" in name else high < 8
    assert all("4 bits" in name for name in table.index[2:4])


def test_what_notebook_08_says_of_sizes():
    table = costs.adapters()
    assert "a model of eleven billion" in text(SCALING)
    assert round(int(table.parameters["llama-11b"].replace(",", "")) / 1e9) == 11
    assert "The larger the model, the smaller the share that is trained" in text(SCALING)
    by_size = table.assign(size=table.parameters.str.replace(",", "").astype(int))
    shares = by_size.sort_values("size").share.str.rstrip("%").astype(float)
    assert shares.is_monotonic_decreasing and len(shares) == 4


def test_an_adapter_moves_and_forgets_less_as_notebook_08_says():
    said, own = text(SCALING), dict(kl=True, method="sft", eval_points=1)
    whole, adapter = trained(SCALING, **own), trained(SCALING, **own | {"precision": "qlora"})
    losses = [run.metrics().loss.iloc[-10:].mean() for run in (whole, adapter)]
    assert "By the loss at the end you could not tell the two apart" in said
    assert losses[1] == pytest.approx(losses[0], rel=0.15)
    far, kept = (
        [
            run.evals().query(f"step == step.max() and {which}").value.iloc[0]
            for run in (whole, adapter)
        ]
        for which in ("metric == 'kl_to_init'", "split == 'rule_ood' and metric == 'numbers_right'")
    )
    assert "The adapter has moved a fraction as far, and forgets much less." in said
    start = ends("gp-l", "init", "rule_ood", "numbers_right").mean()
    assert far[1] < far[0] / 2 and start - kept[1] < (start - kept[0]) / 2


# --- Notebook 04 ----------------------------------------------------------------------------------
def test_what_notebook_04_says_of_the_papers_eight_hands():
    said = text("notebooks/04_ood_evaluation.py")
    paper = results().query("source == 'paper' and task == 'gp-l' and split == 'rule_ood'")
    paper = paper[paper.condition == "{}"].set_index("method")
    assert (paper.loc["init"].successes, paper.loc["rl"].successes) == (27, 35)
    assert set(paper.n) == {234} and "an exam of 234 hands" in said
    assert "Before RL it solves 27. After RL it solves 35." in said
    assert "The two intervals share most of their length." in said
    (_, lo, hi), (_, low, high) = (stats.wilson(s, 234) for s in (27, 35))
    assert hi - low > (high - lo) / 2 - 0.02 and hi - low > (hi - lo) / 2
    assert "solves about one in eight" in (ROOT / "notebooks/04_ood_evaluation.py").read_text()
    assert (27 + 35) / 2 / 234 == pytest.approx(1 / 8, abs=0.01)


def test_what_notebook_04_says_of_seeds_and_of_matched_levels():
    said = text("notebooks/04_ood_evaluation.py")
    assert "Every line of SFT falls and every line of RL rises." in said
    init, sft, rl = (ends("gp-l", m, "rule_ood", "success", 3) for m in ARMS)
    assert (sft < init).all() and (rl > init).all()
    assert "With five seeds no result in the world passes this test." in said
    assert verdicts.sign_flip([1.0] * 5) == 2 / 32 > verdicts.ALPHA and len(init) == 5
    assert "That is why the second edition registered ten." in said
    families = registration.registration()["families"].values()  # one was added later
    assert {f["seeds"]["virl-l"] for f in families if "added" not in f} == {10}
    assert "RL is ahead in every seed, at either." in said
    for x in (("id_unseen", "success", 3), ("id_unseen", "kl_to_init", 1)):
        both = stats.matched(grid("gp-l"), x, ("rule_ood", "success", 3))
        assert (both.rl > both.sft).all() and len(both) == 5


def asked_at(method: str, split: str, temperature: float | None) -> float:
    """Per-step accuracy of a registered arm of walks at its end, over the seeds that have ended."""
    ended = set(registration.confirmed(results(), "virl-l").seed)
    found = verdicts.ends(results(), "virl-l", method, split, "per_step", 2, temperature)
    return sum(found[seed] for seed in ended) / len(ended)


def test_what_notebook_04_says_of_temperatures():
    said, at = text("notebooks/04_ood_evaluation.py"), (0.0, None, 1.0)
    assert "From left to right the init falls off, and RL does not." in said
    assert "most of that is gone: the init knew it already" in said
    here = {m: [asked_at(m, "id_unseen", t) for t in at] for m in ("init", "rl")}
    assert here["init"][0] - here["init"][2] > 0.05 > here["rl"][0] - here["rl"][2]
    warm = here["rl"][2] - here["init"][2]
    assert 0 < max(here["rl"]) - max(here["init"]) < warm / 2
    assert "there RL lies below the init at every temperature" in said
    assert all(asked_at("rl", "rule_ood", t) < asked_at("init", "rule_ood", t) for t in at)
    assert "nearly all of RL's gain is there greedily, too" in said
    gain, greedy = (
        change("gp-l", "rl", "id_unseen", m).mean for m in ("success", "success_greedy")
    )
    assert greedy > 0.8 * gain > 0


def test_what_notebook_04_says_of_lists_of_claims():
    said = text("notebooks/04_ood_evaluation.py")
    rows = {row["id"]: row for row in claims.claims_table(results())}
    assert sum(bool(row["change"]) for row in rows.values()) == 31 and "had 31 claims" in said
    assert rows["gp-l.rule.rl"]["verdict"] == "not supported"
    cell = run_cell("04_ood_evaluation.py", "rehearsed = []", results=results(), stats=stats,
                    lessons=lessons)["rehearsed"]  # fmt: skip
    found = {row["label"]: row["verdict"] for row in cell}
    assert "the same rise is." in said and found["GP-L: new rule: RL rises"] == "supported"
    assert "All four verdicts occur." in said and len(found) == 12 and len(set(found.values())) == 4
    assert "The one in the last row is no small thing" in said and cell[-1]["lo"] > 0.1
    assert [*found][-1] == "V-IRL-VL: other cities: SFT falls"
    assert found["V-IRL-VL: other cities: SFT falls"] == "contradicted"


# --- Notebook 05 ----------------------------------------------------------------------------------
def walk_end(method: str, split: str, metric: str, tries: int = 1) -> float:
    """Mean over the registered seeds of walks that have ended, in percent."""
    rows = registration.confirmed(results(), "virl-l")
    return 100 * stats.last(rows, method, split, metric, tries).value.mean()


def test_what_notebook_05_says_of_routes_and_hands():
    said = text("notebooks/05_what_is_memorised.py")
    assert "SFT took nearly every step rightly" in said
    assert walk_end("sft", "id_unseen", "per_step", 2) > 90
    assert "Now SFT loses nearly every route at its first turn." in said
    assert walk_end("sft", "rule_ood", "per_step", 2) < 10
    assert walk_end("sft", "rule_ood", "success", 2) < 5
    assert "Counted over all positions SFT still takes most steps rightly" in said
    assert walk_end("sft", "rule_ood", "per_step_full") > 50
    assert "New routes do not trouble SFT, and other cities trouble it little." in said
    seen, *others = (
        walk_end("sft", s, "per_step", 2) for s in ("id_seen", "id_unseen", "visual_ood")
    )
    assert seen - others[0] < 5 and seen - others[1] < 20
    assert "three times as long as the first edition's" in said
    (arm, *_) = registration.sections()["virl-l"]
    assert arm.method.steps == 3 * Experiment(task="virl-l", method="sft").method.steps
    assert "As text SFT solves next to none of them, under *either* rule" in said
    assert all(
        card_end("sft", split) < 5 < card_end("init", split)
        for split in ("id_paired", "rule_paired")
    )


def test_what_notebook_05_says_of_eyes():
    said = text("notebooks/05_what_is_memorised.py")
    assert "It goes to the *right*" in said and "And it goes down." in said
    assert change("gp-vl", "sft", "rule_ood", "recognition").lo > 0
    assert change("gp-vl", "sft", "rule_ood", "success", 3).hi < 0
    assert "It sees nearly everything under the new rule and solves next to nothing." in said
    assert ends("gp-vl", "sft", "rule_ood", "recognition").mean() > 0.95
    assert ends("gp-vl", "sft", "rule_ood", "success", 3).mean() < 0.01
    assert "In the right panel, red cards that no training shows, it does not." in said
    assert change("gp-vl", "rl", "visual_ood", "recognition").mean < 0
    control = results().query("source == 'ours'")
    control = control[control.condition == '{"color": "red"}']
    red, black = (
        {m: stats.last(control, m, s, "hand_read", 1).iloc[0] for m in ARMS}
        for s in ("id_unseen", "visual_ood")
    )
    assert "most red hands have one read wrongly" in said and red["init"].value < 0.5
    assert "RL's eyes do improve" in said and red["init"].hi < red["rl"].lo
    assert "both arms lose many" in said and max(black["rl"].hi, black["sft"].hi) < 0.7
    assert black["init"].lo > 0.75 and "one seed is a hint" in said and control.seed.nunique() == 1


def test_what_notebook_05_says_of_the_rule():
    said = text("notebooks/05_what_is_memorised.py")
    assert "SFT calls most jacks, queens and kings a ten" in said
    claimed = [c for d, e in kept("gp-vl", "sft") for _, c, _ in face_cards("gp-vl", d, e)]
    assert claimed.count(10) > len(claimed) / 2
    assert "It says five." in said
    assert ends("gp-vl", "sft", "rule_five", "value_reading").mean() > 0.9
    assert "As text it reads nearly every five" in said
    assert card_end("sft", "rule_five", "value_reading") > 97
    both = {"gp-l": cards(), "gp-vl": grid("gp-vl")}
    names = run_cell("05_what_is_memorised.py", "new_rules =", cards=both, lessons=lessons,
                     looks={"gp-l": "text", "gp-vl": "pictures"}, pd=pd)  # fmt: skip
    shares = {
        (look, m): (own.said == own.true).groupby(own.true).mean()
        for look, rows in names["read"].items()
        for m, own in rows.groupby("method")
    }

    def means(look: str, method: str) -> tuple[float, float]:
        by = shares[f"cards as {look}", method]
        return by[by.index < 10].mean(), by[by.index > 10].mean()

    assert "SFT reads more than half of what its labels can say, and hardly anything" in said
    known, unknown = means("pictures", "sft")
    assert known > 0.5 and unknown < 0.2
    assert "below ten SFT reads less than the init does" in said
    assert known < means("pictures", "init")[0]
    assert "As text a part of the reading survives beyond the step" in said
    low, high = means("text", "sft")
    assert low > 0.9 and 0.5 < high < low - 0.15
    right = {
        ("gp-vl", s): change("gp-vl", "sft", s, "numbers_right").mean
        for s in ("rule_ood", "rule_five")
    } | {
        ("gp-l", s): (card_end("sft", s, "numbers_right") - card_end("init", s, "numbers_right"))
        / 100
        for s in ("rule_ood", "rule_five")
    }
    assert "under that rule SFT's formulas go wrong far more often than the init's" in said
    assert max(right["gp-l", "rule_ood"], right["gp-vl", "rule_ood"]) < -0.2
    assert "Under fives they are right nearly as often as the init's, in pictures more." in said
    assert -0.12 < right["gp-l", "rule_five"] < 0 and right["gp-vl", "rule_five"] > 0.1


def test_what_notebook_05_says_of_words():
    said = text("notebooks/05_what_is_memorised.py")
    cell = run_cell("05_what_is_memorised.py", "holds = {", results=results(), pd=pd,
                    confirmed=registration.confirmed, make_task=make_task)  # fmt: skip
    assert "More than half of all labels hold *left* or *right*." in said
    assert cell["holds"]["current instruction"] > 1_000 and cell["holds"]["action"] == 0
    own = cell["exp"].method
    assert "thousands of times" in said and own.steps * own.batch > 10_000
    assert "SFT goes on finding many of the turns, and says nearly none in the new words." in said
    assert walk_end("sft", "rule_ood", "turn_found") > 40
    assert walk_end("sft", "rule_ood", "words_right") < 15
    assert walk_end("sft", "rule_ood", "turn_accuracy") < 15 and "hardly any of them" in said
    assert "It keeps nearly all words in their places." in said
    assert walk_end("rl", "rule_ood", "words_right") > 97
    assert "says the wrong turn more often than the init it came from" in said
    assert walk_end("rl", "rule_ood", "turn_found") < walk_end("init", "rule_ood", "turn_found")
    shown = run_cell(
        "05_what_is_memorised.py", "told = next(", exp=cell["exp"], re=re, figures=figures,
        confirmed=registration.confirmed, results=results(),
    )["told"]  # fmt: skip
    word, action = re.search(r"turn (.*) to .*direction\((.*)\)", shown["turns"][0]).groups()
    assert word in ("left", "right", "slightly left", "slightly right") and action in COMPASS
    assert "It is one token, the same in both places" in said
    policy = start_policy(cell["exp"])
    pieces = (f"Turn {word} to face north.", f"turn_direction({word})")
    sentence, act = (policy.tokenizer.encode(p, add_special_tokens=False) for p in pieces)
    assert sentence[1] == act[1] and policy.decode([act[1]]) == word


def test_no_two_suspects_of_notebook_05_predict_the_same():
    page = (ROOT / "notebooks/05_what_is_memorised.py").read_text()
    rows = re.findall(r"^# \| (?:on|some) .*\|$", page, re.MULTILINE)
    columns = list(zip(*(row.strip("# |").split(" | ")[1:] for row in rows), strict=True))
    assert len(rows) == 4 and len(set(columns)) == len(columns) == 3
    assert "Four experiments, all of them registered" in text("notebooks/05_what_is_memorised.py")
    kinds = registration.registration()["sections"]["mixed-gp-l"]
    assert {"reverse-gp-l", "reverse-virl-l"} <= set(registration.sections())
    assert {"rules", "words"} <= {kind for part in kinds for kind in part["kind"]}


def along(split: str) -> dict[tuple[str, str], tuple[float, float]]:
    """{(panel, line): (start, end)} of the answers at turns, means over seeds."""
    found = {}
    for panel, (_, lines) in reasons.along(results(), split).items():
        for line, rows in lines.items():
            means = rows.groupby("step").value.mean()
            found[panel, line] = means.iloc[0], means.iloc[-1]
    return found


def test_rl_lets_its_reasons_rot_as_notebook_05_and_the_results_say():
    lesson, page = text("notebooks/05_what_is_memorised.py"), text("book/results.md")
    old, new = along("id_unseen"), along("rule_ood")
    assert "both rise as one line" in lesson and "gets both right together" in page
    for line in ("turn", "sentence"):
        assert old["SFT", line][1] > old["SFT", line][0] + 0.2
    assert old["SFT", "turn"][1] == pytest.approx(old["SFT", "sentence"][1], abs=0.05)
    assert "RL takes more turns rightly while the reasons beside them rot away" in lesson
    assert old["RL", "turn"][1] > old["RL", "turn"][0]
    assert "sentences that are hardly ever the right ones" in page
    assert old["RL", "sentence"][1] < 0.15
    assert "Under new names the turns go with the reasons" in page
    assert new["RL", "turn"][1] < new["RL", "turn"][0] - 0.15
    assert "SFT quotes the due sentence more often than ever, and writes the old word" in lesson
    assert new["SFT", "sentence"][1] > new["SFT", "sentence"][0] and new["SFT", "turn"][1] < 0.1


def test_rl_that_is_paid_for_its_reasons_keeps_its_turns_as_the_pages_say():
    lesson, page = text("notebooks/05_what_is_memorised.py"), text("book/results.md")
    paid, arm = "RL, paid for the sentence too", along("rule_ood")
    (start, end), plain = arm[paid, "turn"], arm["RL", "turn"][1]
    assert "it ends about where the init was, and far above RL that is paid for" in lesson
    assert abs(end - start) < 0.05 and end > plain + 0.15
    assert "the third panel, keeps its turns. It gains nothing on the init under new names" in page
    rows = {row["id"]: row for row in verdicts.family(results(), "quoted")}
    assert rows["quoted.rule"]["verdict"] == "supported"
    assert "All of its five seeds say so" in page and rows["quoted.rule"]["p_exact"] == 2 / 2**5
    assert rows["quoted.gain"]["verdict"] in ("inconclusive", "equivalent")


def test_reasons_are_read_by_sft_alone_as_notebook_05_and_the_results_say():
    lesson, page = text("notebooks/05_what_is_memorised.py"), text("book/results.md")
    assert "The init and RL take as many turns as before, whatever stands there." in lesson
    assert "the action stays what it was; SFT's follows it" in page
    walk = make_task(registration.registered("virl-l", "rl", 10))
    for split in ("id_unseen", "rule_ood"):
        asked = [s for s in walk.test_items(split, 10, 60) if s.position.kind == "turn"][:100]
        ways = {m: reasons.as_told(p, walk, asked) for m, p in playground.load("virl-l").items()}
        assert all(abs(own - due) < 0.05 for own, due in (ways["init"], ways["rl"]))
        assert split == "rule_ood" or ways["sft"][0] < ways["sft"][1] == 1  # every turn


def test_a_penalty_below_all_else_ruined_the_training_as_the_results_say():
    assert "the model came to step forward at most of the turns" in text("book/results.md")
    rows = pd.read_csv(ROOT / "data" / "tuning.csv")
    rows = rows[rows.run_id.str.endswith("-first")].set_index(["metric", "tries"]).value
    assert rows["words_right", 1] < 0.3 and rows["per_step", 2] < 0.6
