"""Trains a small policy and keeps what each process has learned; or, where METHOD is evaluate,
measures it and keeps what each process knows. `accelerate launch` starts processes in the same way:

    python -m torch.distributed.run --standalone --nproc-per-node=2 two_processes.py METHOD FOLDER

A METHOD that goes on with -vl has pictures; where it ends in -again, layers are run again.
"""

import json
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import torch
from helpers_training import WordTask, experiment, small_policy, weights
from safetensors.torch import save_file

from commons.processes import RANK
from engine import trainer
from sftrl_lib import rollout as rollouts
from sftrl_lib.evaluate import evaluate
from sftrl_lib.registry import METHODS
from sftrl_lib.runs import Run

rollout = rollouts.rollout


def seeded_rollout(policy, task, items, **settings):
    """Episodes that depend on the deal and their place in its group alone, as samples do not."""
    episodes = []
    for place, item in enumerate(items):
        seed = zlib.crc32(f"{item}/{place % 4}".encode())
        settings |= {"generator": torch.Generator().manual_seed(seed)}
        episodes += rollout(policy, task, [item], **settings)
    return episodes


def measure(task: WordTask, folder: Path) -> None:
    """Rows and episodes of seven items, which do not halve, and of one, which one process plays."""
    exp = experiment("sft", eval_tries=3, eval_temperature=0.7)
    splits, heat = {"id_unseen": 7, "rule_ood": 1}, (0.0, 1.0)
    rows, played = evaluate(small_policy(), task, exp, splits, False, heat)
    turns = {split: [list(map(asdict, e.turns)) for e in played[split]] for split in played}
    said = json.dumps({"rows": rows, "turns": turns}, indent=1)
    (folder / f"measured-{RANK}.json").write_text(said)


if __name__ == "__main__":
    (method, *more), folder = sys.argv[1].split("-"), Path(sys.argv[2])
    pictures = "vl" in more
    trainer.RUN_AGAIN = 0 if "again" in more else trainer.RUN_AGAIN
    if method == "evaluate":
        sys.exit(measure(WordTask(6, pictures), folder))
    rollouts.rollout = seeded_rollout
    exp, policy = experiment(method, batch=16, steps=3, lr=1e-3), small_policy()
    with Run.open(exp, folder) as run:
        task = WordTask(6, pictures)
        METHODS[method].train(exp, policy, task, run, progress=False)
    save_file(weights(policy), folder / f"weights-{RANK}.safetensors")
