"""What every notebook does first: fix seeds and threads, say what it runs on and what it reads."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from transformers.utils import logging as hf_logging

from .config import PRESETS, Experiment
from .errors import SftrlError
from .foundation import FOLDER as FOUNDATIONS
from .policy import resolve_precision
from .runs import LIVE, RESULTS, ROOT, load_results


def setup(preset: str = "tiny", precision: str = "auto", seed: int = 0) -> None:
    """Seeds (python, numpy, torch), two threads, short errors; prints device, precision and why.

    Raises SftrlError for an unknown preset or precision. OMP_NUM_THREADS, if set, is obeyed.
    """
    _short_errors()
    exp = Experiment(preset=preset, precision=precision, seed=seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or min(2, os.cpu_count() or 1)))
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    resolved, why = resolve_precision(exp)
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    hub = "on (SFTRL_ONLINE=1)" if os.environ.get("HF_HUB_OFFLINE", "1") == "0" else "off"
    print(f"tier       {preset}")
    print(f"device     {device}")
    print(f"precision  {resolved}: {why}")
    print(f"seed       {seed} (same seed, machine and threads: same numbers)")
    print(f"model hub  {hub}")
    print(f"reads      {_weights(exp)}; {_recorded()}")
    print(f"writes     {LIVE.relative_to(ROOT)}/ (live runs, not committed)")


def _weights(exp: Experiment) -> str:
    if PRESETS[exp.preset]["model"]:
        return PRESETS[exp.preset]["model"]
    folder = FOUNDATIONS / exp.foundation
    found = (folder / "model.safetensors").exists()
    build = "" if found else " (missing: build it with 'python -m sftrl_lib foundation')"
    return f"{folder.relative_to(ROOT)}/{build}"


def _recorded() -> str:
    ours = load_results().query("source == 'ours'")
    if not len(ours):
        return "no recorded runs yet (make them with 'python -m sftrl_lib experiments')"
    runs = ours.run_id.nunique()
    return f"{RESULTS.relative_to(ROOT)} ({len(ours):,} rows of {runs} recorded runs)"


def _short_errors() -> None:
    """In a notebook, show a mistake the reader can repair as its one sentence, no traceback."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None:
        return

    def one_sentence(shell, kind, error, traceback, tb_offset=None) -> list[str]:
        lines = [f"{kind.__name__}: {error}"]
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((SftrlError,), one_sentence)
