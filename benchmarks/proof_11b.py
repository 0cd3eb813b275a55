"""Llama-3.2-11B-Vision's own architecture, in NF4 with random weights, through the functions that
the notebooks call: an SFT step on pictures, an RL step of several tries, an evaluation, the KL.

`make proof-11b`, about an hour on two CPU cores with 24 GB. It shows that every line runs at full
size and what memory it takes; it learns nothing. What is not packed is in 32 bits, as always on a
CPU (`load.unpacked_dtype`), where a GPU has 16. Writes data/proof/proof_11b.json.
"""

import gc
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import bitsandbytes as bnb
import psutil
import torch
from transformers import MllamaForConditionalGeneration, MllamaImageProcessorPil, MllamaProcessor
from transformers.integrations import replace_with_bnb_linear
from transformers.quantizers import AutoHfQuantizer

from commons.files import write_atomic
from engine import memory
from engine.adapters import adapt
from engine.load import nf4, unpacked_dtype
from engine.policy import Policy
from foundry.foundation import build_tokenizer
from sftrl_lib import planning
from sftrl_lib.evaluate import KlToInit, evaluate
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS
from sftrl_lib.runs import Run, machine
from sftrl_lib.tasks.general_points import GeneralPointsVL

OUT = ROOT / "data" / "proof" / "proof_11b.json"
SETTINGS = dict(
    task="gp-vl", preset="llama-11b", steps=1, warmup=0.0, batch=2, group=2, micro_batch=1, tries=2,
    eval_tries=2, max_new_tokens=4, generation_batch_size=2, eval_points=1, final_episodes=1,
    eval_episodes=1,
)  # fmt: skip


class Graded(GeneralPointsVL):
    """GP-VL with rewards that take turns, whatever is said: where all earn the same, as they do of
    a model that has not learned the format, nothing is trained."""

    turns = 0

    def verify(self, deal, text):
        self.turns += 1
        return replace(super().verify(deal, text), reward=-1.0 - self.turns % 2)


def random_nf4(config, device: str = "cpu") -> torch.nn.Module:
    """The architecture of `config` with random weights. Each linear layer of the language model is
    packed as soon as it is drawn: at no time are two of them there unpacked."""
    config.dtype = unpacked_dtype("qlora")
    with torch.device("meta"):
        model = MllamaForConditionalGeneration._from_config(config, dtype=config.dtype)
    told = nf4(config.model_type)
    skipped = told.llm_int8_skip_modules
    model = replace_with_bnb_linear(model, modules_to_not_convert=skipped, quantization_config=told)
    for module in model.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            if isinstance(module, bnb.nn.Linear4bit):
                shape = module.out_features, module.in_features
                drawn = torch.empty(shape, dtype=config.dtype, device=device).normal_(std=0.02)
                module.weight = bnb.nn.Params4bit(
                    drawn, requires_grad=False, quant_type="nf4", compress_statistics=True
                ).to(device)
                continue
            drawn = torch.empty(empty.shape, dtype=config.dtype, device=device)
            drawn = drawn.fill_(0.5) if "gate" in name else drawn.normal_(std=0.02)
            if name == "weight" and drawn.dim() == 1:  # of a norm
                drawn.fill_(1.0)
            setattr(module, name, torch.nn.Parameter(drawn, requires_grad=False))
    text = model.model.language_model
    text.rotary_emb = type(text.rotary_emb)(config=config.text_config).to(device)  # its buffers
    model.is_loaded_in_4bit = model.is_quantized = True
    model.hf_quantizer = AutoHfQuantizer.from_config(told)
    model.quantization_method = model.hf_quantizer.quantization_config.quant_method
    return model.eval()


def built(config, exp: Experiment, device: str = "cpu") -> Policy:
    """A policy of random weights and our tokenizer, in NF4 with an adapter."""
    tokenizer, vision = build_tokenizer(), config.vision_config
    config.image_token_index = tokenizer.image_token_id
    model = adapt(random_nf4(config, device), exp.model.rank)
    side = {"height": vision.image_size, "width": vision.image_size}
    images = MllamaImageProcessorPil(size=side, max_image_tiles=vision.max_num_tiles)
    processor = MllamaProcessor(images, tokenizer, chat_template=tokenizer.chat_template)
    return Policy(model, processor, "qlora", "the proof", exp.rows["generation_batch_size"])


def peak_gb() -> float:
    """The most memory this process has held since it last asked."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / memory.GB


def main() -> None:
    config = planning.architecture(Experiment(**SETTINGS))
    began = time.monotonic()
    exp = Experiment(lenient=True, method="sft", **SETTINGS)
    policy = built(config, exp)
    gc.collect()
    rows = [row("build", began, None)]
    task = Graded.of(exp.task)
    shape = memory.Shape(config, exp.model.rank)
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("sft", "rl"):
            began, exp = time.monotonic(), exp.replace(method=stage, **SETTINGS)
            adapter = {
                n: p.detach().clone() for n, p in policy.model.named_parameters() if p.requires_grad
            }
            kl = KlToInit(policy, task, exp, answers=1) if stage == "sft" else None
            with Run.open(exp, folder) as run:
                METHODS[stage].train(exp, policy, task, run, progress=False)
                log = run.metrics().iloc[-1].to_dict()
            now = dict(policy.model.named_parameters())
            moved = sum(not torch.equal(now[n], p) for n, p in adapter.items())
            log |= {"kl_to_init": kl(policy)} if kl else {}
            rows.append(row(stage, began, planned(exp, stage, shape, policy, task), log, moved))
        began = time.monotonic()
        evaluate(policy, task, exp, {"rule_ood": 1}, progress=False)
        rows.append(row("evaluate", began, planned(exp, "evaluate", shape, policy, task)))
    facts = {
        **machine(exp),
        "memory_gb": psutil.virtual_memory().total / memory.GB,
        "settings": SETTINGS,
        "stages": rows,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(OUT, json.dumps(facts, indent=1) + "\n")
    print(f"written to {OUT}")


def planned(exp, stage, shape, policy, task) -> float:
    """GB that the planner expects of a stage on this machine."""
    item = task.item("train", 0, 0)
    asked = len(policy.first_turn(task.prompt(item), task.picture(item, policy.image_size)))
    more = len(policy.next_turn("x")) + 12 + exp.model.max_new_tokens
    first = asked + (40 if stage == "sft" else exp.model.max_new_tokens)
    lengths = first, asked + exp.model.max_new_tokens + (exp.evaluation.eval_tries - 1) * more
    return memory.total(planning.pieces(exp, stage, shape, "cpu", lengths), "cpu") / memory.GB


def row(stage: str, began: float, planned_gb: float | None, log=None, moved=None) -> dict:
    facts = {"stage": stage, "seconds": round(time.monotonic() - began, 1), "peak_gb": peak_gb()}
    if planned_gb:
        facts |= {"planned_gb": planned_gb, "ratio": facts["peak_gb"] / planned_gb}
    if log:
        assert math.isfinite(log["loss"]) and moved
        facts |= {k: log[k] for k in ("loss", "tokens", "kl_to_init") if k in log}
        facts |= {"adapter_tensors_moved": moved}
    print(json.dumps(facts), flush=True)
    return facts


if __name__ == "__main__":
    main()
