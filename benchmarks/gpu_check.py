"""What to run first on a machine with a GPU: `make gpu-check`, a few minutes.

The tiny tier on the GPU against the CPU, the 4-bit kernels, and, where there are weights of the 11B
model (a local copy as argument, or SFTRL_ONLINE=1 and a token), a step of each stage with its peak
of memory beside the plan's. Writes data/proof/gpu_check.json, says what is wrong, and ends with 1
where something is. NOT VALIDATED: nobody has run it on a GPU; the tests run its parts on a CPU.
"""

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import replace

import bitsandbytes as bnb
import torch

from commons.errors import SftrlError
from commons.files import write_atomic
from engine import memory
from sftrl_lib import planning
from sftrl_lib.evaluate import KlToInit, evaluate
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS
from sftrl_lib.runner import start_policy
from sftrl_lib.runs import Run
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.general_points import GeneralPointsVL

OUT = ROOT / "data" / "proof" / "gpu_check.json"


class Graded(GeneralPointsVL):
    """GP-VL with rewards that take turns, whatever is said: where all earn the same, as they do of
    a model that has not learned the format, nothing is trained."""

    turns = 0

    def verify(self, deal, text):
        self.turns += 1
        return replace(super().verify(deal, text), reward=-1.0 - self.turns % 2)


def four_bits(device: str) -> float:
    """How far a product with NF4 weights lies from the one with the same weights unpacked."""
    torch.manual_seed(0)
    weight = torch.randn(256, 256, device=device) * 0.02
    packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4")
    whole = bnb.functional.dequantize_4bit(packed, state)
    x = torch.randn(8, 256, device=device)
    exact = x @ whole.T
    return float((bnb.matmul_4bit(x, packed.t(), quant_state=state) - exact).norm() / exact.norm())


def losses(exp: Experiment, device: str) -> list[float]:
    """The tiny tier's losses of some steps on a device."""
    policy, task = start_policy(exp), make_task(exp)
    policy.model.to(device)
    with tempfile.TemporaryDirectory() as folder, Run.open(exp, folder) as run:
        METHODS[exp.method.name].train(exp, policy, task, run, progress=False)
        return run.metrics().loss.tolist()


def stages(exp: Experiment, policy, device: str) -> list[dict]:
    """A step of SFT and of RL, and an evaluation, with their time and peak of memory."""
    task, rows = Graded(), []
    shape = memory.Shape(planning.architecture(exp), exp.model.rank)
    for stage in ("sft", "rl", "evaluate"):
        began = time.monotonic()
        if device == "cuda":
            torch.cuda.empty_cache()  # what loading and the stage before have left
            torch.cuda.reset_peak_memory_stats()
        now = exp.replace(method="sft" if stage == "sft" else "rl", steps=1, batch=16, warmup=0.0)
        with tempfile.TemporaryDirectory() as folder, Run.open(now, folder) as run:
            if stage == "evaluate":
                evaluate(policy, task, now, {"rule_ood": 8}, progress=False)
                KlToInit(policy, task, now, answers=2)(policy)
            else:
                METHODS[stage].train(now, policy, task, run, progress=False)
        peak = torch.cuda.max_memory_reserved() / memory.GB if device == "cuda" else None
        # The plan counts the context too, which the allocator does not see.
        planned = memory.total(planning.pieces(now, stage, shape, device), device) / memory.GB
        planned -= memory.RUNTIME[device]
        seconds = round(time.monotonic() - began, 1)
        rows.append({"stage": stage, "seconds": seconds, "peak_gb": peak, "planned_gb": planned})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def wrong(facts: dict) -> list[str]:
    """What of the findings is not as it should be."""
    here, there = facts["tiny_loss"], facts["tiny_loss_cpu"]
    found = {
        "products with 4-bit weights are off": not facts["four_bits_error"] < 0.02,
        "SFT on the GPU does not have the CPU's losses": not all(
            math.isclose(a, b, rel_tol=0.02) for a, b in zip(here, there, strict=True)
        ),
        "RL on the GPU has a loss that is no number": not all(map(math.isfinite, facts["rl_loss"])),
        "the 11B model could not be checked": "error" in facts,
        "a stage of the 11B model took more than 15% over the plan": any(
            row["peak_gb"] > 1.15 * row["planned_gb"] for row in facts.get("stages", [])
        ),
    }
    return [what for what, is_so in found.items() if is_so]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="", help="a local copy of the 11B model")
    model = parser.parse_args().model
    if not torch.cuda.is_available():
        print("error: this machine has no CUDA GPU that torch can see; nothing was checked.")
        return 2
    facts = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "memory_gb": torch.cuda.mem_get_info()[1] / memory.GB, "four_bits_error": four_bits("cuda"),
    }  # fmt: skip
    exp = Experiment(task="gp-vl", method="sft", steps=3, batch=32)
    facts |= {"tiny_loss": losses(exp, "cuda"), "tiny_loss_cpu": losses(exp, "cpu")}
    facts["rl_loss"] = losses(exp.replace(method="rl", steps=2), "cuda")
    print(json.dumps(facts), flush=True)
    big = Experiment(task="gp-vl", preset="llama-11b", model=model, start="model")
    if model or os.environ.get("SFTRL_ONLINE") == "1":
        try:
            facts["stages"] = stages(big, load_policy(big), "cuda")
        except (SftrlError, torch.OutOfMemoryError) as error:
            facts["error"] = str(error).splitlines()[0]
            print(f"the 11B model was not checked: {error}")
    else:
        print("the 11B model was not checked: give its folder, or set SFTRL_ONLINE=1 and HF_TOKEN")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(OUT, json.dumps(facts, indent=1) + "\n")
    print(f"written to {OUT}")
    for what in wrong(facts):
        print(f"WRONG: {what}")
    return 1 if wrong(facts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
