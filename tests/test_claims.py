"""Verdicts on made-up results whose truth is known."""

import json

import pytest
from results_fixture import as_navigation, synthetic, table, with_ablation

from sftrl_lib.places import ROOT
from sftrl_lib.results import load_results
from study import claims
from study.claims import CLAIMS, claims_table

PAPER = load_results(ROOT / "none.csv", yours=None)


def by_id(results):
    return {row["id"]: row for row in claims_table(results)}


def test_every_cell_and_figure_of_the_paper_is_listed_once():
    cells = {f"{t}.{s}.{m}" for t, s in (("gp-l", "rule"), ("gp-vl", "rule"), ("gp-vl", "visual"),
             ("virl-l", "rule"), ("virl-vl", "rule"), ("virl-vl", "visual"))
             for m in ("rl", "sft")}  # fmt: skip
    figures = {f"fig{n}" for n in (8, 9, 10, 15, 18, 19)}
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert cells <= set(ids)
    assert figures == {i.split(".")[-1] for i in ids if "fig" in i}
    assert {"gp-l.id.rl", "gp-l.id.sft", "gp-l.matched-id", "gp-l.matched-kl"} <= set(ids)


def test_without_results_nothing_was_run():
    rows = claims_table(PAPER)
    assert len(rows) == len(CLAIMS)
    assert {r["verdict"] for r in rows} == {"not run"}
    assert all(r["change"] is None and r["rl"] is None and r["seeds"] == 0 for r in rows)
    assert by_id(PAPER)["gp-l.rule.rl"]["paper"] == {"init": 0.115, "rl": 0.15, "sft": 0.034}


def test_changes_that_are_there_are_supported():
    rows = by_id(with_ablation(synthetic()))
    known = ("gp-l.rule.rl", "gp-l.rule.sft", "gp-l.id.rl", "gp-l.id.sft", "gp-l.matched-id",
             "gp-l.matched-kl", "gp-l.fig10")  # fmt: skip
    assert {i for i, r in rows.items() if r["verdict"] == "supported"} == set(known)
    assert {r["verdict"] for i, r in rows.items() if i not in known} == {"not run"}
    rl, sft = rows["gp-l.rule.rl"], rows["gp-l.rule.sft"]
    assert rl["change"]["mean"] == pytest.approx(0.06, abs=0.01)
    assert sft["change"]["mean"] == pytest.approx(-0.07, abs=0.01)
    assert (rl["seeds"], rl["n"], rl["tier"], rl["task"]) == (5, 1500, "tiny", "gp-l")
    assert rl["init"]["lo"] < rl["init"]["value"] < rl["init"]["hi"]


def test_navigation_is_judged_by_its_steps():
    rows = by_id(as_navigation(synthetic()))
    known = {"virl-l.rule.rl", "virl-l.rule.sft", "virl-l.id.rl", "virl-l.id.sft",
             "virl-l.matched-id", "virl-l.matched-kl"}  # fmt: skip
    assert {i for i, r in rows.items() if r["verdict"] == "supported"} == known
    assert {rows[i]["metric"] for i in known} == {"per_step"}


@pytest.mark.parametrize(("split", "verdict"), [("rule_ood", "not supported"), ("none", "not run")])
def test_ends_of_whole_routes_are_held_against_one_percent(split, verdict):
    walks = as_navigation(synthetic()).assign(task="virl-vl")
    row = by_id(walks[walks.split == split])["virl-vl.fig18"]
    assert row["verdict"] == verdict
    assert verdict == "not run" or row["change"]["mean"] > 0  # RL ends at 16%


def test_whole_routes_that_all_fail_are_below_one_percent():
    walks = as_navigation(synthetic()).assign(task="virl-vl")
    walks.loc[walks.metric == "success", "value"] *= 0.01
    assert by_id(walks)["virl-vl.fig18"]["verdict"] == "supported"


def test_recognition_is_compared_between_the_arms():
    seen = synthetic()
    seen = seen[seen.metric == "value_reading"].assign(metric="recognition")
    rows = by_id(seen.assign(task="gp-vl"))
    assert rows["gp-vl.fig8"]["verdict"] == "supported"
    assert rows["gp-vl.fig8"]["change"]["mean"] > 0.5


