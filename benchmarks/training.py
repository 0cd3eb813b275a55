"""How fast an SFT step and an RL step are on this machine, before and after each optimisation.

Run `python benchmarks/training.py` (seven minutes on one core); it writes
data/benchmarks/training.json.

Useful work is 6 N operations a trained token (forward and backward) and 2 N a token read or written
in a rollout, N being the parameters a text token passes through; the attention's own products are
left out. It is divided by the time and by the rate of a large matrix product, measured between the
rounds. Only what was executed counts, but for "matmul_share_of_all_tokens": there a skipped row
counts as work done.
"""

import argparse
import contextlib
import copy
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from tqdm.auto import tqdm

from engine import trainer
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks import make_task

OUT = Path(__file__).parents[1] / "data" / "benchmarks" / "training.json"
ROUNDS, STEPS = 3, 2  # every variant is timed ROUNDS times in turn; the best round counts


class Log:
    """A run folder that keeps its rows in memory."""

    def __init__(self, folder: str) -> None:
        self.path, self.rows = Path(folder), []

    def log(self, **row) -> None:
        self.rows.append(row)


def every_row(batch: dict) -> torch.Tensor:
    """All of every completion."""
    return batch["completion_mask"].sum(1)


def whole_rows(batch: dict) -> torch.Tensor:
    """All of the completions that carry any advantage."""
    return torch.where(skipping_and_cutting(batch) > 0, every_row(batch), 0)


skipping_and_cutting = trainer.lengths_with_signal
# Arm: its settings, and (name, rows a backward pass (0: the preset's), part of the rows).
VARIANTS = {
    "sft": ({}, [
        ("one backward pass a step", 10**6, None),
        ("+ micro-batches", 0, None),
    ]),
    "rl": ({}, [
        ("one backward pass a step", 10**6, every_row),
        ("+ micro-batches", 0, every_row),
        ("+ rows without advantage skipped", 0, whole_rows),
        ("+ cut after the last advantage", 0, skipping_and_cutting),
    ]),
    # Where most groups are unanimous: one try and a reward for the outcome alone; or a walk, on
    # which most positions want the same action.
    **{
        f"rl, {name}": (settings, [
            ("micro-batches", 0, every_row),
            ("+ rows without advantage skipped", 0, whole_rows),
        ])
        for name, settings in (
            ("1 try, binary", {"tries": 1, "scheme": "binary"}), ("virl-l", {"task": "virl-l"}),
        )
    },
}  # fmt: skip


def matmul_rate(size: int = 1024, repeats: int = 20) -> float:
    """Operations a second of a float32 matrix product, the best of `repeats`."""
    a, best = torch.randn(size, size), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def timed(exp: Experiment, policy, micro_batch: int, part) -> list[dict]:
    """The log of STEPS steps from a copy of the policy."""
    exp = exp.replace(micro_batch=micro_batch)
    with contextlib.ExitStack() as stack:
        if part:
            stack.enter_context(mock.patch.object(trainer, "lengths_with_signal", part))
        run = Log(stack.enter_context(tempfile.TemporaryDirectory()))
        train = METHODS[exp.method.name].train
        train(exp, copy.deepcopy(policy), make_task(exp), run, progress=False)
    return run.rows


def summary(rows: list[dict], n_active: int, peak: float) -> dict:
    """Rates of one round."""
    last, seconds = rows[-1], sum(row["seconds"] for row in rows)
    rollout = sum(row.get("rollout_seconds", 0.0) for row in rows)
    done = 6 * last["done_train_tokens"] + 2 * last["done_rollout_tokens"]
    claimed = 6 * last["train_tokens"] + 2 * last["rollout_tokens"]
    update = seconds - rollout
    return {
        "seconds_a_step": seconds / len(rows),
        "rollout_seconds": rollout / len(rows),
        "update_seconds": update / len(rows),
        "tokens_a_second": last["train_tokens"] / seconds,
        "matmul_share": n_active * done / seconds / peak,
        "matmul_share_update": n_active * 6 * last["done_train_tokens"] / update / peak,
        "matmul_share_rollout": n_active * 2 * last["done_rollout_tokens"] / rollout / peak
        if rollout
        else None,
        "matmul_share_of_all_tokens": n_active * claimed / seconds / peak,
        "trained_rows": sum(row.get("trained_rows", 1.0) for row in rows) / len(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="rows a step (else the preset's)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results, peaks = [], []
    for arm, (settings, variants) in VARIANTS.items():
        rows = {"batch": args.batch} if args.batch else {}
        exp = Experiment(
            method=arm.partition(",")[0], steps=STEPS, seed=100, warmup=0.0, **rows, **settings
        )
        policy = start_policy(exp)
        best: dict[str, dict] = {}
        turns = [(r, v) for r in range(ROUNDS) for v in variants]
        for _, (name, micro_batch, part) in tqdm(turns, desc=arm):
            peaks.append(matmul_rate())
            size = min(micro_batch or exp.rows["micro_batch"], exp.method.batch)
            rows = timed(exp, policy, size, part)
            found = summary(rows, policy.n_active, max(peaks))
            if name not in best or found["seconds_a_step"] < best[name]["seconds_a_step"]:
                best[name] = found
        for name, *_ in variants:
            facts = {"method": arm, "variant": name, "batch": exp.method.batch}
            results.append(facts | best[name])
    facts = {
        "command": f"python benchmarks/training.py --threads {args.threads}",
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "threads": args.threads, "load_average": os.getloadavg()[0],
        "torch": torch.__version__, "n_active": policy.n_active,
        "matmul_gflops": max(peaks) / 1e9, "rounds": ROUNDS, "steps": STEPS, "results": results,
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"matrix product {facts['matmul_gflops']:.0f} GFLOP/s on {args.threads} thread(s)")
    heads = ["", "s/step", "rollout s", "update s", "tokens/s", "of matmul", "update", "rows"]
    print("{:52}{:>8}{:>11}{:>10}{:>10}{:>11}{:>8}{:>7}".format(*heads))
    for row in results:
        print(
            f"{row['method'] + ': ' + row['variant']:52}{row['seconds_a_step']:8.2f}"
            f"{row['rollout_seconds']:11.2f}{row['update_seconds']:10.2f}"
            f"{row['tokens_a_second']:10.0f}{row['matmul_share']:11.0%}"
            f"{row['matmul_share_update']:8.0%}{row['trained_rows']:7.0%}"
        )


if __name__ == "__main__":
    main()
