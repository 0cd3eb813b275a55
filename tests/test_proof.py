"""The parts of `make proof-11b` and `make gpu-check`, on a small model and a CPU."""

import copy
import importlib
import json

import bitsandbytes as bnb
import pytest
import torch

from sftrl_lib import foundation, plan
from sftrl_lib.config import Experiment
from sftrl_lib.policy import Policy, adapt, load_policy
from sftrl_lib.runs import ROOT


def script(name: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # as of a script that lies there
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def proof():
    return script("proof_11b")


@pytest.fixture(scope="module")
def check():
    return script("gpu_check")


def test_random_weights_are_packed_as_a_loaded_model_is(proof):
    drawn = proof.random_nf4(copy.deepcopy(foundation.build_model().config))
    loaded = load_policy(Experiment(precision="qlora")).model.get_base_model()
    types = {n: p.dtype for n, p in adapt(drawn, 16).get_base_model().named_parameters()}
    assert types == {n: p.dtype for n, p in loaded.named_parameters()}
    packed = [m.weight for m in drawn.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(packed) == 6 * 7 and all(w.quant_state.nested for w in packed)
    assert all(torch.isfinite(p).all() for p in drawn.parameters() if p.is_floating_point())


def test_rewards_of_the_proof_differ_so_that_there_is_a_gradient(proof):
    task = proof.Graded(pictures=True)
    deal = task.item("train", 0, 0)
    assert [task.verify(deal, "").reward for _ in range(3)] == [-2.0, -1.0, -2.0]


@pytest.mark.parametrize("stage", plan.STAGES)
def test_the_recorded_proof_fits_24_gb_and_is_within_15_percent_of_the_plan(proof, stage):
    (row,) = [r for r in json.loads(proof.OUT.read_text())["stages"] if r["stage"] == stage]
    shape = plan.Shape(plan.architecture(Experiment(**proof.SETTINGS)), 16)
    exp = Experiment(**proof.SETTINGS).but(method="sft" if stage == "sft" else "rl")
    policy = load_policy(Experiment(task="gp-vl"))  # has the tokens of the proof
    planned = proof.planned(exp, stage, shape, policy, proof.Graded(pictures=True))
    assert row["peak_gb"] < 24 and row["peak_gb"] == pytest.approx(planned, rel=0.15)


def test_short_runs_of_the_small_tier_took_no_more_than_the_plan():
    rows = json.loads((ROOT / "data" / "proof" / "memory.json").read_text())["rows"]
    assert {row["stage"] for row in rows} == set(plan.STAGES)
    for row in rows:
        exp = Experiment(
            task=row["task"], precision=row["precision"],
            method="sft" if row["stage"] == "sft" else "rl",
        )  # fmt: skip
        exp, shape = exp.but(final_episodes=exp.chunk), plan.Shape(plan.architecture(exp), exp.rank)
        planned = plan.total(plan.pieces(exp, row["stage"], shape, "cpu"), "cpu") / plan.GB
        assert row["peak_gb"] < 1.15 * planned, row


def test_four_bit_products_are_those_of_the_unpacked_weights(check):
    assert check.four_bits("cpu") < 0.02


def test_stages_of_the_check_run_in_four_bits_on_pictures_and_are_planned(check):
    settings = dict(
        task="gp-vl", precision="qlora", group=2, micro_batch=2, tries=2, eval_tries=2,
        max_new_tokens=6,
    )  # fmt: skip
    exp = Experiment(**settings)
    loaded = load_policy(exp)
    policy = Policy(loaded.model, loaded.processor, "qlora", chunk=4)
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    rows = check.stages(exp, policy, "cpu")
    now = dict(policy.model.named_parameters())
    moved = {n for n, p in before.items() if not torch.equal(p, now[n])}
    assert moved and all("lora_" in name for name in moved)
    assert [row["stage"] for row in rows] == ["sft", "rl", "evaluate"]
    assert all(row["planned_gb"] > 0 for row in rows)
