"""One run from configuration to rows, and the grid of runs behind the book's results."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers.utils import logging as hf_logging

from .config import PRESETS, Experiment
from .errors import SftrlError
from .evaluate import CURVE_SPLITS, KlToInit, evaluate, full_battery
from .policy import Policy, load_policy
from .rl import train_rl
from .runs import (
    LIVE,
    ROOT,
    RUNS,
    Compute,
    Run,
    episode_row,
    load_results,
    read_manifest,
    results_table,
    write_atomic,
    write_results,
)
from .sft import train_sft
from .stats import DEVELOPMENT_SEEDS
from .tasks.base import Task
from .tasks.general_points import GeneralPoints

INIT = ROOT / "data" / "init"  # weights of the SFT init that both arms start from
TUNING, TUNING_TABLE = LIVE / "tuning", ROOT / "data" / "tuning.csv"
TEST_SEEDS = (0, 1, 2, 3, 4)
LEARNING_RATES = (1e-4, 3e-4, 1e-3)  # one grid for both arms
SHOWN = 12  # episodes of each split that are kept to be looked at


def make_task(exp: Experiment) -> Task:
    """The task of an experiment."""
    return GeneralPoints(exp.rule, exp.ood_rule, target=exp.target, scheme=exp.scheme)


def measure(
    exp: Experiment, policy: Policy, task: Task, run: Run, splits: dict[str, int], *, step: int,
    spent: tuple[float, float], kl: KlToInit | None = None, progress: bool = True, **columns,
) -> None:  # fmt: skip
    """Evaluate and keep the rows and a sample of the episodes. `spent`: (compute, compute_done)."""
    rows, played = evaluate(policy, task, exp, splits, progress)
    if kl:
        rows.append(kl.row(policy))
    facts = {"step": step, "compute": spent[0], "compute_done": spent[1], **columns}
    run.add_evals(row | facts for row in rows)
    run.add_episodes(
        episode_row(task.prompt(e.item), e, step=step, split=split, index=i, **columns)
        for split, episodes in played.items()
        for i, e in enumerate(episodes[:SHOWN])
    )


def init_folder(exp: Experiment) -> Path:
    """Where the init of a foundation model lies."""
    return INIT / exp.foundation


def start_policy(exp: Experiment) -> Policy:
    """What a run starts from: the init calls for the foundation model, both arms for the init."""
    tiny = exp.preset == "tiny" and not exp.model
    if exp.method == "init" or not tiny:
        return load_policy(exp)
    folder = init_folder(exp)
    if not (folder / "model.safetensors").exists():
        raise SftrlError(
            f"there are no weights of the init in {folder}; make them with 'python -m sftrl_lib "
            f"init --foundation {exp.foundation}'."
        )
    return load_policy(exp, folder)


def recorded_init(exp: Experiment) -> Run | None:
    """The run of the recorded init that `exp` starts from, or is."""
    for path in sorted(RUNS.glob("*-init-*/manifest.json")):
        facts = read_manifest(path.parent)
        if all(facts["config"][k] == getattr(exp, k) for k in ("task", "preset", "foundation")):
            return Run(path.parent, facts)
    return None


def run_experiment(
    exp: Experiment, root: Path = LIVE, progress: bool = True, final: dict[str, int] | None = None
) -> Run:
    """Train, measure along the way, keep everything in a run folder; a finished run is only opened.

    `final` ({split: episodes}) replaces the full battery at the last step. Ctrl-C leaves a folder
    from which the same call goes on.
    """
    init, makes_init = recorded_init(exp), exp.method == "init" and Path(root) == RUNS
    if makes_init and init and init.manifest["hash"] != exp.hash:
        raise SftrlError(
            f"foundation {exp.foundation} has an init with other settings in {RUNS}, and recorded "
            "runs start from it; give --root another folder, or delete that run to replace it."
        )
    run = Run.open(exp, root)
    if run.done:
        return run
    with run:
        task, policy = make_task(exp), start_policy(exp)
        # Where the compute axis of both arms begins (paper, Fig. 5).
        base = init.manifest.get("compute", 0.0) if init and exp.method != "init" else 0.0
        kl = KlToInit(policy, task, exp) if exp.method != "init" else None
        splits = full_battery(exp) if final is None else final
        started = "step" in run.metrics()
        if exp.method == "rl" and final is None and not started:
            # The init on this seed's own deals: the other half of the pair with both arms.
            as_init = {"method": "init", "lr": PRESETS[exp.preset]["init"]["lr"], "train_tries": 1}
            measure(
                exp, policy, task, run, splits, step=0, spent=(base, base), kl=kl,
                progress=progress, **as_init,
            )  # fmt: skip

        def on_checkpoint(policy: Policy, step: int, compute: Compute) -> None:
            n = policy.n_active
            spent = (base + compute.flops(n), base + compute.done_flops(n))
            last = step == exp.steps
            chosen = splits if last else dict.fromkeys(CURVE_SPLITS, exp.eval_episodes)
            measure(
                exp, policy, task, run, chosen, step=step, spent=spent, kl=kl, progress=progress
            )
            if last:
                run.note(compute=spent[0], compute_done=spent[1], n_active=n)

        train = train_rl if exp.method == "rl" else train_sft
        train(exp, policy, task, run, on_checkpoint, progress)
        if makes_init:
            policy.save(init_folder(exp))
        for checkpoint in run.path.glob("checkpoint-*"):  # what was learned is measured and kept
            shutil.rmtree(checkpoint)
    return run


# --- the grid ------------------------------------------------------------------------------------
def main_grid(seeds=TEST_SEEDS, **changes) -> list[Experiment]:
    """Both arms of every seed at the preset's settings."""
    return [Experiment(method=m, seed=s, **changes) for s in seeds for m in ("rl", "sft")]


