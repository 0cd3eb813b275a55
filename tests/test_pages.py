"""Sentences of the book's pages, held to the rows, episodes and records that they speak of."""

import functools
import json
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
from results_fixture import synthetic

from engine.memory import RUN_AGAIN
from engine.presets import PRESETS
from sftrl_lib import stats
from sftrl_lib.experiment import Experiment
from sftrl_lib.planning import smallest
from sftrl_lib.results import load_results
from sftrl_lib.runs import RUNS, Run, read_manifest
from sftrl_lib.tasks import make_task
from study import costs, figures, pages, speeds, verdicts
from study.claims import claims_table
from study.notebook import recorded_episodes
from study.registration import sections
from worlds.deals import named_cards
from worlds.rail import split_landmark
from worlds.walks import observed

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return " ".join((ROOT / name).read_text().split())


def test_why_a_claim_is_called_not_supported():
    rows = [
        r for r in claims_table(load_results(yours=None)) if r["change"] and r["tier"] == "tiny"
    ]
    first = next(r for r in rows if r["id"] == "gp-l.rule.rl")
    page = text("book/first_edition.md")
    said = f"(p = {first['change']['p']:.3f}) loses significance once all {len(rows)} claims are"
    assert f"{said} corrected for ({first['p_holm']:.3f}" in page


@pytest.mark.slow
def test_landmarks_that_are_named_are_those_of_the_kept_answers():
    task, named = make_task(Experiment(task="virl-vl")), defaultdict(list)
    sides = defaultdict(list)
    for seed, split in product(range(5), ("id_unseen", "rule_ood", "visual_ood")):
        steps = task.test_items(split, seed, 200)
        for method in ("init", "rl", "sft"):
            kept = recorded_episodes(method, split, "tiny", seed, "virl-vl")
            for index, episode in kept.items():
                seen = steps[index].position.seen, observed(episode["turns"][0])
                there, said = (split_landmark(view.partition(";")[0]) for view in seen)
                named[method, all(there)].append(all(said))
                if all(there) and all(said):
                    sides[method].append(said[2] == there[2])
    a, b, c, d = (
        f"{100 * fmean(named[key]):.0f}%" for key in product(("rl", "init"), (True, False))
    )
    page = text("book/first_edition.md")
    assert f"(in {a} of the places that have one, the init in {c};" in page
    assert f"where there is none, in {b} and {d})" in page
    x, y = (f"{100 * fmean(sides[method]):.0f}%" for method in ("sft", "init"))
    assert f"gives {x} of those that it names the right side, the init {y}." in page


def test_what_is_said_of_the_smol_tier_is_what_its_runs_measured():
    rows = load_results(yours=None).query("preset == 'smol'")
    ends = rows[rows.step == rows.groupby(["run_id", "method"]).step.transform("max")]
    ends = ends.set_index(["method", "split", "metric", "tries"])[["successes", "n"]]

    def of(split, metric, *methods, words=", {} and {}"):
        counts = [ends.loc[method, split, metric, 1] for method in methods]
        assert len({count.n for count in counts}) == 1
        first, *others = (f"{count.successes:.0f}" for count in counts)
        return f"{first} of {counts[0].n:.0f}" + words.format(*others)

    arms = "init", "sft", "rl"
    page = text("book/tiers.md")
    legal = of("id_unseen", "legal", "base", *arms, words=", then {}, after SFT {}, after RL {}")
    assert f"legal are as delivered {legal}" in page
    assert f"read as stated {of('id_unseen', 'value_reading', *arms)}" in page
    assert f"under the new rule {of('rule_ood', 'value_reading', *arms)}" in page
    assert "no hand solved" in page
    solved = [count for key, count in ends.successes.items() if key[2].startswith("success")]
    assert set(solved) == {0}
    folders = [next((ROOT / "data" / "runs").glob(f"gp-l-{arm}-smol-*")) for arm in arms]
    facts = [read_manifest(folder) for folder in folders]
    peaks = "peaks of {:.1f}, {:.1f} and {:.1f} GB".format(
        *(one["peak_memory_mb"] / 1024 for one in facts)
    )
    times = "{:.0f} minutes, then {:.0f} and {:.0f} side by side".format(
        *(one["wall_s"] / 60 for one in facts)
    )
    assert peaks in page and times in page


