"""Figures and widgets on made-up results: what is drawn, what is said, what is refused."""

from itertools import pairwise

import pandas as pd
import pytest
from PIL import Image
from results_fixture import as_navigation, as_pictures, live, synthetic, with_ablation

from commons.errors import SftrlError
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.results import load_results
from sftrl_lib.rollout import Episode, Turn
from sftrl_lib.runs import episode_row
from sftrl_lib.tasks.base import Verdict
from study import figures, lessons, plots, reasons
from study.widgets import episode_viewer, explorer, render_episode

PAPER = load_results(ROOT / "none.csv", yours=None)
RESULTS = pd.concat([with_ablation(synthetic()), PAPER], ignore_index=True)
WALKS = pd.concat([as_navigation(synthetic()), PAPER], ignore_index=True)
CARDS = [name for name in figures.ALL if name != "recognition_and_success"]
STREETS = [name for name in CARDS if name != "training_tries"]
PICTURES = [name for name in figures.ALL if name != "training_tries"]
MECHANISM = [plots.metric_label(m, "virl-l") for _, m in TASKS["virl-l"].mechanism[1]]
LOG = pd.DataFrame({"step": [1, 2], "loss": [3.0, 1.0]})
EPISODE = {
    "step": 10, "split": "rule_ood", "index": 4, "solved": False, "prompt": "Cards: <b>J</b>",
    "turns": ["<script>alert(1)</script>"],
    "verdicts": [{"reward": -3.0, "reason": "illegal_formula", "message": "no & no"}],
}  # fmt: skip


def labels(figure):
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def label_lines(axis):
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", CARDS)
def test_figure_names_tier_seeds_and_size_and_has_alt_text(name):
    figure = figures.ALL[name](RESULTS)
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "GP-L, tiny tier" in figure.get_suptitle()
    assert "5 seeds" in caption
    sizes = {"success_against_compute": "300 to 1,500 episodes", "changes_from_init": "; 1,500 ep"}
    assert sizes.get(name, "") in caption
    assert len(figure.alt) > 80 and ("%" in figure.alt or "points" in figure.alt)


@pytest.mark.parametrize("name", CARDS)
def test_one_seed_of_yours_can_be_drawn_where_none_is_recorded(name):
    mine = synthetic(seeds=(0,)).assign(source="yours", preset="smol")
    figure = figures.ALL[name](pd.concat([RESULTS, mine], ignore_index=True), preset="smol")
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "smol tier" in figure.get_suptitle() and "1 seed of yours" in caption
    assert "RL, yours" not in labels(figure)


def test_figures_are_of_the_tier_that_the_results_were_loaded_for():
    mine, none = live().assign(preset="llama-11b"), load_results(yours=None, preset="llama-11b")
    assert labels(figures.success_against_compute(none, live=mine)) == ["RL, this session"]
    with pytest.raises(SftrlError, match="python -m sftrl_lib init --preset llama-11b --task gp-l"):
        figures.changes_from_init(none)


def test_files_are_the_tiny_tiers_whatever_there_is(monkeypatch):
    monkeypatch.setattr(figures, "save", lambda figure, name, folder: figure.get_suptitle())
    one = synthetic(seeds=(0,)).assign(preset="smol")
    titles = figures.save_all(pd.concat([RESULTS, one], ignore_index=True))
    assert all("GP-L, tiny tier" in title for title in titles)


@pytest.mark.parametrize("name", STREETS)
def test_figure_of_navigation_counts_routes_and_steps(name):
    figure = figures.ALL[name](WALKS, task="virl-l")
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "VIRL-L, tiny tier" in figure.get_suptitle()
    assert "5 seeds" in caption and "hands" not in caption + figure.alt
    assert {axis.get_ylabel() for axis in figure.axes} <= {
        "per-step accuracy (%)", "rule OOD: per-step accuracy (%)", *MECHANISM, "",
    }  # fmt: skip


@pytest.mark.parametrize("task", ["gp-vl", "virl-vl"])
@pytest.mark.parametrize("name", PICTURES)
def test_figure_of_pictures_names_its_task(name, task):
    results = pd.concat([as_pictures(synthetic(), task), PAPER], ignore_index=True)
    figure = figures.ALL[name](results, task=task)
    assert f"{task.upper()}, tiny tier" in figure.get_suptitle()


