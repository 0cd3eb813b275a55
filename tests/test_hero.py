"""The cover's figures, drawn from made-up rows."""

from itertools import product

import matplotlib
import pandas as pd
import pytest
from results_fixture import rows, synthetic

from commons.errors import SftrlError
from sftrl_lib.places import ROOT
from sftrl_lib.results import load_results
from study import hero
from study.plots import style_of

READ = pd.DataFrame(
    [(m, said, 12) for m in hero.ARMS for said in (12, 12, 10, None)] + [("sft", 10, 12)] * 6,
    columns=["method", "said", "true"],
)


def test_shares_of_what_is_said_sum_to_a_hundred_and_no_answer_is_something_else():
    shares = hero.shares(READ)
    assert list(shares.loc["init"]) == [50, 25, 25]
    assert list(shares.loc["sft"]) == [20, 70, 10]


def test_a_ten_that_the_rule_asks_for_is_what_the_rule_says():
    assert list(hero.shares(READ.assign(said=10, true=10)).loc["rl"]) == [100, 0, 0]


def test_the_hero_says_in_words_what_it_draws():
    figure = hero.hero(synthetic(), dict.fromkeys(hero.RULES, READ))
    slopes, bars = figure.axes
    ends = {line.get_color(): line.get_ydata() for line in slopes.lines}
    sft = ", ".join(f"{height:.0f}%" for height in ends[style_of("sft")["color"]])
    assert f"SFT {sft}" in figure.alt and len(sft.split()) == len(hero.STAGES)
    assert figure.alt.count("SFT 20% what the rule says, 70% 10, the training rule") == 2
    widths = [bar.get_width() for bar in bars.patches]
    assert len(widths) == 2 * 3 * 3 and sum(widths) == pytest.approx(600)


def walked() -> pd.DataFrame:
    """One seed's ends on walks: SFT finds what the init finds, and says it in old words."""
    turns = {"init": (0.7, 0.7), "rl": (0.5, 0.5), "sft": (0.7, 0.1)}
    made = []
    for method, (found, right) in turns.items():
        here = dict(task="virl-l", run_id=f"walk-{method}", train_tries=2)
        for split, metric in product(hero.WALK_STAGES, ("success", "per_step")):
            made.append(rows(method, 10, 9, split, metric, 0.8, 100, 2, **here))
        for metric, value in (("turn_found", found), ("turn_accuracy", right)):
            made.append(rows(method, 10, 9, "rule_ood", metric, value, 100, **here))
    return pd.DataFrame(made)


def test_the_walks_show_a_right_turn_in_old_words_between_the_right_and_the_wrong():
    figure = hero.walks(walked())
    slopes, bars = figure.axes
    drawn = [round(bar.get_width()) for bar in bars.patches]
    assert drawn == [70, 0, 30, 50, 0, 50, 10, 60, 30]
    assert "SFT 10% the right turn, in the new words, 60% the right turn, in the old words" in (
        figure.alt
    )
    assert [tick.get_text() for tick in slopes.get_xticklabels()] == [*hero.WALK_STAGES.values()]


def test_numbers_of_the_slopes_stand_on_the_side_where_lines_are_flatter():
    heights = {"init": [70, 70, 71], "sft": [90, 88, 3]}
    assert hero._steepest(heights, 2) == 85 and hero._steepest(heights, 1) == 2
    axis = hero.walks(walked()).axes[0]
    middle = [text for text in axis.texts if 0.5 < text.get_position()[0] < 1.5]
    assert {text.get_ha() for text in middle} == {"left"}  # all rows of `walked` are level
    falls = walked()
    falls.loc[(falls.method == "sft") & (falls.split == "rule_ood"), "value"] = 0.1
    axis = hero.walks(falls).axes[0]
    middle = [text for text in axis.texts if 0.5 < text.get_position()[0] < 1.5]
    assert {text.get_ha() for text in middle} == {"right"}


def test_nothing_is_drawn_of_rows_that_are_not_there():
    with pytest.raises(SftrlError, match="no results for success on id_seen"):
        hero.hero(load_results(ROOT / "none.csv", yours=None), {})
    with pytest.raises(SftrlError, match="none of the paper's twelve cells was run"):
        hero.forest(CELLS)


CELLS = [
    {"id": f"{cell}.{method}", "paper": {"init": 0.1, method: 0.2}, "change": None, "verdict": "-"}
    | {"edition": "first"}
    for cell in hero.CELLS
    for method in ("rl", "sft")
]


def test_the_second_edition_stands_where_it_is_decided_and_the_first_elsewhere():
    again = {"change": -0.5, "lo": -0.6, "hi": -0.4}
    second = [
        again | {"id": "gp-l.rule.rl", "verdict": "contradicted"},
        again | {"id": "gp-l.rule.sft", "verdict": "not run"},
    ]
    found = {row["id"]: row for row in hero.newest(CELLS, second)}
    assert list(found) == [row["id"] for row in CELLS]
    decided = found["gp-l.rule.rl"]
    assert decided["edition"] == "second" and decided["verdict"] == "contradicted"
    assert decided["change"] == {"mean": -0.5, "lo": -0.6, "hi": -0.4}
    assert found["gp-l.rule.sft"] == CELLS[1]


def test_the_forest_shows_ours_with_an_interval_and_the_papers_hollow():
    change = {"mean": -0.02, "lo": -0.03, "hi": -0.01}
    figure = hero.forest([CELLS[0] | {"change": change, "verdict": "not supported"}, *CELLS[1:]])
    (axis,) = figure.axes
    paper = [line for line in axis.lines if line.get_fillstyle() == "none"]
    assert [line.get_xdata()[0] for line in paper] == pytest.approx([10] * 12)
    (ours,) = axis.containers
    assert ours.lines[0].get_xdata()[0] == pytest.approx(-2)
    said = "RL: paper +10.0, here -2.0 [-3.0, -1.0], not supported (first edition)."
    assert said in figure.alt and figure.alt.count("here not run") == 11


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_shows_through_and_text_stands_out_from_it(dark):
    figure = hero.hero(synthetic(), {"rule_ood": READ}, dark=dark)
    assert {
        patch.get_facecolor()[3] for patch in (figure.patch, *(a.patch for a in figure.axes))
    } == {0}
    title = matplotlib.colors.to_rgb(figure.axes[0].title.get_color())
    assert (sum(title) > 2) == dark
