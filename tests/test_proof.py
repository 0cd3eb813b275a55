"""The parts of `make proof-11b` and `make gpu-check`, on a small model and a CPU."""

import copy
import importlib
import json
import math

import bitsandbytes as bnb
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig

from engine import memory
from engine.adapters import adapt
from engine.policy import Policy
from foundry import foundation
from sftrl_lib import planning
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.policies import load_policy

SMOL = LlamaConfig(  # SmolLM2-135M
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True,
)  # fmt: skip


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
    task = proof.Graded()
    deal = task.item("train", 0, 0)
    assert [task.verify(deal, "").reward for _ in range(3)] == [-2.0, -1.0, -2.0]


@pytest.mark.parametrize("stage", memory.STAGES)
def test_the_recorded_proof_fits_24_gb_and_is_planned(proof, stage):
    (row,) = [r for r in json.loads(proof.OUT.read_text())["stages"] if r["stage"] == stage]
    shape = memory.Shape(planning.architecture(Experiment(**proof.SETTINGS)), 16)
    exp = Experiment(**proof.SETTINGS).replace(method="sft" if stage == "sft" else "rl")
    policy = load_policy(Experiment(task="gp-vl"))  # has the tokens of the proof
    planned = proof.planned(exp, stage, shape, policy, proof.Graded())
    assert row["peak_gb"] < 24 and 0.75 < planned / row["peak_gb"] < 1.15


def test_short_runs_of_the_small_tier_took_what_is_planned():
    rows = json.loads((ROOT / "data" / "proof" / "memory.json").read_text())["rows"]
    assert {row["stage"] for row in rows} == set(memory.STAGES)
    for row in rows:
        exp = Experiment(
            task=row["task"], preset=row["preset"], precision=row["precision"],
            method="sft" if row["stage"] == "sft" else "rl",
        )  # fmt: skip
        exp = exp.replace(final_episodes=exp.rows["generation_batch_size"])
        shape = memory.Shape(planning.architecture(exp), exp.model.rank)
        planned = memory.total(planning.pieces(exp, row["stage"], shape, "cpu"), "cpu") / memory.GB
        assert 0.75 < planned / row["peak_gb"] < 1.15, row


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_the_recorded_runs_of_the_small_real_model_took_what_is_planned(stage):
    (path,) = (ROOT / "data" / "runs").glob(f"gp-l-{stage}-smol-*/manifest.json")
    facts = json.loads(path.read_text())
    exp = Experiment(**facts["config"])
    side_by_side = min(exp.rows["generation_batch_size"], exp.evaluation.final_episodes)
    exp = exp.replace(generation_batch_size=side_by_side)
    # The published sizes, so that the package is not needed; lengths as the run logged them.
    shape = memory.Shape(SMOL, exp.model.rank)
    logged = pd.read_json(path.with_name("metrics.jsonl"), lines=True)
    trained = logged.tokens.max() / exp.method.batch
    lengths = (trained, 467) if stage == "sft" else (219, trained)
    planned = memory.total(planning.pieces(exp, stage, shape, "cpu", lengths), "cpu") / memory.GB
    assert 0.75 < planned / (facts["peak_memory_mb"] / 1024) < 1.15


def test_what_is_wrong_on_a_gpu_is_said(check):
    right = {"tiny_loss": [1.0], "tiny_loss_cpu": [1.01], "rl_loss": [0.1], "four_bits_error": 0.01}
    assert check.wrong(right) == []
    stages = [{"peak_gb": 12.0, "planned_gb": 10.0}]
    for finding in (
        {"tiny_loss": [1.1]}, {"tiny_loss": [math.nan]}, {"rl_loss": [math.nan]},
        {"four_bits_error": math.nan}, {"error": "out of memory"}, {"stages": stages},
    ):  # fmt: skip
        assert len(check.wrong(right | finding)) == 1


def test_four_bit_products_are_those_of_the_unpacked_weights(check):
    assert check.four_bits("cpu") < 0.02


@pytest.mark.slow
def test_stages_of_the_check_run_in_four_bits_on_pictures_and_are_planned(check):
    settings = dict(
        task="gp-vl", precision="qlora", group=2, micro_batch=2, tries=2, eval_tries=2,
        max_new_tokens=6,
    )  # fmt: skip
    exp = Experiment(**settings)
    loaded = load_policy(exp)
    policy = Policy(loaded.model, loaded.processor, "qlora", generation_batch_size=4)
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    rows = check.stages(exp, policy, "cpu")
    now = dict(policy.model.named_parameters())
    moved = {n for n, p in before.items() if not torch.equal(p, now[n])}
    assert moved and all("lora_" in name for name in moved)
    assert [row["stage"] for row in rows] == ["sft", "rl", "evaluate"]
    assert all(row["planned_gb"] > 0 for row in rows)
