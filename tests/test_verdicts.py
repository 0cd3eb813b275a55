"""The second edition's claims: what is registered, and how rows become verdicts."""

import json
import math

import pandas as pd
import pytest

from sftrl_lib.results import COLUMNS
from sftrl_lib.stats import paired_change
from study import registration, verdicts

SEEDS = [10, 11, 12, 13, 14]
ROW = {"id": "walks", "section": "virl-l", "split": "rule_ood", "metric": "per_step", "sign": 1}


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """A study of one section, with arms of two steps."""
    whole = {
        "common": {"eval_temperature": 0.2},
        "arms": {"virl-l": {"sft": {"steps": 2}, "rl": {"steps": 2}}},
        "sections": {"virl-l": [{"task": ["virl-l"], "method": ["sft", "rl"], "seed": SEEDS}]},
        "margins": {"virl-l": 0.03},
        "families": {"primary": {"seeds": {"virl-l": 5}, "rows": [ROW | {"contrast": "rl-sft"}]}},
    }
    path = tmp_path / "registration.json"
    path.write_text(json.dumps(whole))
    monkeypatch.setattr(registration, "REGISTRATION", path)
    caches = (registration.registration, registration.sections)
    for cached in caches:
        cached.cache_clear()
    yield whole
    for cached in caches:
        cached.cache_clear()


def table(**ends):
    """Rows of {arm: values by seed}, at the end of each run; the init in RL's runs, at step 0."""
    rows = []
    for exp in registration.sections()["virl-l"]:
        own = exp.method.name
        for method in (own, "init") if own == "rl" else (own,):
            for seed, value in zip(SEEDS, ends[method], strict=True):
                step = 0 if method == "init" else 2
                facts = {"method": method, "seed": seed, "step": step, "value": value}
                facts |= {"run_id": exp.run_id, "split": "rule_ood", "metric": "per_step"}
                if seed == exp.seed:
                    rows.append({"condition": '{"steps": 2}', "tries": 2, **facts})
                    cooler = {"condition": '{"eval_temperature": 0.0}', "tries": 2}
                    rows.append({**cooler, **facts, "value": 0.0})
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_contrast_that_holds_in_every_seed_is_supported(registered, tmp_path):
    rl, sft = [0.8, 0.82, 0.79, 0.81, 0.8], [0.1, 0.2, 0.15, 0.12, 0.1]
    (row,) = verdicts.family(table(rl=rl, sft=sft, init=[0.8] * 5), "primary", tmp_path)
    assert row["verdict"] == "supported" and row["n"] == 5
    assert row["change"] == pytest.approx(sum(rl) / 5 - sum(sft) / 5)
    assert row["p_exact"] == 2 / 32


def test_a_row_says_its_change_with_interval_and_what_would_decide_it(registered, tmp_path):
    unsure, low = [0.2, 0.1, 0.3, 0.15, 0.1], [0.1, 0.2, 0.15, 0.12, 0.1]
    (row,) = verdicts.family(table(rl=unsure, sft=low, init=low), "primary", tmp_path)
    assert row["verdict"] == "inconclusive"
    assert verdicts.said(row) == f"inconclusive ({row['seeds_needed']} seeds would tell)"
    shown = f"{100 * row['change']:+.1f} [{100 * row['lo']:+.1f}, {100 * row['hi']:+.1f}]"
    assert verdicts.points(row) == shown and row["lo"] < 0 < row["hi"]
    (row,) = verdicts.family(table(rl=low, sft=low, init=low)[:0], "primary", tmp_path)
    assert (verdicts.said(row), verdicts.points(row)) == ("not run", "–")


def test_figures_draw_the_registered_temperature_of_the_seeds_that_all_arms_have_ended(registered):
    rows = table(rl=[0.8] * 5, sft=[0.1] * 5, init=[0.8] * 5).assign(source="ours")
    rows = rows[(rows.method != "sft") | (rows.seed != 14)]
    drawn = registration.confirmed(rows, "virl-l")
    assert set(drawn.seed) == {10, 11, 12, 13} and set(drawn.value) == {0.1, 0.8}
    assert set(drawn.condition) == {"{}"} and set(drawn.foundation) == {"default"}
    assert registration.confirmed(rows[:0], "virl-l").empty


def test_the_other_sign_is_contradicted(registered, tmp_path):
    low, high = [0.1, 0.2, 0.15, 0.12, 0.1], [0.8, 0.82, 0.79, 0.81, 0.8]
    (row,) = verdicts.family(table(rl=low, sft=high, init=low), "primary", tmp_path)
    assert row["verdict"] == "contradicted"