def test_what_a_precision_takes_is_what_the_planner_says():
    page, cards = text("book/tiers.md"), costs.cards()
    lines = (ROOT / "book/tiers.md").read_text().splitlines()
    for precision, words in (("qlora", "4 bits"), ("lora", "16 bits"), ("full", "all weights")):
        need, card = cards.loc[f"11B, pictures, {words}", ["GB at least", "smallest card"]]
        (row,) = (line for line in lines if line.startswith(f"| `{precision}` |"))
        assert row.endswith(f"| {need} | {card} |")
    assert f"Smallest card of {costs.CARDS[0]} to {costs.CARDS[-1]} GB" in page
    assert f"are for one card of {need} GB (planned)" in text("book/limits.md")
    small, seeing = (
        f"{smallest(Experiment(task=task, preset=preset, precision='full', method='rl'), 'rl'):.0f}"
        for preset, task in (("gpu-small", "gp-l"), ("gpu-vision", "gp-vl"))
    )
    assert (
        f"all weights takes {small} GB for `gpu-small`, {seeing} for `gpu-vision` (planned)" in page
    )
    assert f"above {RUN_AGAIN / 1e6:.0f} million".replace("10", "ten") in page
    lora = cards.loc["11B, pictures, 16 bits", "smallest card"]
    assert f"(precision=lora, on a card of {lora}, packs nothing)" in PRESETS["llama-11b"].why


def test_the_control_of_the_colours_is_the_recorded_one():
    control = load_results(yours=None).query('condition == \'{"color": "red"}\'')
    page = text("book/first_edition.md")
    for split, words in {
        "id_unseen": "whole red hands seen right {}, {} after RL, {} after SFT",
        "visual_ood": "{} at the init, {} after RL, {} after SFT",
    }.items():
        ends = [stats.last(control, m, split, "hand_read", 1) for m in ("init", "rl", "sft")]
        assert [len(end) for end in ends] == [1, 1, 1]
        assert words.format(*(f"{100 * end.value.iloc[0]:.1f}" for end in ends)) in page


def test_what_second_answers_see_is_that_of_the_kept_episodes():
    grid, task = stats.main_grid(load_results(yours=None)), make_task(Experiment(task="gp-vl"))
    grid = grid[(grid.task == "gp-vl") & (grid.preset == "tiny")]
    marks, again = defaultdict(list), defaultdict(list)
    for method in ("init", "sft", "rl"):
        for seed in sorted(set(grid[grid.method == method].seed)):
            kept = recorded_episodes(method, "id_unseen", "tiny", seed, "gp-vl")
            for index, episode in kept.items():
                first, second = map(named_cards, (episode["turns"] + [""])[:2])
                cards = Counter(task.item("id_unseen", seed, index).cards)
                key = method, episode["verdicts"][0]["reason"]
                if len(episode["turns"]) > 1:
                    marks[key].append((Counter(second[:4]) & cards).total() / 4)
                    again[key].append(first == second)
    i, s, r = (f"{100 * fmean(again[m, 'wrong_value']):.0f}%" for m in ("init", "sft", "rl"))
    a, b, c = (f"{100 * fmean(marks[m, 'wrong_value']):.0f}%" for m in ("init", "sft", "rl"))
    x, y, z = (f"{100 * fmean(marks[m, 'misread_cards']):.0f}%" for m in ("init", "sft", "rl"))
    page = text("book/first_edition.md")
    assert f"in {r} of its second answers, the init in {i}, SFT in {s}, and so {c} of" in page
    assert f"against {a} and {b}. Told that its cards were misread, it names {z} rightly" in page
    shown = f"the init {x}, SFT {y} (of {len(marks['sft', 'misread_cards'])} answers): no model"
    assert shown in page


def test_peaks_of_the_proof_are_the_recorded_ones():
    _, *stages = json.loads((ROOT / "data/proof/proof_11b.json").read_text())["stages"]
    a, b, c = (f"{stage['peak_gb']:.1f}" for stage in stages)
    x, y, z = (f"{stage['seconds'] / 60:.0f}" for stage in stages)
    page = text("book/tiers.md")
    assert f"peaks of {a}, {b} and {c} GB" in page and f"then {x}, {y} and {z}, in part" in page


