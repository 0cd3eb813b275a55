"""What every notebook does first: fix seeds and threads, say what it runs on and what it reads."""

import gc
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Javascript, display
from transformers import set_seed
from transformers.utils import logging as hf_logging

from commons.errors import SftrlError
from engine.presets import PRESETS
from engine.threads import use_threads
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.policies import FOUNDATIONS
from sftrl_lib.registry import METHODS
from sftrl_lib.results import RESULTS, load_results
from sftrl_lib.runner import recorded_init, run_experiment
from sftrl_lib.runs import LIVE, RUNS, YOURS, Run, find_run, is_done, read_manifest
from sftrl_lib.stats import main_grid
from sftrl_lib.tasks import make_task

from .plots import how

# JupyterLab takes keys pressed on a menu for commands to its cells: arrows leave it, d d deletes a
# cell. Where this attribute is, it does not.
MENU_KEYS = """document.addEventListener("focusin", ({target}) => {
  if (target.matches(".jupyter-widgets select")) target.dataset.lmSuppressShortcuts = "true";
});"""
WITH_KL = "with_kl"  # in the folder of live runs: those that have measured the KL to the init


def setup(preset: str = "tiny", precision: str = "auto", seed: int = 0) -> None:
    """Seeds (python, numpy, torch), threads (`use_threads`), short errors; prints device,
    precision and why. Raises SftrlError for an unknown preset or precision."""
    _short_errors()
    if get_ipython():
        display(Javascript(MENU_KEYS))
    exp = Experiment(preset=preset, precision=precision, seed=seed)
    set_seed(seed)
    use_threads(small=exp.model.ours)
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    resolved, why = exp.model.resolved
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    online = os.environ.get("SFTRL_ONLINE") == "1"
    weights = PRESETS[preset].model or f"{_short(FOUNDATIONS / exp.model.foundation)}/"
    if weights.endswith("/") and not (ROOT / weights / "model.safetensors").exists():
        weights += " (missing: build it with 'python -m sftrl_lib foundation')"
    ours = load_results().query("source == 'ours' and preset == @preset")
    rows = f"{_short(RESULTS)} ({len(ours):,} rows of {ours.run_id.nunique()} recorded runs)"
    if not len(ours):
        made = how("TASK", preset)
        rows = f"no recorded runs of this tier: cells that show them need yours, made with {made}"
    print(f"tier       {preset}")
    print(f"device     {device}")
    print(f"precision  {resolved}: {why}")
    print(f"seed       {seed} (same seed, machine and threads: same numbers)")
    print(f"model hub  {'on' if online else 'off (SFTRL_ONLINE=1 turns it on)'}")
    print(f"reads      {weights}; {rows}")
    print(f"writes     {_short(live_root())}/ (live runs, not committed)")


def live(exp: Experiment, kl: bool = False) -> Run:
    """Train a short run from the init, measured on ID-unseen and rule OOD, or open it if it was
    trained before; says which. `kl`: the KL to the init, too; such runs have a folder of their own,
    so that none is opened which lacks it. SFTRL_RUNS names another folder than runs/."""
    root = live_root() / WITH_KL if kl else live_root()
    known = is_done(find_run(exp, root))
    short = dict.fromkeys(make_task(exp).curve_splits, exp.evaluation.eval_episodes)
    _free()
    run = run_experiment(exp, root, final=short, kl=kl)
    _free()
    own = exp.method
    said = f"{METHODS[own.name].label}, {own.steps} steps of {own.batch}, in {_short(run.path)}"
    if known:
        print(f"LOADED, not trained: {said} (delete the folder to train again)")
    else:
        print(f"TRAINED just now: {said}, {run.manifest['wall_s']:.0f} s")
    return run


def recorded_run(
    method: str, preset: str = "tiny", seed: int = 0, task: str = "gp-l",
    results: pd.DataFrame | None = None,
) -> Run:  # fmt: skip
    """The run of the main grid behind one arm (or behind the init) of a seed: recorded, or yours,
    on a tier of which the book has none. Whoever asks often gives the `results`."""
    rows = main_grid(load_results() if results is None else results)
    rows = rows[(rows.task == task) & (rows.preset == preset)]
    rows = rows[(rows.method == method) & (rows.seed == seed)]
    if not len(rows):
        raise SftrlError(
            f"there is no finished run of {method} ({task}, tier {preset}, seed {seed}), recorded "
            f"or of yours; choose another seed, or make it with {how(task, preset)}."
        )
    path = (RUNS if rows.source.iloc[0] == "ours" else YOURS) / rows.run_id.iloc[0]
    return Run(path, read_manifest(path))


def recorded_log(
    method: str, preset: str = "tiny", seed: int = 0, task: str = "gp-l",
    results: pd.DataFrame | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """{label: training log} of that run, for `plots.training_log`. All seeds start from one init,
    which has a run of its own."""
    start = Experiment(task=task, method="init", preset=preset)
    init = recorded_init(start) if method == "init" else None
    run = init or recorded_run(method, preset, seed, task, results)
    whose = "yours" if run.path.parent == YOURS else "recorded"
    return {whose if init else f"{whose}, seed {seed}": run.metrics()}


def recorded_episodes(
    method: str, split: str, preset: str = "tiny", seed: int = 0, task: str = "gp-l",
    results: pd.DataFrame | None = None,
) -> dict[int, dict[str, Any]]:  # fmt: skip
    """{index of the deal, or position: episode} of the sample kept at the end of that run."""
    run = recorded_run(method, preset, seed, task, results)
    mine = {"method": run.manifest["config"]["method"], "seed": seed}  # unless a row says otherwise
    sample = [mine | e for e in run.episodes()]
    wanted = {"method": method, "split": split, "seed": seed}
    sample = [e for e in sample if all(e[k] == v for k, v in wanted.items())]
    end = max((e["step"] for e in sample), default=0)
    return {e["index"]: e for e in sample if e["step"] == end}


def _free() -> None:
    """Give back the memory of models that nobody needs; trainers and their hooks hold them in
    circles."""
    gc.collect()
    torch.cuda.empty_cache()


def live_root() -> Path:
    """The folder of live runs: runs/, or what SFTRL_RUNS names."""
    return Path(os.environ.get("SFTRL_RUNS") or LIVE)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _short_errors() -> None:
    """In a notebook, show a mistake the reader can repair as its one sentence, no traceback."""
    shell = get_ipython()
    if shell is None:  # a script
        return

    def one_sentence(shell, kind, error, traceback, tb_offset=None) -> list[str]:
        lines = [f"{kind.__name__}: {error}"]
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((SftrlError,), one_sentence)
