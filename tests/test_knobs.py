"""The knob panel: any setting, its price, a run in the background, its curve over the recorded
band."""

import json
import math
import re
import time

import ipywidgets
import pytest

from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.results import load_results
from sftrl_lib.runs import Run, find_run, is_done, read_manifest
from study import knobs, panel, plots


@pytest.fixture(scope="module")
def results():
    rows = load_results(yours=None)
    few = ["success", "value_reading", "per_step"]
    return rows[(rows.preset == "tiny") & rows.metric.isin(few) & rows.split.isin(plots.BOTH)]


def left(root, exp, steps, done=True):
    """A run of the panel's as it is left after some steps, a second and a half each."""
    with pytest.raises(KeyboardInterrupt) if not done else open("/dev/null"):
        with Run.open(exp, root) as run:
            for step in range(1, steps + 1):
                run.log(step=step, reward=-1.0 - step / 10, loss=0.5, seconds=1.5)
                facts = {"compute": 1e12 * step, "compute_done": 1e12 * step, "tries": 3}
                facts |= {"successes": 5, "n": 50, "value": 0.1, "lo": 0.04, "hi": 0.21}
                for split in plots.BOTH:
                    run.add_evals([facts | {"step": step, "split": split, "metric": "success"}])
            if not done:
                raise KeyboardInterrupt
    return Run(run.path, read_manifest(run.path))


# --- functions ------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].is_arm])
@pytest.mark.parametrize("task", TASKS)
def test_every_setting_of_every_arm_is_a_knob_with_a_description(task, method):
    found, exp = knobs.knobs(task, method), knobs.short(task, method)
    of_the_panel = {"task", "method", "seed", "steps", "preset"}
    assert set(found) == set(exp.flat) - of_the_panel
    assert all(field.description for field in found.values())


def test_values_are_those_of_the_setting():
    fields = knobs.knobs("gp-l", "rl")
    assert knobs.choices(fields["scheme"]) == ["paper", "authors", "binary"]
    assert knobs.choices(fields["set_apart"]) == [False, True]
    assert knobs.choices(fields["lr"]) == []
    assert knobs.typed("gp-l", "rl", "lr", " 1e-4 ") == 1e-4
    assert knobs.typed("countdown", "rl", "rule", "4") == "4"  # a rule's name, no number
    assert knobs.typed("gp-l", "rl", "tries", " ") is None


def test_a_short_run_is_the_recorded_arm_but_for_its_length_and_precision():
    exp = knobs.short("gp-l", "rl", tries=1)
    differs = {k for k, v in exp.flat.items() if v != Experiment(method="rl").flat[k]}
    assert differs == {"tries", "steps", *knobs.SHORT}


def test_a_run_is_named_by_what_was_changed():
    assert knobs.title(knobs.short("gp-l", "rl")) == "RL, 8 steps, seed 0"
    turned = knobs.short("gp-l", "sft", lr=1e-4, seed=3, steps=20)
    assert knobs.title(turned) == "SFT, lr=0.0001, 20 steps, seed 3"
    finer = knobs.short("gp-l", "rl", eval_episodes=100)
    assert finer.evaluation.final_episodes == 100
    assert knobs.title(finer) == "RL, eval_episodes=100, 8 steps, seed 0"


def test_the_price_is_that_of_recorded_runs_until_there_is_one_of_yours(tmp_path):
    exp = knobs.short("gp-l", "rl")
    recorded = knobs.seconds_left(exp, tmp_path)
    assert 1 < recorded < 60  # the panel's default is to be over within a minute
    mine = left(tmp_path, exp, exp.method.steps)
    mine.manifest["wall_s"] = 14.0  # of which 12 in training
    (mine.path / "manifest.json").write_text(json.dumps(mine.manifest))
    other = knobs.short("gp-l", "rl", seed=1)
    assert knobs.seconds_left(other, tmp_path) == pytest.approx(14)
    assert (
        knobs.price(other, tmp_path) == "Start takes about 15 seconds, and some seconds to begin."
    )
    assert "finished" in knobs.price(exp, tmp_path)


def test_a_run_without_its_like_has_no_price(tmp_path):
    exp = knobs.short("countdown", "rl")
    assert math.isnan(knobs.seconds_left(exp, tmp_path))
    assert "unknown time" in knobs.price(exp, tmp_path)


def test_what_is_left_of_a_stopped_run_is_cheaper(tmp_path):
    exp = knobs.short("gp-l", "rl")
    whole = knobs.seconds_left(exp, tmp_path)
    left(tmp_path, exp, 2, done=False)
    assert knobs.seconds_left(exp, tmp_path) == pytest.approx(whole * 6 / 8)
    assert "Stopped at step 2 of 8" in knobs.price(exp, tmp_path)


