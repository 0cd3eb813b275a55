"""The explorer of the HTML book: it draws the recorded curves, and no others."""

import re
import shutil

import numpy as np
import pytest

from sftrl_lib.places import ROOT
from sftrl_lib.results import load_results
from study import explorer, plots

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


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


@pytest.mark.slow
def test_a_reader_compares_two_arms_and_leaves_seeds_out(results, tasks, tmp_path):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian, Ubuntu: apt install chromium)")
    from playwright.sync_api import sync_playwright

    shutil.copytree(ROOT / "book" / "_static", tmp_path / "_static")
    explorer.export(tmp_path / "_static", results)
    source = (ROOT / "book" / "explorer.md").read_text()
    body = "".join(re.findall(r"```\{raw\} html\n(.*?)```", source, re.DOTALL))
    page_file = tmp_path / "explorer.html"
    page_file.write_text(f'<!DOCTYPE html><html lang="en"><title>Explorer</title>{body}')
    troubles = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.set_default_timeout(120_000)
        page.goto(page_file.as_uri())
        page.wait_for_selector("polyline")
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
        browser.close()
    assert troubles == []
