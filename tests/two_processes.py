"""Trains a small policy and keeps what each process has learned. `accelerate launch` starts
processes in the same way:

    python -m torch.distributed.run --standalone --nproc-per-node=2 two_processes.py METHOD FOLDER

A METHOD that ends in -vl has pictures.
"""

import sys
import zlib
from pathlib import Path

import torch
from helpers_training import WordTask, experiment, small_policy, weights
from safetensors.torch import save_file

from commons.processes import RANK
from sftrl_lib import rollout as rollouts
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


if __name__ == "__main__":
    (method, pictures, _), folder = sys.argv[1].partition("-vl"), Path(sys.argv[2])
    rollouts.rollout = seeded_rollout
    exp, policy = experiment(method, batch=16, steps=3, lr=1e-3), small_policy()
    with Run.open(exp, folder) as run:
        task = WordTask(6, bool(pictures))
        METHODS[method].train(exp, policy, task, run, progress=False)
    save_file(weights(policy), folder / f"weights-{RANK}.safetensors")