def tries_ablation(seeds=TEST_SEEDS) -> list[Experiment]:
    """RL with 1, 5 and 10 verification iterations (paper, Fig. 10) beside the main grid's 3, with
    as many steps as make the compute about the same (an episode of few tries is short)."""
    steps = Experiment(method="rl").steps
    share = {1: 2.2, 5: 0.68, 10: 0.4}  # tokens an episode of the init: 0.45, 1.47, 2.52 of 3 tries
    return [
        Experiment(method="rl", seed=s, tries=t, steps=round(steps * share[t]), eval_points=1)
        for t in share
        for s in seeds
    ]


def tuning_grid() -> list[Experiment]:
    """Both arms at every learning rate on the development seeds."""
    return [
        Experiment(method=m, seed=s, lr=lr, eval_points=4)
        for s in DEVELOPMENT_SEEDS
        for lr in LEARNING_RATES
        for m in ("rl", "sft")
    ]


def book_runs(workers: int = 2, only_estimate: bool = False, tuning: bool = False) -> None:
    """Every run that the book shows: the init, both arms on the test seeds, the tries ablation. Or,
    with `tuning`, the learning-rate grid on the development seeds, added to data/tuning.csv."""
    init = Experiment(method="init")
    curve = dict.fromkeys(CURVE_SPLITS, init.eval_episodes)
    grids = [(main_grid(), RUNS, None), (tries_ablation(), RUNS, dict.fromkeys(CURVE_SPLITS, 600))]
    if tuning:
        grids = [(tuning_grid(), TUNING, curve)]
    if only_estimate:
        left = sum(estimate(runs, root) for runs, root, _ in grids)
        known = f"{left / 60:.0f} core-minutes" if left == left else "a time not yet known"  # nan
        print(f"{known} left of {sum(len(g[0]) for g in grids)} runs")
        return
    run_experiment(init, RUNS, final={})  # its measurements belong to each seed's runs
    for runs, root, final in grids:
        run_grid(runs, root, workers, final)
    if tuning:
        write_tuning()
    else:
        write_results()


def write_tuning() -> pd.DataFrame:
    """Add the tuning runs' last measurements to data/tuning.csv, where every attempt stays."""
    rows = results_table([TUNING], done_only=True)
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    if TUNING_TABLE.exists():
        before = load_results(TUNING_TABLE, paper=TUNING_TABLE / "none")
        rows = pd.concat([before[~before.run_id.isin(rows.run_id)], rows])
    write_atomic(TUNING_TABLE, rows.to_csv(index=False, lineterminator="\n"))
    return rows


def estimate(experiments: list[Experiment], root: Path = RUNS) -> float:
    """Seconds of one core for the runs that are not done, from the recorded runs of the same method
    and, where there are such, of as many tries (nan if there are none)."""
    known: dict[tuple, list[float]] = {}
    for path in RUNS.glob("*/manifest.json"):
        facts = read_manifest(path.parent)
        if facts["state"] == "done":
            per_step = facts["wall_s"] / facts["config"]["steps"]
            config = facts["config"]
            for key in ((config["method"],), (config["method"], config["tries"])):
                known.setdefault(key, []).append(per_step)
    total = 0.0
    for exp in experiments:
        folder = root / f"{exp.task}-{exp.method}-{exp.preset}-s{exp.seed}-{exp.hash[:8]}"
        if not (folder / "manifest.json").exists() or read_manifest(folder)["state"] != "done":
            times = known.get((exp.method, exp.tries)) or known.get((exp.method,))
            total += exp.steps * (sum(times) / len(times) if times else float("nan"))
    return total


def _end_with_parent() -> None:
    """Let a worker die with the command that started it, however that ends (kill -9 included); its
    run goes on from its last checkpoint."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _worker(exp: Experiment, root: Path, final: dict | None) -> str:
    torch.set_num_threads(1)
    hf_logging.disable_progress_bar()  # one bar for all: the grid's
    return run_experiment(exp, root, progress=False, final=final).path.name


def run_grid(
    experiments: list[Experiment], root: Path = RUNS, workers: int = 2, final: dict | None = None
) -> None:
    """Run all, `workers` at a time, one thread each (two such runs beat one with two threads). Stop
    it at any time; the same command goes on."""
    seconds = estimate(experiments, root)
    known = seconds == seconds  # not nan
    about = f"about {seconds / 60 / workers:.0f} minutes" if known else "a time not yet known"
    stop = "Ctrl-C stops; the same command goes on."
    print(f"{len(experiments)} runs, {workers} at a time: {about}. {stop}")
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=sum(e.steps for e in experiments), desc="grid", unit="step", smoothing=0)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        waiting = {pool.submit(_worker, e, root, final): e for e in experiments}
        try:
            while waiting:
                done, _ = concurrent.futures.wait(waiting, timeout=2)
                for future in done:
                    waiting.pop(future)
                    tqdm.write(f"{time.strftime('%H:%M')} {future.result()} is done")
                bar.n = sum(_steps_done(e, root) for e in experiments)
                bar.refresh()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    bar.close()


def _steps_done(exp: Experiment, root: Path) -> int:
    log = (
        root / f"{exp.task}-{exp.method}-{exp.preset}-s{exp.seed}-{exp.hash[:8]}" / "metrics.jsonl"
    )
    return min(exp.steps, log.read_bytes().count(b"\n")) if log.exists() else 0