def test_pictures_of_speeds_are_those_of_the_recorded_benchmarks():
    for name, draw in (("speed", speeds.times_faster), ("growth", speeds.growth)):
        alt = (ROOT / f"figures/{name}.alt.txt").read_text()
        assert draw(speeds.record(name)).alt + "\n" == alt
    shares = {row["task"]: row.get("matmul_share") for row in speeds.record("speed")["results"]
              if row["work"] == "rl step"}  # fmt: skip
    cards, walks = (f"{shares[task]:.0%}" for task in ("gp-l", "virl-l"))
    page = text("benchmarks/README.md")
    assert f"at {cards} of the rate of a large matrix product on cards, at {walks} on" in page


@functools.cache
def registered_walks() -> dict[tuple, float]:
    """Means over seeds of the second edition's walks: {(arm, split, metric, temperature): value},
    at the end of training, and at the first point of the curve: "sft, early"."""
    table, most = load_results(yours=None), 2
    found = {}
    for arm, split in product(("init", "rl", "sft"), ("id_unseen", "rule_ood")):
        for metric in ("per_step", "turn_found", "words_right"):
            tries = stats.tries_of(metric, most)
            where = "virl-l", arm, split, metric, tries
            for temperature in (None, 0.0, 1.0):
                end = verdicts.ends(table, *where, temperature).values()
                found[arm, split, metric, temperature] = fmean(end) if end else float("nan")
    early = verdicts.ends(table, "virl-l", "sft", "rule_ood", "per_step", most, step=68).values()
    return found | {("sft, early", "rule_ood", "per_step", None): fmean(early)}


def test_what_the_results_say_of_walks():
    page, at = text("book/results.md"), registered_walks()
    assert "learns the city's streets almost to perfection" in page
    assert at["sft", "id_unseen", "per_step", None] > 0.93
    assert "At first it holds its ground there; then it collapses" in page
    held = at["sft, early", "rule_ood", "per_step", None]
    assert held > 0.8 * at["init", "rule_ood", "per_step", None]
    assert at["sft", "rule_ood", "per_step", None] < 0.1
    assert "finds more than half of the turns" in page
    assert at["sft", "rule_ood", "turn_found", None] > 0.5
    assert "keeps the words that it is asked for, and finds fewer turns" in page
    assert at["rl", "rule_ood", "words_right", None] > 0.97
    start = at["init", "rule_ood", "turn_found", None]
    assert at["rl", "rule_ood", "turn_found", None] < start - 0.1
    assert "most of it is gone once the init, too, answers at a lower temperature" in page
    cool, warm = (
        at["rl", "id_unseen", "per_step", t] - at["init", "id_unseen", "per_step", t]
        for t in (None, 1.0)
    )
    assert cool < warm / 2
    assert "The fall under the new rule does not depend on the temperature" in page
    for temperature in (None, 0.0, 1.0):
        fall = at["init", "rule_ood", "per_step", temperature] - 0.05
        assert at["rl", "rule_ood", "per_step", temperature] < fall


def test_what_the_advice_rests_on():
    page, table = text("book/what_to_do.md"), load_results(yours=None)
    assert "it had turned at a third of the training, and the loss went on falling" in page
    (arm, *_) = (e for e in sections()["virl-l"] if e.method.name == "sft" and e.seed == 10)
    third = arm.method.steps // 3
    ends = [
        verdicts.ends(table, "virl-l", "sft", "rule_ood", "per_step", 2, step=step)
        for step in (third, None)
    ]
    start = registered_walks()["init", "rule_ood", "per_step", None]
    assert start - 0.1 > fmean(ends[0].values()) > fmean(ends[1].values())
    folder = RUNS / arm.run_id
    losses = Run(folder, read_manifest(folder)).metrics().loss
    assert losses.tail(20).mean() < losses[third - 10 : third + 10].mean() / 4
    assert "Of the first edition's five seeds of SFT on walks, one gained" in page
    walks = stats.main_grid(table[(table.task == "virl-l") & (table.preset == "tiny")])
    init, sft = (stats.last(walks, m, "rule_ood", "per_step", 2).value for m in ("init", "sft"))
    changes = sorted(sft - init)
    assert len(changes) == 5 and changes[0] < -0.1 and changes[-1] > 0 > changes[-2]