def test_recognition_is_drawn_for_every_seed_of_both_arms():
    axis = figures.recognition_and_success(as_pictures(synthetic()), task="gp-vl").axes[0]
    curves = [line for line in axis.lines if len(line.get_xdata()) > 1]
    assert len(curves) == 2 * 5
    assert axis.get_xlabel() == "cards seen right (%)"


def test_gallery_says_below_each_picture_what_is_to_be_said():
    pictures = [(Image.new("RGB", (8, 8)), f"read: {n}") for n in range(4)]
    figure = plots.gallery(pictures, "Misread")
    assert [axis.get_title() for axis in figure.axes[:4]] == [f"read: {n}" for n in range(4)]
    assert figure.alt == "Misread: read: 0; read: 1; read: 2; read: 3."


def test_confusion_counts_a_row_in_percent_and_what_is_unread():
    pairs = [("A", "A"), ("A", "A"), ("A", "K"), ("A", None), ("K", "K"), ("K", "11")]
    figure = plots.confusion(pairs, ["A", "K"], "Read")
    shares = figure.axes[0].collections[0].get_array()
    assert shares.tolist() == [[50, 25, 25], [0, 50, 50]]
    assert "50% read right" in figure.alt and "K as none 50%" in figure.alt


@pytest.mark.slow
def test_every_task_has_its_files(monkeypatch):
    monkeypatch.setattr(figures, "save", lambda figure, name, folder: name)
    names = set(figures.save_all(pd.concat([RESULTS, as_navigation(synthetic())])))
    known = {"gp-l": CARDS, "virl-l": STREETS}
    assert names == {f"{task}-{name}" for task in known for name in known[task]}


def test_the_papers_bars_of_navigation_are_its_per_step_accuracies():
    heights = [
        b.get_height() for b in figures.changes_from_init(WALKS, task="virl-l").axes[-1].patches
    ]
    assert heights == pytest.approx([80.8, 91.8, 1.3])


@pytest.mark.parametrize("name", CARDS)
def test_no_rows_is_an_error_that_says_how_to_make_them(name):
    with pytest.raises(SftrlError, match="python -m sftrl_lib experiments"):
        figures.ALL[name](PAPER)


def test_curves_show_every_seed_and_their_mean():
    axis = figures.success_against_compute(RESULTS).axes[0]
    thin = [line for line in axis.lines if line.get_label().startswith("_")]
    mean = label_lines(axis)["RL"]
    assert len(thin) == 2 * 5
    assert mean.get_linewidth() > 2 * thin[0].get_linewidth()
    grid = RESULTS[(RESULTS.run_id.str.startswith("fixture-rl-s")) & (RESULTS.step == 100)]
    want = grid[(grid.split == "rule_ood") & (grid.metric == "success") & (grid.tries == 3)].value
    assert mean.get_ydata()[-1] == pytest.approx(100 * want.mean())
    assert mean.get_xdata()[0] == pytest.approx(0.3)  # the init's own compute, in 10^14 FLOPs


def test_methods_differ_by_colour_marker_and_line():
    styles = [*(method.style for method in METHODS.values()), *plots.SPARE]
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == len(styles)
    studied = [plots.style_of(m)["linestyle"] for m in ("init", "rl", "sft")]
    assert len(set(studied)) == 3


def test_this_session_is_dashed_and_open_over_the_recorded_curves():
    figure = figures.success_against_compute(RESULTS, live=pd.concat([live(), live("sft", 1)]))
    lines = label_lines(figure.axes[0])
    assert set(lines) == {"RL", "SFT", "RL, this session", "SFT, this session"}
    assert set(labels(figure)) == set(lines)
    line = lines["RL, this session"]
    assert line.get_linestyle() == "--" and line.get_markerfacecolor() == "white"
    assert line.get_xdata()[0] == pytest.approx(0.3)  # from the recorded init of its seed
    assert len(line.get_xdata()) == 3


def test_your_runs_are_drawn_and_named_yours_unless_there_are_this_sessions():
    mine = live().assign(source="yours", condition="{}", run_id="mine")
    both = pd.concat([RESULTS, mine], ignore_index=True)
    assert "RL, yours" in labels(figures.success_against_compute(both))
    assert "RL, yours" not in labels(figures.success_against_compute(both, live=live()))
    explored = plots.explore(both, split="rule_ood", metric="success", x="step")
    assert "yours: RL" in labels(explored)


