"""Figures of notebooks 06 and 07, from the recorded rows."""

from functools import cache

import pandas as pd
import pytest

from commons.errors import SftrlError
from sftrl_lib.registry import ABLATIONS
from sftrl_lib.results import load_results
from study import followups, one_knob, plots


@cache
def results() -> pd.DataFrame:
    return load_results(yours=None, preset="tiny")


def test_the_star_stands_on_the_highest_point_under_the_new_rule():
    curves = followups.sft_curves(results())
    for axis, splits in zip(followups.draw_sft_curves(curves).axes, curves.values(), strict=True):
        (star,) = [line for line in axis.lines if line.get_marker() == "*"]
        mean = splits["rule_ood"].groupby("step").y.mean()
        assert star.get_xdata()[0] == mean.idxmax()
        assert star.get_ydata()[0] == pytest.approx(mean.max())


def test_every_path_of_distances_starts_at_the_init():
    found = followups.distances(results())
    assert list(found) == ["cards", "cards in pictures", "walks", followups.WALKS, "street views"]
    for rows in found.values():
        start = rows[rows.step == 0]
        assert set(rows.method) == {"sft", "rl"} and not start.y.any() and not start.x.any()
    assert len(followups.draw_distances(found).axes) == len(found)


def test_without_a_kl_there_is_nothing_to_draw_and_one_sentence():
    with pytest.raises(SftrlError, match="no arm of the tier tiny has measured its KL"):
        followups.distances(results().query("metric != 'kl_to_init'"))


def test_ends_are_read_at_each_temperature_on_the_same_seeds():
    ends = followups.at_temperatures(results())
    seeds = ends.groupby(["method", "split", "temperature"]).seed.apply(frozenset)
    assert len(set(seeds)) == 1 and len(seeds) == 3 * 2 * len(followups.TEMPERATURES)
    alt = followups.draw_temperatures(ends).alt
    assert "ID, unseen, init:" in alt and "at 0.2" in alt


def test_a_gain_is_the_mean_of_differences_within_seeds():
    rows = [
        (method, seed, "id_unseen", 0.0, y)
        for method, ys in {"init": (50, 60), "rl": (60, 80)}.items()
        for seed, y in enumerate(ys)
    ]
    ends = pd.DataFrame(rows, columns=["method", "seed", "split", "temperature", "y"])
    assert followups.gains(ends)[0.0] == 15


def test_the_ring_is_around_the_chosen_rate():
    tried = one_knob.attempts("virl-l", "two-cities", "per_step", 2)
    figure = one_knob.draw_rates(tried, "t", "y", {"validation": "v"}, {"sft": 1e-3, "rl": 3e-4})
    rings = [line for line in figure.axes[0].lines if line.get_markersize() == 13]
    assert [float(ring.get_xdata()[0]) for ring in rings] == pytest.approx([1e-3, 3e-4])


def test_gains_by_tries_are_those_of_the_tries_figure():
    arms = ABLATIONS["tries"].rows(results())
    init = results().query("task == 'gp-l' and method == 'init' and foundation == 'default'")
    gains = one_knob.gains_by_tries(plots.stack(arms, init))
    alt = (plots.ROOT / "figures/gp-l-training_tries.alt.txt").read_text()
    for tries, gain in gains.items():
        word = "try" if tries == 1 else "tries"
        assert f"{tries} {word} {100 * gain.mean:+.1f}" in alt


def test_bars_of_the_price_are_multiples_of_one_try_s_plan():
    price = one_knob.price_of_tries(ABLATIONS["tries"].rows(results()))
    nominal, executed = one_knob.draw_price(price).axes[0].containers
    assert min(bar.get_height() for bar in nominal) == 1
    assert executed[-1].get_height() > executed[0].get_height()