def test_the_wrong_sign_is_not_supported_however_small_p():
    row = by_id(synthetic(rl_gain=-0.05))["gp-l.rule.rl"]
    assert row["change"]["hi"] < 0 and row["p_holm"] < 1e-3
    assert row["verdict"] == "not supported"


def test_no_change_is_not_supported():
    row = by_id(synthetic(rl_gain=0.0))["gp-l.rule.rl"]
    assert row["verdict"] == "not supported"
    assert row["change"]["lo"] < 0 < row["change"]["hi"]


def test_p_is_corrected_over_the_claims_that_were_run():
    rows = [r for r in by_id(synthetic(rl_gain=0.004)).values() if r["change"]]
    smallest = min(rows, key=lambda r: r["change"]["p"])
    assert smallest["p_holm"] == pytest.approx(smallest["change"]["p"] * len(rows))
    assert all(r["p_holm"] >= r["change"]["p"] for r in rows)


def test_a_p_that_only_holds_uncorrected_is_not_supported(monkeypatch):
    monkeypatch.setattr(claims, "holm", lambda ps: [0.06] * len(ps))
    rows = by_id(synthetic())
    assert rows["gp-l.rule.rl"]["verdict"] == "not supported"


def test_fewer_seeds_than_the_protocol_asks_for_is_not_run():
    assert by_id(synthetic(seeds=(0, 1, 2, 3)))["gp-l.rule.rl"]["verdict"] == "not run"


def test_development_seeds_and_ablations_decide_nothing():
    assert by_id(synthetic(seeds=(100, 101)))["gp-l.rule.rl"]["verdict"] == "not run"
    other = synthetic().assign(condition='{"kl_weight": 0.1}')
    assert by_id(other)["gp-l.rule.rl"]["verdict"] == "not run"


def test_arms_are_paired_on_the_seed_whatever_the_order_of_the_rows():
    """The init differs by seed more than RL changes it; only pairing sees the change."""
    results = synthetic().copy()
    results["value"] += 0.05 * (results.seed % 3).astype(float)
    shuffled = table(results.sample(frac=1, random_state=0).to_dict("records"))
    row = by_id(shuffled)["gp-l.rule.rl"]
    assert row["verdict"] == "supported"
    assert row["change"]["hi"] - row["change"]["lo"] < 0.02


def test_matched_claims_compare_at_the_smaller_end():
    """RL ends at a KL of 0.8, SFT at 3.0: SFT is read off near 0.8, far above its end."""
    rows = by_id(synthetic())
    at_kl, end = rows["gp-l.matched-kl"], rows["gp-l.rule.sft"]
    assert at_kl["rl"]["value"] == pytest.approx(rows["gp-l.rule.rl"]["rl"]["value"])
    assert at_kl["sft"]["value"] > end["sft"]["value"] + 0.02


def test_tiers_are_separate_families():
    results = synthetic()
    both = table([*results.to_dict("records"),
                  *results.assign(preset="llama-11b").to_dict("records")])  # fmt: skip
    rows = claims_table(both)
    assert [r["tier"] for r in rows[:: len(CLAIMS)]] == ["llama-11b", "tiny"]
    alone = {r["id"]: r["p_holm"] for r in claims_table(results)}
    assert {r["id"]: r["p_holm"] for r in rows if r["tier"] == "tiny"} == alone


def test_a_tier_with_too_few_seeds_is_not_listed():
    one = synthetic(seeds=(0,)).assign(preset="smol")
    both = table([*synthetic().to_dict("records"), *one.to_dict("records")])
    assert {r["tier"] for r in claims_table(both)} == {"tiny"}


def test_command_prints_a_table_or_strict_json(monkeypatch, capsys):
    monkeypatch.setattr(claims, "load_results", synthetic)
    claims.main(as_json=True)
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {"id", "statement", "tier", "task", "split", "metric", "n", "seeds", "init", "sft", "rl",
            "test", "verdict", "command"} <= set(rows[0])  # fmt: skip
    claims.main()
    text = capsys.readouterr().out
    line = next(x for x in text.splitlines() if x.startswith("tiny gp-l.rule.rl"))
    assert "supported" in line and "5 x 1500" in line and "+6.0 [" in line
    assert all(len(x) <= 160 for x in text.splitlines() if x.startswith("tiny"))