def test_a_live_run_alone_can_be_drawn():
    figure = figures.success_against_compute(PAPER, live=live())
    assert labels(figure) == ["RL, this session"]
    assert "this session" in " ".join(t.get_text() for t in figure.texts)


def test_the_papers_numbers_are_separate_and_hatched():
    figure = figures.changes_from_init(RESULTS)
    ours, paper = figure.axes[0], figure.axes[3]
    assert paper.get_title(loc="left") == "paper: rule OOD"
    assert paper.get_xlabel() == "234 episodes"
    assert [round(bar.get_height(), 1) for bar in paper.patches] == [11.5, 15.0, 3.4]
    assert all(bar.get_hatch() for bar in paper.patches)
    assert not any(bar.get_hatch() for bar in ours.patches)
    assert "init 11.5%, RL 15.0%, SFT 3.4%" in figure.alt


def test_bars_carry_the_paired_change():
    figure = figures.changes_from_init(RESULTS)
    texts = [t.get_text() for t in figure.axes[2].texts]
    assert texts[0] == "" and texts[1].startswith("+6.0\n[+5.") and texts[2].startswith("-6.4\n[-7")
    assert "RL 15.9% +6.0" in figure.alt


def test_bars_go_from_hands_seen_in_training_to_the_new_rule():
    titles = [axis.get_title(loc="left") for axis in figures.changes_from_init(RESULTS).axes]
    assert titles[:3] == ["ID, seen in training", "ID, unseen", "rule OOD"]


def test_value_reading_falls_under_sft_in_words_and_lines():
    figure = figures.mechanism(RESULTS)
    line = label_lines(figure.axes[0])["SFT"].get_ydata()
    assert line[0] > 95 and line[-1] < 10
    assert "SFT 7.0%" in figure.alt


def test_training_tries_shows_growth_and_the_papers_beside_it():
    figure = figures.training_tries(RESULTS)
    assert list(figure.axes[0].get_xticks()) == [1, 3, 10]
    assert list(figure.axes[1].lines[0].get_ydata()) == pytest.approx([0.48, 2.15, 2.99, 5.99])
    assert "10 tries +5.99" in figure.alt


def test_matched_figure_plots_ood_against_id_and_kl():
    id_axis, kl_axis = figures.ood_against_id_and_kl(RESULTS).axes
    assert label_lines(kl_axis)["SFT"].get_xdata()[-1] == pytest.approx(3.0)
    assert label_lines(kl_axis)["RL"].get_xdata()[0] == 0
    assert 20 < label_lines(id_axis)["RL"].get_xdata()[-1] < 26