def test_other_temperatures_are_not_the_headline(registered):
    values = [0.8, 0.82, 0.79, 0.81, 0.8]
    rows = table(rl=values, sft=values, init=values)
    where = ("virl-l", "rl", "rule_ood", "per_step", 2)
    assert verdicts.ends(rows, *where) == dict(zip(SEEDS, values, strict=True))
    assert set(verdicts.ends(rows, *where, temperature=0.0).values()) == {0.0}


def test_fewer_seeds_than_registered_are_no_result(registered, tmp_path):
    values = [0.8, 0.82, 0.79, 0.81, 0.8]
    rows = table(rl=values, sft=[0.1] * 5, init=values)
    (row,) = verdicts.family(rows[rows.seed < 14], "primary", tmp_path)
    assert row["verdict"] == "not run" and row["n"] == 4 and math.isnan(row["p_holm"])


def change(*differences):
    return paired_change(dict.fromkeys(range(len(differences)), 0.0), dict(enumerate(differences)))


def test_a_small_change_seen_sharply_is_equivalent_and_seen_dimly_inconclusive():
    sharp, dim = change(0.001, -0.001, 0.002, -0.002, 0.0), change(0.1, -0.05, 0.12, -0.03, 0.05)
    assert verdicts.verdict(sharp, 1.0, 1, 0.01, 5) == "equivalent"
    assert verdicts.verdict(dim, 1.0, 1, 0.01, 5) == "inconclusive"
    assert verdicts.seeds_needed(dim) > 5


def test_sign_flip_counts_patterns():
    assert verdicts.sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    assert verdicts.sign_flip([1.0, -1.0]) == 1.0


def test_bootstrap_draws_hands_that_seeds_share():
    """All that differs between seeds is one hand, which they share: more seeds do not help."""
    before = {s: {"a": (0, 10), "b": (0, 10)} for s in SEEDS}
    after = {s: {"a": (10, 10), "b": (0, 10)} for s in SEEDS}
    lo, hi = verdicts.bootstrap(before, after)
    assert lo == 0.0 and hi == 1.0
    assert all(map(math.isnan, verdicts.bootstrap({}, {})))


def test_what_is_registered_can_be_run_and_judged():
    """Every section's settings are those of some experiment; families name sections and arms."""
    whole = registration.registration()
    for name, runs in registration.sections().items():
        assert len({exp.hash for exp in runs}) == len(runs), name
    families = {name: family["rows"] for name, family in whole["families"].items()}
    assert [len(families[n]) for n in ("primary", "secondary", "mechanism")] == [6, 12, 4]
    for row in (row for rows in families.values() for row in rows):
        assert {row["section"], row.get("against", row["section"])} <= set(whole["sections"])
        assert row["sign"] in (1, -1)
        assert set(row["contrast"].split("-")) <= {"init", "sft", "rl"}


def test_a_contrast_of_two_sections_pairs_their_seeds(registered, tmp_path, monkeypatch):
    """The same arm under two rewards: row by row against the run of the same seed."""
    rows = table(rl=[0.8] * 5, sft=[0.1] * 5, init=[0.7] * 5)
    other = rows[rows.method == "rl"].assign(run_id="quoted-" + rows.run_id)
    other = other.assign(value=other.value + 0.01 * other.seed - 0.2)
    plain = registration.sections()["virl-l"]

    class Quoted:
        method = plain[0].method

        def __init__(self, exp):
            self.seed, self.method, self.run_id = exp.seed, exp.method, f"quoted-{exp.run_id}"

    quoted = [Quoted(exp) for exp in plain if exp.method.name == "rl"][1:]
    monkeypatch.setattr(verdicts, "sections", lambda: {"virl-l": plain, "quoted": quoted})
    registered["sections"]["quoted"] = registered["sections"]["virl-l"]
    registered["families"]["quoted"] = {
        "seeds": {"quoted": 4},
        "rows": [ROW | {"section": "quoted", "against": "virl-l", "contrast": "rl-rl"}],
    }
    registration.REGISTRATION.write_text(json.dumps(registered))
    registration.registration.cache_clear()
    (row,) = verdicts.family(pd.concat([rows, other]), "quoted", tmp_path)
    assert row["n"] == 4 and row["change"] == pytest.approx(0.01 * 12.5 - 0.2)
    assert row["against"] == dict(zip(SEEDS, [0.8] * 5, strict=True))


def test_a_claim_whose_arms_are_not_chosen_yet_is_not_run(registered, tmp_path, monkeypatch):
    rows = table(rl=[0.8] * 5, sft=[0.1] * 5, init=[0.8] * 5)
    monkeypatch.setattr(verdicts, "sections", lambda: {"virl-l": []})
    (row,) = verdicts.family(rows, "primary", tmp_path)
    assert row["verdict"] == "not run" and row["n"] == 0 and math.isnan(row["change"])
