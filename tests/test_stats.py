"""Intervals, paired tests and matched curves against values worked out elsewhere."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_fixture import live, synthetic, table, with_ablation

from sftrl_lib import stats
from sftrl_lib.registry import ABLATIONS

TRIES = ABLATIONS["tries"]


def test_wilson_matches_a_published_example():
    """Newcombe (1998), table I: 81 of 263, score interval without continuity correction."""
    value, lo, hi = stats.wilson(81, 263)
    assert (round(value, 4), round(lo, 4), round(hi, 4)) == (0.3080, 0.2553, 0.3662)


def test_wilson_never_leaves_the_unit_interval_and_narrows_with_n():
    for n in range(1, 200):
        none, all_ = stats.wilson(0, n), stats.wilson(n, n)
        assert none.lo == none.value == 0 < none.hi < 1
        assert 0 < all_.lo < 1 == all_.value == all_.hi
    few, many = stats.wilson(3, 20), stats.wilson(150, 1000)
    assert many.hi - many.lo < few.hi - few.lo
    with pytest.raises(ValueError, match="between 0 and n"):
        stats.wilson(3, 2)


def test_clusters_of_one_are_independent_trials():
    hits = [1] * 30 + [0] * 70
    ours, plain = stats.clustered_interval(hits, [1] * 100), stats.wilson(30, 100)
    assert ours.value == plain.value
    assert ours.lo == pytest.approx(plain.lo, abs=2e-3)


def test_identical_answers_within_a_cluster_count_once():
    """Ten copies of each of 30 trials carry the information of 30 trials, not of 300."""
    copied = stats.clustered_interval([10] * 12 + [0] * 18, [10] * 30)
    single, naive = stats.wilson(12, 30), stats.wilson(120, 300)
    assert copied.hi - copied.lo == pytest.approx(single.hi - single.lo, rel=0.03)
    assert copied.hi - copied.lo > 2 * (naive.hi - naive.lo)


def test_all_wrong_counts_every_cluster_once():
    assert stats.clustered_interval([0] * 8, [5] * 8) == stats.wilson(0, 8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_clustered_interval_contains_its_estimate(pairs):
    hits, sizes = [min(p) for p in pairs], [max(p) for p in pairs]
    value, lo, hi = stats.clustered_interval(hits, sizes)
    if sum(sizes):
        assert 0 <= lo <= value <= hi <= 1
        assert value == sum(hits) / sum(sizes)
    else:
        assert math.isnan(value)


def test_paired_change_is_the_t_test_on_common_seeds_only():
    """Differences 1, 2, 3, 4: mean 2.5, standard error 0.6455, t = 3.873, 3 degrees: p = 0.0305."""
    before = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0, 8: 50.0}
    change = stats.paired_change(before, {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 9: -50.0})
    assert (change.mean, change.seeds) == (2.5, 4)
    assert change.p == pytest.approx(0.0305, abs=5e-5)
    assert (change.lo, change.hi) == pytest.approx((0.446, 4.554), abs=1e-3)


def test_one_seed_gives_no_interval_and_no_p():
    change = stats.paired_change({0: 0.1}, {0: 0.3})
    assert change.mean == pytest.approx(0.2)
    assert math.isnan(change.p) and math.isnan(change.lo)


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then made monotone."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_p_and_bonferroni(ps):
    for p, adjusted in zip(ps, stats.holm(ps), strict=True):
        assert p <= adjusted <= min(1.0, p * len(ps)) + 1e-12


def test_matched_level_is_the_highest_x_both_reach():
    a = stats.Curve.of([0, 10, 20], [5, 6, 7], [1, 1, 1])
    b = stats.Curve.of([0, 5, 10], [5, 3, 1], [1, 1, 1])
    assert stats.at_matched(a, b) == (10, 6, 1)
    assert a.at(15) == 6.5


def test_a_step_back_of_x_is_pooled_with_its_neighbour():
    curve = stats.Curve.of([0, 12, 10, 20], [0, 4, 8, 10], [1, 1, 3, 1])
    assert list(curve.x) == [0, 10.5, 20]
    assert list(curve.y) == [0, 7, 10]


def test_curve_starts_at_the_init_of_its_own_seed():
    rows = stats.curve(synthetic(), "rl", "rule_ood", "success", 3)
    start = rows[rows.step == 0].set_index("seed")
    init = stats.last(synthetic(), "init", "rule_ood", "success", 3)
    assert (start.compute == 3e13).all()
    assert dict(start.value) == dict(init.value)
    assert len(rows) == 5 * 6


def test_ablation_of_tries_keeps_what_only_spends_equal_compute():
    rows = with_ablation(synthetic())
    fewer = rows.assign(condition='{"steps": 80, "tries": 10}')
    other = rows.assign(condition='{"kl_weight": 0.1, "tries": 10}')
    short = rows.assign(condition='{"steps": 5}')
    assert set(TRIES.rows(rows).train_tries) == {1, 3, 10}
    assert set(TRIES.rows(rows).method) == {"rl"}
    assert len(TRIES.rows(fewer)) == len(TRIES.rows(rows))
    assert len(TRIES.rows(other)) == len(TRIES.rows(short)) == 0


def test_main_grid_leaves_out_ablations_other_foundations_and_development_seeds():
    results = synthetic(seeds=(0, 100))
    other = results.assign(condition='{"tries": 1}')
    assert set(stats.main_grid(results).seed) == {0}
    assert len(stats.main_grid(other)) == 0
    assert len(stats.main_grid(results.assign(foundation="young"))) == 0


def test_yours_are_the_grid_of_a_tier_of_which_none_is_recorded():
    book = synthetic(seeds=(0, 1))
    mine = book.assign(source="yours", preset="llama-11b")
    both = table([*book.to_dict("records"), *mine.to_dict("records")])
    tiers = stats.main_grid(both).groupby("source").preset.unique()
    assert {source: list(tier) for source, tier in tiers.items()} == {
        "ours": ["tiny"], "yours": ["llama-11b"],
    }  # fmt: skip


def test_yours_do_not_mix_with_the_recorded_grid():
    book = synthetic(seeds=(0,))
    both = table([*book.to_dict("records"), *book.assign(source="yours").to_dict("records")])
    assert set(stats.main_grid(both).source) == {"ours"}
    assert set(TRIES.rows(both).source) == {"ours"}


def test_headline_tries_are_the_most_that_all_runs_share():
    results = synthetic(seeds=(0,))
    short = live()
    assert stats.headline_tries(results) == 3
    both = table([*results.to_dict("records"), *short[short.tries < 3].to_dict("records")])
    assert stats.headline_tries(both) == 2


@pytest.mark.parametrize(("mine", "shown"), [((0,), "ours"), ((5, 6, 7), "yours")])
def test_one_recorded_seed_does_not_hide_more_of_yours(mine, shown):
    both = [synthetic(seeds=seeds).query("source == 'ours'") for seeds in ((0,), mine)]
    both = pd.concat([both[0], both[1].assign(source="yours")], ignore_index=True)
    assert set(stats.recorded(both.assign(preset="smol")).source) == {shown}


def test_a_recorded_init_alone_does_not_hide_your_arms():
    ours = synthetic(seeds=(0,)).query("source == 'ours'").assign(preset="smol")
    mine, ours = ours.assign(source="yours"), ours[ours.method == "init"]
    both = stats.recorded(pd.concat([ours, mine]))
    assert set(both.source) == {"yours"} and set(stats.recorded(ours).source) == {"ours"}
