"""The explorer of the HTML book: it draws the recorded curves, and no others."""

import re
import shutil

import numpy as np
import pytest

from sftrl_lib.places import ROOT
from sftrl_lib.results import load_results
from sftrl_lib.runs import RUNS, Run, read_manifest
from study import explorer, plots, widgets


@pytest.fixture(scope="module")
def results():
    rows = load_results(yours=None)
    few = ["success", "value_reading", "kl_to_init"]
    return rows[(rows.task == "gp-l") & rows.metric.isin(few) & rows.split.isin(plots.BOTH)]


@pytest.fixture(scope="module")
def tasks(results):
    return explorer.curves(results)


def test_its_points_are_those_of_the_figures(results, tasks):
    task = tasks["gp-l, tiny"]
    data = plots.Data(results, None, "gp-l", "tiny")
    for split, metric in (("rule_ood", "success"), ("id_unseen", "value_reading")):
        tries = plots.explored_tries(data)
        drawn = plots.points(data.grid, "rl", split, metric, "step", tries)[["seed", "step", "y"]]
        there = np.array(task["arms"]["RL"][f"{split} {metric}"])
        np.testing.assert_allclose(there[:, [0, 1, 3]], drawn.astype(float), atol=1e-4)


def test_the_tiny_tier_comes_first(tasks):
    assert next(iter(tasks)) == "gp-l, tiny"


def test_a_point_knows_whose_episodes_are_behind_it(results, tasks):
    runs = tasks["gp-l, tiny"]["runs"]
    assert set(runs) == set(tasks["gp-l, tiny"]["arms"])
    rl, sft = runs["RL"][0], runs["SFT"][0]
    assert rl[0].startswith("gp-l-rl-tiny-s0-") and sft[0].startswith("gp-l-sft-tiny-s0-")
    assert rl[1] == sft[1] == rl[0]  # the init was measured in RL's run, for both


def test_a_runs_file_has_each_question_once_and_the_first_answers_of_every_point(tasks):
    name = tasks["gp-l, tiny"]["runs"]["RL"][0][0]
    run = Run(RUNS / name, read_manifest(RUNS / name))
    told = explorer.episodes(run)
    assert len(set(told["questions"])) == len(told["questions"])
    assert {"start", "60"} < set(told["points"])
    for (step, split), (number, tries) in (
        ((place, split), shown)
        for place, splits in told["points"].items()
        for split, many in splits.items()
        for shown in many
    ):
        where = {"step": 0 if step == "start" else int(step), "split": split}
        there = [row for row in run.episodes() if where.items() <= row.items()]
        assert told["questions"][number] in {row["prompt"] for row in there}
        assert [text for text, _, _ in tries] in [row["turns"] for row in there]
    assert max(len(m) for s in told["points"].values() for m in s.values()) == explorer.SHOWN


def test_what_the_page_loads_is_small(results, tmp_path):
    explorer.export(tmp_path, results)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "explorer").glob("*.js")}
    assert sizes.pop("rows.js") and sizes
    assert max(sizes.values()) < 150_000


# --- the widget -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def explored(results):
    """The widget, comparing two arms of the main experiment."""
    widget = widgets.explorer(results)
    assert len(widget.picture.children) == 1 and widget.other.disabled  # all arms: none to click
    widget.one.value = "RL"
    widget.other.value = "SFT"
    return widget


@pytest.fixture
def widget(explored):
    explored.split.value, explored.metric.value, explored.point.value = "rule_ood", "success", ""
    for box in explored.seeds.children:
        box.value = True
    return explored


def test_two_arms_are_compared_and_seeds_left_out(widget):
    assert set(widget.points.arm) == {"RL", "SFT"} and not widget.other.disabled
    count = len(widget.points)
    assert len(widget.picture.children) == 1 + count
    seed = next(box for box in widget.seeds.children if box.description == "seed 0")
    seed.value = False
    assert 0 not in set(widget.points.seed) and len(widget.points) < count
    widget.metric.value = "value_reading"  # what was left out stays so
    assert 0 not in set(widget.points.seed)


def test_a_click_on_a_point_shows_its_episodes_and_so_does_the_menu(widget):
    points = widget.points
    n = points[(points.arm == "SFT") & (points.seed == 1)].index[-1]
    widget.picture.children[1 + n].click()
    page = widget.below.children[0].children[-1].value
    assert f"step {points.loc[n].step}, split rule_ood" in page and "Question" in page
    widget.picture.children[1 + n].click()  # another seed ends there, too
    assert points.loc[int(widget.point.value)].seed != 1
    start = points[(points.arm == "SFT") & (points.seed == 1) & (points.step == 0)].index[0]
    widget.point.value = f"{start}"
    assert "step 0" in widget.below.children[0].children[-1].value
    widget.split.value = "id_unseen"  # another picture: its points are others
    assert widget.point.value == f"{start}" and "id_unseen" in (
        widget.below.children[0].children[-1].value
    )