def test_a_registered_claim_says_what_is_there_and_what_is_not():
    row = {
        "statement": "RL rises",
        "section": "gp-l",
        "change": 0.1,
        "lo": 0.05,
        "hi": 0.15,
        "n": 5,
        "registered": 10,
        "p_holm": float("nan"),
        "verdict": "not run",
        "seeds_needed": 3,
    }
    rows = [row, row | {"p_holm": 0.004, "verdict": "supported", "n": 10}, row | {"n": 0}]
    table = pages.registered_table(rows)
    assert table.splitlines()[2:] == [
        "| GP-L: RL rises | +10.0 [+5.0, +15.0] | under way (5 of 10 seeds) |",
        "| GP-L: RL rises | +10.0 [+5.0, +15.0] | supported (10 of 10 seeds, p 0.004) |",
        "",
        "Not run yet:",
        "",
        "* GP-L: RL rises",
    ]


def test_the_twelve_cells_stand_beside_the_papers_and_the_first_editions():
    first = pages.claims_table(load_results(yours=None))
    second = [r for r in pages.registered(load_results(yours=None)) if r["family"] == "secondary"]
    table = pages.twelve_table(first, second).splitlines()
    assert len(table) == 14
    (walks,) = [line for line in table if line.startswith("| V-IRL-L: new words, SFT |")]
    assert walks.split(" | ")[1] == "-79.5" and pages.points(second[3]) in walks


def test_the_environment_beside_another_is_as_recorded():
    page = text("benchmarks/README.md")
    rows = {row["what"]: row["median"] for row in speeds.record("environment")["rows"]}
    assert "makes tens of thousands of deals a second and judges as many answers" in page
    assert min(rows["deals, train"], rows["verdicts, whole answers"]) > 20_000
    assert "about a hundred questions there, and judges some thousands" in page
    items, scores = (value for what, value in rows.items() if what.startswith("reasoning-gym"))
    assert 80 < items < 150 and 2_000 < scores < 5_000


def test_tries_are_those_of_the_recorded_runs():
    alt = (ROOT / "figures/gp-l-training_tries.alt.txt").read_text()
    ours = alt.split("Ours: ")[1].split(". Paper")[0]
    assert ours in text("book/first_edition.md")
    assert figures.training_tries(load_results(yours=None)).alt + "\n" == alt


def test_a_row_of_the_results_page_is_drawn_from_the_table():
    rows = pages.task_table(synthetic(), "gp-l").splitlines()
    assert rows[0] == "| Test | init | RL | SFT |" and len(rows) == 2 + len(pages.ROWS["gp-l"])
    cells = [cell.strip() for cell in rows[4].split("|")[1:-1]]
    grid = stats.main_grid(synthetic())
    init, sft = (stats.last(grid, m, "rule_ood", "success", 3).value for m in ("init", "sft"))
    change = stats.paired_change(dict(init), dict(sft))
    assert cells[0] == "unseen hands, new rule" and cells[1] == f"{100 * init.mean():.1f}"
    interval = f"[{100 * change.lo:+.1f}, {100 * change.hi:+.1f}]"
    assert cells[3] == f"{100 * sft.mean():.1f} ({100 * change.mean:+.1f} {interval})"


def test_a_cell_that_was_not_run_stays_empty_and_the_paper_s_stands():
    row = {"id": "gp-l.rule.sft", "paper": {"init": 0.115, "sft": 0.034}, "verdict": "not run"}
    table = pages.cells_table([row | {"change": None}, {"paper": None}])
    assert table.splitlines()[2:] == ["| gp-l.rule.sft | -8.1 |  | not run |"]


def test_a_picture_has_its_alt_text_and_a_file_for_narrow_and_dark_pages(tmp_path):
    for name in ("one", "two", "two-narrow", "two-dark"):
        (tmp_path / f"{name}.svg").touch()
        (tmp_path / f"{name}.alt.txt").write_text('shows "5%"\n')
    plain, both = (pages.picture(tmp_path, name, "../") for name in ("one", "two"))
    assert 'class="drawing" src="../_static/figures/one.svg" alt="shows &quot;5%&quot;"' in plain
    assert "<source" not in plain and both.count("<source") == 1
    assert 'srcset="../_static/figures/two-narrow.svg"' in both
    assert both.count("<img") == 2 and 'class="only-dark" src="../_static/figures/two-dark' in both