def test_the_band_is_mean_and_interval_of_the_recorded_seeds(results):
    data = plots.Data(results, None, "gp-l", "tiny")
    rows = plots.points(data.grid, "rl", "rule_ood", "success", "step", data.tries)
    found = knobs.band(rows)
    end = rows[rows.step == rows.step.max()].y
    assert found.x.iloc[-1] == rows.step.max() and found.y.iloc[-1] == pytest.approx(end.mean())
    assert found.lo.iloc[-1] < end.mean() < found.hi.iloc[-1]


def test_runs_are_lines_over_the_band_of_their_arms(results, tmp_path):
    runs = [
        left(tmp_path, knobs.short("gp-l", "rl", tries=1), 8),
        left(tmp_path, knobs.short("gp-l", "sft"), 4, done=False),
    ]
    there = knobs.kept_runs(tmp_path, "gp-l")
    assert {run.path for run in there.values()} == {run.path for run in runs}
    figure = knobs.knob_figure(there, results)
    assert "RL: 5 recorded seeds, batch 256" in figure.alt and "SFT: 5 recorded" in figure.alt
    assert "RL, tries=1, 8 steps, seed 0, 10 at step 8" in figure.alt
    assert "SFT, 8 steps, seed 0, 10 at step 4" in figure.alt
    assert figure.axes[0].get_xlim()[1] == 16  # twice as far as they went
    logged = knobs.knob_figure(there, results, split=knobs.TRAINING, metric="reward")
    assert "RL, tries=1, 8 steps, seed 0, -1.8 at step 8" in logged.alt


def test_without_a_run_there_is_the_band_alone_and_without_records_neither(results):
    assert "5 recorded seeds" in knobs.knob_figure({}, results).alt
    assert "nothing recorded" in knobs.knob_figure({}, results, "countdown").alt


def test_runs_of_another_task_are_not_listed(tmp_path):
    left(tmp_path, knobs.short("gp-l", "rl"), 8)
    assert knobs.kept_runs(tmp_path, "virl-l") == {}


# --- the widget -----------------------------------------------------------------------------------
class Instant:
    """Stands for `panel.Training`: does its work when it is told to."""

    started: list["Instant"] = []

    def __init__(self, exp, root):
        self.exp, self.root, self.is_over, self.is_stopping, self.said = exp, root, False, False, ""
        self.started.append(self)

    def stop(self):
        self.is_stopping = True

    def fault(self):
        return self.said


def test_the_panel_begins_with_the_headline_under_the_new_rule(board):
    chosen = board.task.value, board.method.value, board.split.value, board.metric.value
    assert chosen == ("gp-l", "rl", "rule_ood", "success")
    assert "5 recorded seeds" in board.picture.value


@pytest.fixture
def board(results, tmp_path, monkeypatch):
    monkeypatch.setattr(panel, "Training", Instant)
    Instant.started.clear()
    return panel.panel(results, root=tmp_path)


def test_a_setting_with_listed_values_has_a_menu_and_another_one_a_box(board):
    board.knob.value = "scheme"
    assert [value for _, value in board.value.options] == ["paper", "authors", "binary"]
    board.knob.value = "tries"
    assert isinstance(board.value, ipywidgets.Text) and board.value.placeholder == "3"
    board.value.value = "1"
    assert board.experiment.method.tries == 1
    assert "verification iterations in training" in board.cost.value


def test_the_log_offers_what_the_method_logs(board):
    board.split.value = knobs.TRAINING
    assert board.metric.value == "reward"
    board.method.value = "sft"
    assert board.metric.value == "loss" and "SFT: 5 recorded seeds" in board.picture.value


def test_a_wrong_value_is_one_sentence_and_cannot_be_started(board):
    board.knob.value = "tries"
    board.value.value = "0"
    assert "tries is 0, but it must be at least 1" in board.cost.value and board.start.disabled
    board.value.value = "<b>"
    assert "<b>&lt;" not in board.cost.value and "&lt;b&gt;" in board.cost.value
    board.value.value = "2"
    assert not board.start.disabled


@pytest.mark.parametrize(
    ("task", "method"),
    [*((t, "rl") for t in TASKS), *(("gp-l", m) for m in METHODS if m != "init")],
)
def test_every_setting_of_an_arm_can_be_turned_to(board, monkeypatch, task, method):
    monkeypatch.setattr(board, "_draw", lambda: None)
    board.task.value, board.method.value = task, method
    for name in board.knob.options:
        board.knob.value = name
        assert "Start takes" in board.cost.value, name