def test_buttons_lie_on_the_points_that_are_drawn(widget):
    figure = plots.explore(widget.results, **widget.chosen)
    places = [button.layout.margin for button in widget.picture.children[1:]]
    right = [float(place.split("calc(")[2].partition("%")[0]) / 100 for place in places]
    axis = figure.axes[0].get_position()
    assert min(right) == pytest.approx(axis.x0, abs=0.05) and max(right) <= axis.x1 + 0.001
    lines = [x for line in figure.axes[0].lines for x in line.get_xdata()]
    drawn = figure.axes[0].transData.transform([(x, 0) for x in lines])[:, 0] / figure.bbox.width
    for place in right:
        assert np.abs(drawn - place).min() < 1e-3


# --- in a browser ---------------------------------------------------------------------------------
def site(folder, results):
    """The page as a file, without Sphinx around it."""
    shutil.copytree(ROOT / "book" / "_static", folder / "_static")
    explorer.export(folder / "_static", results)
    source = (ROOT / "book" / "explorer.md").read_text()
    body = "".join(re.findall(r"```\{raw\} html\n(.*?)```", source, re.DOTALL))
    page = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Explorer</title>{body}'
    (folder / "explorer.html").write_text(page)
    return (folder / "explorer.html").as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory, results):
    return site(tmp_path_factory.mktemp("site"), results)


@pytest.fixture
def page(chromium, url):
    page, troubles = chromium.new_page(viewport={"width": 390, "height": 800}), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("polyline")
    yield page
    page.close()
    assert troubles == []


@pytest.mark.slow
def test_a_reader_compares_two_arms_and_leaves_seeds_out(page, tasks):
    seeds = len({seed for seed, *_ in tasks["gp-l, tiny"]["arms"]["RL"]["rule_ood success"]})
    assert page.locator(".ex-arm0.ex-seed").count() == seeds
    page.get_by_label("seed 0", exact=True).press("Space")
    assert page.locator(".ex-arm0.ex-seed").count() == seeds - 1
    ends = page.locator("#explorer-ends tr").first.locator("td").all_text_contents()
    rows = tasks["gp-l, tiny"]["arms"]["RL"]["rule_ood success"]
    last = {seed: y for seed, _, _, y in rows if seed != 0}
    assert ends[1:] == [f"{np.mean(list(last.values())):.1f}", str(seeds - 1)]
    page.get_by_label("Against").select_option("kl_to_init")
    assert "KL to the init" in page.text_content("#explorer-picture")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_a_point_that_is_clicked_shows_the_episodes_that_its_run_kept(page, tasks, serious):
    page.get_by_role("button", name="SFT, seed 1, step 345").click(force=True)  # others lie near
    page.locator("#explorer-where", has_text="SFT, seed 1, step 345").wait_for()
    name = tasks["gp-l, tiny"]["runs"]["SFT"][1][0]
    run = Run(RUNS / name, read_manifest(RUNS / name))
    row = next(r for r in run.episodes() if r["split"] == "rule_ood" and r["step"] == 345)
    first = page.locator("#explorer-episodes details").first
    first.wait_for()
    assert first.locator("pre").all_text_contents() == [row["prompt"], *row["turns"]]
    said = first.locator(".ex-try .pg-verdict").all_text_contents()
    assert said == [widgets.verdict_words(verdict) for verdict in row["verdicts"]]
    assert page.locator("#explorer-episodes details").count() == explorer.SHOWN
    assert "SFT, seed 1, step 345" in page.text_content("#explorer-where")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert serious(page) == []
    page.get_by_role("button", name="SFT, seed 1, step 345").click(force=True)
    next_there = re.compile("SFT, seed [^1], step 345")
    page.locator("#explorer-where", has_text=next_there).wait_for()
    page.get_by_label("Tested on").select_option("id_unseen")  # its points are others
    assert not page.locator("#explorer-behind").is_visible()


@pytest.mark.slow
def test_a_reader_with_a_keyboard_walks_along_the_points_and_opens_one(page):
    page.get_by_label("seed 4", exact=True).focus()
    page.keyboard.press("Tab")
    label = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label).startswith("RL, seed 0, step 0:")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(label).startswith("RL, seed 0, step 10:")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(label).startswith("RL, seed 1, step 10:")
    page.keyboard.press("Enter")
    page.locator("#explorer-episodes details").first.wait_for()
    assert "RL, seed 1, step 10" in page.text_content("#explorer-where")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.locator("#explorer-where", has_text="RL, seed 1, before training").wait_for()


@pytest.mark.slow
def test_in_jupyterlab_a_click_on_a_point_shows_its_episodes(lab, serious, tmp_path):
    page = lab("explorer(load_results())", "widgets")
    page.get_by_label("compare", exact=True).select_option("RL")
    page.get_by_label("with", exact=True).select_option("SFT")
    page.locator(".explorer-point[title^='SFT, seed 1, step 345']").click(force=True)
    page.get_by_text("step 345, split rule_ood").wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "explorer.png")
    assert serious(page, ".jp-OutputArea-output") == []
    page.get_by_role("button", name="next point", exact=True).press("Enter")
    page.get_by_text("step 0, split rule_ood").wait_for()  # of the next seed
    page.close()
