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
        # Answers end before their longest: of a process of 1 GB that is more than its 15%.
        assert 0.75 * row["peak_gb"] < planned, row
        assert planned < max(1.15 * row["peak_gb"], row["peak_gb"] + 0.3), row


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


RIGHT = {
    "four_bits": {"largest": 0.01}, "tiny_tier": {"sft": [1.0], "sft_cpu": [1.01], "rl": [0.1]},
    "build": {"held_gb": [8.0, 8.1]}, "equal": {"decode_from_training": 0.01, "close": 0.1},
    "learns": {"grad_norm": [1.0, 2.0], "loss": [3.0, 2.0], "apart": 0.0},
    "stages": {"sft": {"peak_gb": 10.0, "planned_gb": 10.5}},
    "replays": {"replayed": {"replayed": True}, "expected": True, "apart": 0.01, "close": 0.1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("step", "finding"),
    [
        ("four_bits", {"largest": 0.1}), ("four_bits", {"largest": math.nan}),
        ("tiny_tier", {"sft": [1.1]}), ("tiny_tier", {"rl": [math.nan]}),
        ("build", {"held_gb": [8.0, 16.0]}), ("equal", {"decode_from_training": 0.2}),
        ("equal", {"decode_from_training": math.nan}), ("learns", {"grad_norm": [math.inf]}),
        ("learns", {"loss": [2.0, 2.0]}), ("learns", {"apart": 0.1}),
        ("stages", {"rl": {"peak_gb": 10.0, "planned_gb": 12.0}}),
        ("stages", {"rl": {"peak_gb": 10.0, "planned_gb": 7.0}}), ("equal", {"error": "no room"}),
        ("replays", {"replayed": {"replayed": False}}), ("replays", {"apart": math.nan}),
    ],
)  # fmt: skip
def test_what_is_wrong_on_a_gpu_is_said(check, step, finding):
    assert check.wrong(RIGHT) == []
    assert len(check.wrong(RIGHT | {step: RIGHT[step] | finding})) == 1


def test_a_step_that_fails_is_written_and_the_others_are_taken(check, monkeypatch, tmp_path):
    def fails(_):
        raise torch.OutOfMemoryError("no room")

    steps = {"build": fails, "four_bits": check.STEPS["four_bits"]}
    monkeypatch.setattr(check, "STEPS", steps)
    assert check.main(["--cpu", "--out", str(tmp_path / "a" / "check.json")]) == 1
    facts = json.loads((tmp_path / "a" / "check.json").read_text())
    assert facts["build"] == {"error": "OutOfMemoryError: no room"}
    assert facts["four_bits"]["largest"] < 0.02 and len(facts["four_bits"]["errors"]) == 6
    assert facts["took_s"].keys() == steps.keys()


def test_without_a_gpu_one_sentence_says_that_nothing_was_checked(check, capsys, monkeypatch):
    monkeypatch.setattr(check, "run", None)  # never called
    assert check.main([]) == 2
    assert capsys.readouterr().out.startswith("error: this machine has no CUDA GPU")


@pytest.mark.slow
def test_every_step_of_the_check_runs_on_a_cpu_and_finds_nothing_wrong(check, tmp_path):
    assert check.main(["--cpu", "--out", str(tmp_path / "check.json")]) == 0
    facts = json.loads((tmp_path / "check.json").read_text())
    assert [*facts["took_s"]] == [*check.STEPS] == [n for n in facts if n != "took_s"]
    assert facts["equal"]["decode_from_training"] < 1e-3
    # Of an adapter whose B is not 0 all moves that a gradient reaches.
    assert facts["learns"]["moved"] == facts["learns"]["tensors"] == 2 * 2 * 7
    assert facts["learns"]["loss"][2:] == facts["learns"]["loss_resumed"][2:]
    assert all(row["planned_gb"] > 0 for row in facts["stages"].values())
    rates = facts["rates"]
    assert all(rates[k]["s"] >= rates[k]["host_s"] > 0 for k in ("look", "prefill", "decode_step"))
    assert all(0 < share < 1 for share in rates["share_of_peak"].values())
    steps = facts["replays"]
    assert steps["same_tokens"] == 1 and steps["apart"] == 0  # both by Python, for want of a GPU
    assert not steps["replayed"]["replayed"] and steps["by_python"]["step_ms"] > 0
    for task in ("gp-l", "gp-vl", "virl-l", "virl-vl"):
        assert set(facts["forecast"][task]) == {"init", "sft", "rl", "evaluation of an arm"}
        assert all(hours > 0 for hours in facts["forecast"][task].values())