@pytest.mark.slow
def test_saved_files_are_the_same_bytes_and_carry_alt_text(tmp_path):
    for folder in ("a", "b"):
        figure = figures.mechanism(RESULTS)
        assert plots.save(figure, "reading", tmp_path / folder).name == "reading.png"
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["reading-narrow.svg", "reading.alt.txt", "reading.png", "reading.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "reading.alt.txt").read_text() == figure.alt + "\n"


def test_panels_stand_one_below_the_other_on_a_narrow_page():
    figure = figures.mechanism(RESULTS)
    before = [axis.get_position().bounds for axis in figure.axes]
    tall = plots.stacked(figure)
    boxes = [axis.get_position() for axis in tall.axes]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert tall.get_size_inches()[0] < 5 and tall.alt == figure.alt
    assert [axis.get_position().bounds for axis in figure.axes] == before
    assert plots.html(figure).count("<source media=") == 1


def test_a_single_wide_panel_is_drawn_anew_for_a_narrow_page_of_a_notebook():
    figure = plots.explore(RESULTS)
    assert "<source media=" not in plots.html(figure)  # beneath the explorer's points
    assert plots.html(figure, single=True).count("<source media=") == 1
    tall = plots.stacked(figure)
    assert tall.get_figwidth() < 5 and tall.get_figheight() >= figure.get_figheight() - 1


def test_a_legend_has_as_many_columns_as_there_is_room_for():
    figure = plots.explore(RESULTS)
    assert len(labels(figure)) == 4
    for drawn in (figure, plots.stacked(figure)):
        (legend,) = drawn.legends
        assert legend.get_window_extent().width <= drawn.bbox.width
    logs = {f"a run with a long name, number {n}": LOG for n in range(6)}
    figure = plots.training_log(logs, columns=["loss"])
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width


def test_a_photograph_keeps_its_colours_on_a_dark_page():
    pictures = [(Image.new("RGB", (8, 8)), "read: 1")] * 2
    assert 'class="photograph"' in plots.html(plots.gallery(pictures, "Seen"))
    assert 'class="photograph"' in plots.html(pictures[0][0], "seen")


def test_panels_stand_where_no_digit_depends_on_the_process():
    # The layout solver's last digits do, and an SVG repeats them in the names of its clip paths.
    for axis in figures.changes_from_init(RESULTS).axes:
        bounds = axis.get_position().bounds
        assert all(v == pytest.approx(round(v, 6), abs=1e-12) for v in bounds)


def test_notebook_image_escapes_its_alt_text():
    figure = figures.mechanism(RESULTS)
    figure.alt = 'a "quote" <b>'
    text = plots.html(figure)
    assert '<img class="drawing" src="data:image/png;base64,' in text
    assert 'alt="a &quot;quote&quot; &lt;b&gt;"' in text


def test_training_log_draws_the_columns_that_were_asked_for():
    figure = plots.training_log({"SFT, this session": LOG}, columns=["loss"])
    assert list(figure.axes[0].lines[0].get_ydata()) == [3.0, 1.0]
    with pytest.raises(SftrlError, match="no column reward; choose `columns` among loss, step"):
        plots.training_log({"SFT, this session": LOG}, columns=["reward"])


def with_dft(results):
    """The same, and DFT beside SFT: the same numbers, two points higher."""
    sft = results[(results.method == "sft") & (results.source == "ours")]
    dft = sft.assign(method="dft", value=sft.value + 0.02, run_id="dft-" + sft.run_id)
    return pd.concat([results, dft], ignore_index=True)


@pytest.mark.parametrize("draw", [figures.success_against_compute, plots.explore])
def test_every_method_that_has_rows_is_drawn_in_its_own_style(draw):
    lines = label_lines(draw(with_dft(RESULTS)).axes[0])
    assert lines["DFT"].get_color() == METHODS["dft"].style["color"]
    assert lines["DFT"].get_ydata()[-1] == pytest.approx(lines["SFT"].get_ydata()[-1] + 2)


def test_bars_are_drawn_of_every_method_that_has_rows():
    figure = figures.changes_from_init(with_dft(RESULTS))
    ticks = [tick.get_text() for tick in figure.axes[2].get_xticklabels()]
    assert ticks == ["init", "RL", "SFT", "DFT"] and "DFT 5." in figure.alt


def countdown():
    """Made-up rows of a task that the paper does not have."""
    kept = synthetic().query("metric in ('success', 'numbers_right', 'kl_to_init')")
    return kept.assign(task="countdown", run_id="countdown-" + kept.run_id)


def test_a_task_that_the_study_does_not_have_is_drawn():
    results = pd.concat([RESULTS, countdown()], ignore_index=True)
    figure = plots.explore(results, metric="numbers_right", task="countdown")
    assert set(labels(figure)) == {"RL", "SFT"}
    assert "COUNTDOWN, tiny tier: right numbers used (%)" in figure.get_suptitle()
    assert figures.success_against_compute(results, task="countdown").axes


def test_the_explorer_offers_every_task_that_has_rows(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "html", lambda figure: shown.append(figure.get_suptitle()) or "")
    results = pd.concat([RESULTS, countdown()], ignore_index=True)
    task, _, split, metric, _ = explorer(results).children[0].children
    task.value = "countdown"
    assert {said for said, _ in metric.options} == {
        "success (%)", "right numbers used (%)", "KL to the init (nats an answer)",
    }  # fmt: skip
    assert {name for _, name in split.options} == {"id_seen", "id_unseen", "rule_ood"}
    metric.value = "numbers_right"
    assert "COUNTDOWN, tiny tier: right numbers used (%)" in shown[-1]


def test_a_task_that_the_book_has_no_runs_of_says_how_to_make_them():
    with pytest.raises(SftrlError, match="init --preset tiny --task countdown"):
        plots.explore(RESULTS, task="countdown")


@pytest.mark.parametrize("x", plots.X_AXES)
def test_explore_names_every_arm_and_ablation(x):
    figure = plots.explore(RESULTS, x=x)
    assert set(labels(figure)) == {"RL", "SFT", "RL tries=1", "RL tries=10"}
    with pytest.raises(SftrlError, match="no results for success on rule_five"):
        plots.explore(RESULTS, split="rule_five", x=x)


def test_explore_keeps_foundations_apart():
    young = RESULTS[(RESULTS.source == "ours") & (RESULTS.condition == "{}")]
    young = young.assign(foundation="young", value=young.value / 2)
    figure = plots.explore(pd.concat([RESULTS, young]))
    lines = label_lines(figure.axes[0])
    assert {"RL", "RL young", "SFT young"} < set(lines)
    assert lines["RL young"].get_ydata()[0] == pytest.approx(lines["RL"].get_ydata()[0] / 2)


def test_explored_runs_on_other_deals_begin_at_the_init_that_was_measured_there():
    red = RESULTS[(RESULTS.source == "ours") & (RESULTS.condition == "{}")]
    red = red.assign(condition='{"color": "red"}', value=red.value / 2)
    lines = label_lines(plots.explore(pd.concat([RESULTS, red])).axes[0])
    assert lines["SFT color=red"].get_ydata()[0] == pytest.approx(lines["SFT"].get_ydata()[0] / 2)


def test_explorer_redraws_on_a_choice(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "html", lambda figure: shown.append(figure.alt) or "")
    menus = explorer(RESULTS).children[0].children
    assert [m.description for m in menus] == ["task", "tier", "split", "metric", "against"]
    menus[3].value = "kl_to_init"
    assert [m.value for m in menus] == ["gp-l", "tiny", "rule_ood", "kl_to_init", "compute"]
    menus[2].value = "id_unseen"
    assert "KL to the init" in shown[-1]
    assert len(shown) == 2  # there is no KL on rule_ood, which is said instead of drawn
    with pytest.raises(SftrlError, match="no recorded runs to explore"):
        explorer(PAPER)


def test_explorer_offers_your_tiers_and_splits(monkeypatch):
    monkeypatch.setattr(plots, "html", lambda figure: shown.append(figure.get_suptitle()) or "")
    shown = []
    mine = synthetic(seeds=(0,)).assign(source="yours", preset="llama-11b")
    mine["split"] = mine.split.replace("id_seen", "rule_five")
    menus = explorer(pd.concat([RESULTS, mine], ignore_index=True)).children[0].children
    menus[1].value = "llama-11b"
    menus[2].value = "rule_five"
    assert "llama-11b tier: success (%), rule: faces count 5" in shown[-1]


def test_explored_runs_of_yours_begin_at_your_init():
    mine = synthetic(seeds=(0,)).assign(source="yours", preset="llama-11b")
    lines = label_lines(plots.explore(mine, x="step", preset="llama-11b").axes[0])
    assert set(lines) == {"yours: RL", "yours: SFT"}
    assert lines["yours: RL"].get_xdata()[0] == 0


def test_the_model_as_delivered_is_a_point_of_its_own():
    base = RESULTS[(RESULTS.source == "ours") & (RESULTS.method == "init")]
    base = base.assign(method="base", step=0, value=base.value / 2)
    lines = label_lines(plots.explore(pd.concat([RESULTS, base]), x="step").axes[0])
    assert list(lines["base"].get_xdata()) == [0]


def test_an_init_of_yours_without_arms_does_not_stand_for_ours():
    lone = RESULTS[(RESULTS.source == "ours") & (RESULTS.method == "init")]
    lone = lone.assign(source="yours", run_id="lone", value=lone.value / 2)
    ours = label_lines(plots.explore(RESULTS).axes[0])["RL"].get_ydata()
    both = label_lines(plots.explore(pd.concat([RESULTS, lone])).axes[0])["RL"].get_ydata()
    assert list(both) == pytest.approx(list(ours))


def test_a_rollouts_episode_is_rendered_with_every_try():
    wrong = Verdict(False, -1.0, "wrong_value", "your formula equals 23 and not 24")
    right = Verdict(True, 5.0, "solved", "correct")
    played = Episode(None, [Turn([1], [2], "first", wrong), Turn([3], [4], "second", right)])
    row = episode_row("What is 24?", played, split="rule_ood")
    assert row["solved"] and row["turns"] == ["first", "second"]
    page = render_episode(row)
    assert "Try 2" in page and "wrong value (-1): your formula equals 23" in page
    assert "solved (+5)<" in page and "split rule_ood" in page


def test_rendered_episode_never_interprets_what_a_model_wrote():
    page = render_episode(EPISODE)
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;J&lt;/b&gt;" in page and "no &amp; no" in page
    assert "illegal formula (-3)" in page and "index 4" in page


def test_episode_viewer_steps_through_and_filters():
    solved = EPISODE | {"solved": True, "index": 5}
    viewer = episode_viewer([EPISODE, solved, EPISODE | {"index": 6}])
    (which, number, back, on), page = viewer.children[0].children, viewer.children[1]
    assert back.disabled and "index 4" in page.value
    on.click()
    assert number.value == 2 and "index 5" in page.value
    which.value = "failed"
    assert number.value == 2 and "index 6" in page.value and on.disabled
    which.value = "solved"
    assert number.value == 1 and "index 5" in page.value and back.disabled and on.disabled
    with pytest.raises(SftrlError, match="no episodes to show"):
        episode_viewer([])


def test_a_forest_names_each_verdict_and_draws_no_change_that_is_not_there():
    row = {"label": "A", "method": "rl", "change": 0.05, "lo": 0.02, "hi": 0.08}
    nothing = dict.fromkeys(("change", "lo", "hi"), float("nan"))
    rows = [row | {"verdict": "supported"}, row | nothing | {"label": "B", "verdict": "not run"}]
    figure = lessons.forest(rows, "Claims", "caption")
    assert figure.alt == "Claims. A: +5.0 [+2.0, +8.0], supported; B: not run."
    assert [text.get_text() for text in figure.axes[0].texts] == ["supported", "not run"]
    assert len(figure.axes[0].containers) == 1


def test_shares_of_one_seed_carry_its_interval_and_of_several_theirs():
    one = pd.DataFrame({"value": [0.4], "lo": [0.3], "hi": [0.5]})
    two = pd.DataFrame({"value": [0.4, 0.6], "lo": [0.3] * 2, "hi": [0.7] * 2})
    figure = lessons.shares_of({"left": {"init": one, "rl": two}}, "Said", "", "said (%)")
    assert figure.alt == "Said. left: init 40%, RL 50%."
    drawn = [c[2][0].get_segments()[0][:, 1] for c in figure.axes[0].containers]
    assert list(drawn[0]) == pytest.approx([30, 50])
    assert drawn[1][0] == pytest.approx(0) and drawn[1][1] == pytest.approx(100)  # t of two seeds


def test_reading_by_value_leaves_the_training_value_out_of_both_means():
    rows = [("sft", 5, 5), ("sft", 10, 6), ("sft", 10, 10), ("sft", 10, 11)]
    rows += [("init", v, v) for v in (5, 6, 10, 11)]
    read = pd.DataFrame(rows, columns=["method", "said", "true"])
    figure = lessons.by_value({"text": read}, training=10)
    assert "text, SFT, 5 to 6: 50%; text, SFT, 11 to 11: 0%" in figure.alt
    assert "text, init, 5 to 6: 100%; text, init, 11 to 11: 100%" in figure.alt


def test_temperatures_are_means_over_seeds():
    by = {0.0: {1: 0.8, 2: 0.6}, 1.0: {1: 0.5, 2: 0.5}}
    figure = lessons.temperatures({"new routes": {"init": by}}, "right (%)")
    assert "new routes, init: 70.0% at 0, 50.0% at 1" in figure.alt


def test_reasons_say_where_both_lines_begin_and_end_and_name_two_that_meet_once():
    rows = pd.DataFrame({"seed": 0, "step": [0, 5, 10], "value": [0.4, 0.2, 0.1]})
    other = rows.assign(value=[0.5, 0.6, 0.7])
    panels = {
        "RL": ("rl", {"turn": other, "sentence": rows}),
        "SFT": ("sft", {"a": rows, "b": rows}),
    }
    figure = reasons.draw(panels, "rule_ood")
    assert "RL: turn 50% to 70%, sentence 40% to 10%" in figure.alt
    names = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert names == [["turn", "sentence"], ["a\nb"]]
