"""Threads that sleep while they wait. By default the OpenMP library spins: beside another busy
program each wait can cost a whole slice of the scheduler's, and a run of seconds takes minutes
(benchmarks/busy.py). The library reads the setting once, when torch loads it, so the package
imports this module before any that loads torch; child processes inherit it."""

import os
import sys

# Where torch was imported first it is too late, for this process: it gets a single thread.
_SPINS = "torch" in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def use_threads(count: int | None = None, small: bool = True) -> None:
    """Compute with `count` threads; by default with OMP_NUM_THREADS, or else with one for a small
    model, to which a second brings nothing (data/benchmarks/busy.json), and with two for others."""
    import torch

    if count is None and os.environ.get("OMP_NUM_THREADS"):
        return  # torch has read it
    torch.set_num_threads(count or (1 if small or _SPINS else min(2, os.cpu_count() or 1)))