def test_a_run_grows_is_ticked_and_stays_in_the_list(board, tmp_path):
    board.start.click()
    (training,) = Instant.started
    assert board.start.disabled and not board.stop.disabled
    left(tmp_path, training.exp, 3, done=False)
    board.refresh()
    name = "RL, 8 steps, seed 0"
    assert "3 of 8" in board.bar.value and "step 3 of 8" in board.status.value
    assert list(board.ticked) == [name] and f"{name}, 10 at step 3" in board.picture.value
    (box,) = board.ticks.children
    box.value = False  # the reader's choice holds
    (tmp_path / training.exp.run_id / "manifest.json").unlink()
    for path in (tmp_path / training.exp.run_id).iterdir():
        path.unlink()
    left(tmp_path, training.exp, 8)
    training.is_over = True
    board.refresh()
    assert board.ticks.children == (box,) and not box.value and box.description == name
    assert "finished in" in board.status.value and board.stop.disabled


def test_a_stopped_run_says_where_and_goes_on_with_start(board, tmp_path):
    board.start.click()
    left(tmp_path, Instant.started[0].exp, 2, done=False)
    board.stop.click()
    assert Instant.started[0].is_stopping and "after this step" in board.status.value
    Instant.started[0].is_over = True
    board.refresh()
    assert "stopped at step 2 of 8" in board.status.value and not board.start.disabled
    assert board.ticks.children[0].description.endswith("not finished")
    board.start.click()
    assert Instant.started[1].exp == Instant.started[0].exp


def test_what_went_wrong_is_said_in_its_sentence(board):
    board.start.click()
    Instant.started[0].said, Instant.started[0].is_over = "there are no weights <here>.", True
    board.refresh()
    assert "no weights &lt;here&gt;." in board.status.value and not board.start.disabled


def test_a_finished_run_is_not_trained_again_but_ticked(board, tmp_path):
    left(tmp_path, board.experiment, 8)
    board.start.click()
    assert not Instant.started and list(board.ticked) == ["RL, 8 steps, seed 0"]


def test_a_damaged_run_is_a_sentence_and_the_panel_stays(board, tmp_path):
    run = left(tmp_path, board.experiment, 8)
    (run.path / "manifest.json").write_text("{")
    board.task.value = "virl-l"
    assert "is damaged" in board.status.value


# --- for real -------------------------------------------------------------------------------------
FEW = {"batch": 8, "eval_points": 1, "eval_episodes": 2, "eval_tries": 1}


def waited(training, until):
    end = time.monotonic() + 300
    while not until() and time.monotonic() < end:
        time.sleep(0.2)
    assert until(), training.fault()


@pytest.mark.slow
def test_a_stopped_process_leaves_a_run_that_another_finishes(tmp_path):
    exp = knobs.short("gp-l", "sft", steps=60, **FEW)
    training = panel.Training(exp, tmp_path)
    log = find_run(exp, tmp_path) / "metrics.jsonl"
    waited(training, lambda: log.exists() and log.stat().st_size)
    training.stop()
    waited(training, lambda: training.is_over)
    assert training.fault() == "" and not is_done(find_run(exp, tmp_path))
    training = panel.Training(exp, tmp_path)
    waited(training, lambda: training.is_over)
    assert training.fault() == "" and is_done(find_run(exp, tmp_path))


@pytest.mark.slow
def test_a_run_that_cannot_start_says_why(tmp_path):
    training = panel.Training(knobs.short("countdown", "rl"), tmp_path)
    waited(training, lambda: training.is_over)
    assert "there are no weights of the init" in training.fault()


@pytest.mark.slow
def test_in_jupyterlab_a_run_is_started_by_keyboard_watched_and_stopped(lab, serious, tmp_path):
    page = lab(f"panel(root=Path({str(tmp_path)!r}))", "panel")
    page.get_by_label("method").select_option("SFT")
    page.get_by_label("setting").select_option("lr")
    page.get_by_label("value").fill("0.0001")
    page.get_by_label("steps").first.fill("500")
    page.get_by_label("steps").first.press("Tab")
    page.get_by_text("Start takes about").wait_for()
    page.get_by_role("button", name="Start", exact=True).press("Enter")
    box = page.get_by_label("SFT, lr=0.0001, 500 steps, seed 0, not finished")
    box.wait_for()
    page.get_by_text(re.compile(r"step [1-9]\d* of 500")).wait_for()  # no look need fall on step 2
    page.get_by_role("button", name="Stop", exact=True).press("Enter")
    page.get_by_text("Start goes on from there").wait_for()
    drawn = page.locator("img[alt*='SFT, lr=0.0001, 500 steps']")
    page.get_by_label("tested on").select_option("its own training, step by step")
    drawn.wait_for()
    assert serious(page, ".jp-OutputArea-output") == []
    page.screenshot(path=tmp_path / "panel.png", full_page=True)
    box.press("Space")
    drawn.wait_for(state="detached")
    page.close()
