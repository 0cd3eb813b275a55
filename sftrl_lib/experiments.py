"""One run from configuration to rows, and the grid of runs behind the book's results."""

import concurrent.futures
import contextlib
import math
import multiprocessing
import operator
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers.utils import logging as hf_logging

from . import plan, runs
from .config import Experiment, resolve_precision
from .errors import SftrlError
from .evaluate import CURVE_SPLITS, KlToInit, curve_splits, evaluate, full_battery
from .policy import Policy, load_policy, need_machine, read_adapter
from .rl import train_rl
from .runs import (
    LIVE,
    LOCAL_RANK,
    RANK,
    ROOT,
    RUNS,
    YOURS,
    Compute,
    Run,
    end_with_parent,
    episode_row,
    is_done,
    read_manifest,
    write_results,
)
from .sft import train_sft
from .stats import DEVELOPMENT_SEEDS, HEADLINE
from .tasks import make_task

INIT = ROOT / "data" / "init"  # weights of the SFT init that both arms start from
TUNING, TUNING_TABLE = LIVE / "tuning", ROOT / "data" / "tuning.csv"
TEST_SEEDS = (0, 1, 2, 3, 4)
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3)  # one grid for both arms
WEIGHTS_OF_RUN = "weights"  # in a run's folder: what was trained
SHOWN = 12  # episodes of each split that are kept to be looked at
SHOWN_PICTURES = 60  # the same of pictures, at both ends of training: what was misread as what


def init_folder(exp: Experiment) -> Path:
    """Where the weights of the init lie that an experiment starts from: the tiny tier's on our data
    are recorded, by task and foundation model; any other's lie in the run that made them."""
    if exp.init_is_recorded:
        return INIT / exp.task / exp.foundation
    same = {k: getattr(exp, k) for k in ("task", "preset", "model", "rank", "foundation")}
    given = same | {"routes": exp.routes, "ood_routes": exp.ood_routes}
    usual = YOURS / Experiment(method="init", precision=exp.precision, **given).run_id
    same |= {"routes": exp.data.get("routes", "")}
    fit = []
    for folder in (usual, *sorted(YOURS.glob(f"{exp.task}-init-{exp.preset}-*"))):
        manifest = read_manifest(folder) if is_done(folder) else {"config": {}}
        config = {"routes": ""} | manifest["config"] | manifest.get("data", {})
        if same.items() <= config.items():
            named = exp.but(precision=config["precision"])  # auto, or what it comes to
            if resolve_precision(named)[0] == resolve_precision(exp)[0]:
                fit.append(folder)
    if len(fit) > 1 and fit[0] != usual:
        raise SftrlError(
            f"several inits fit this run: {', '.join(f.name for f in fit)}; name one with "
            f"start={fit[0] / WEIGHTS_OF_RUN}, or move the others out of {YOURS}."
        )
    return (fit or [usual])[0] / WEIGHTS_OF_RUN


def start_policy(exp: Experiment) -> Policy:
    """What a run starts from: the init calls for the foundation model, both arms for the init,
    unless `exp.start` says otherwise."""
    need_machine(exp)
    if exp.start not in ("init", "model"):
        folder = Path(exp.start)
        adapter = read_adapter(folder)
        rank = adapter.get("r", exp.rank)
        if rank != exp.rank:
            raise SftrlError(
                f"the adapter in {folder} has rank {rank}, and the run's rank is {exp.rank}; set "
                f"rank={rank}, or start from a whole checkpoint."
            )
        if adapter and resolve_precision(exp)[0] == "full":
            raise SftrlError(
                f"{folder} holds an adapter, and precision full trains all weights; use precision="
                "lora, or start from the whole checkpoint that 'python -m sftrl_lib merge' makes."
            )
        return load_policy(exp, folder if folder.is_dir() else exp.start)  # or a Hub id
    if exp.method == "init" or exp.start == "model":
        return load_policy(exp)
    folder = init_folder(exp)
    if not list(folder.glob("*.safetensors")):
        names = ("foundation",) if exp.tiny else ("preset", "model", "precision", "rank")
        names += ("routes", "ood_routes")
        default = Experiment()
        which = "".join(
            f" --{k} {getattr(exp, k)}" for k in names if getattr(exp, k) != getattr(default, k)
        )
        raise SftrlError(
            f"there are no weights of the init in {folder}; make them with 'python -m sftrl_lib "
            f"init --task {exp.task}{which}', or start without one (start=model), or from a "
            "folder of weights, or a Hub id (start=NAME)."
        )
    return load_policy(exp, folder)


def recorded_init(exp: Experiment) -> Run | None:
    """The run of the init that `exp` starts from, or is: a recorded one on the tiny tier."""
    if not exp.init_is_recorded:
        folder = init_folder(exp).parent
        return Run(folder, read_manifest(folder)) if is_done(folder) else None
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
    is_init = exp.method == "init"
    makes_init = is_init and exp.init_is_recorded and Path(root) == RUNS
    before = recorded_init(exp) if makes_init else None
    if before and before.manifest["hash"] != exp.hash:
        raise SftrlError(
            f"foundation {exp.foundation} has an init with other settings in {RUNS}, and recorded "
            "runs start from it; give --root another folder, or delete that run to replace it."
        )
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(LOCAL_RANK)
        torch.cuda.reset_peak_memory_stats()
    if not is_done(Path(root) / exp.run_id):
        plan.require(exp, "rl" if exp.method == "rl" else "sft")
    run = Run.open(exp, root)
    if run.done:
        return run
    with run:
        task, policy = make_task(exp), start_policy(exp)
        if progress and not RANK:
            tqdm.write(f"precision {policy.precision}: {policy.why}")
            if exp.defaults_by_size:
                tqdm.write(exp.defaults_by_size)
        # Where the compute axis of both arms begins (paper, Fig. 5).
        after = recorded_init(exp) if not is_init and exp.start == "init" else None
        base = after.manifest.get("compute", 0.0) if after else 0.0
        if after:
            run.note(init=after.manifest["hash"])
        kl = KlToInit(policy, task, exp) if not is_init else None
        full = full_battery(exp, task) if final is None else final

        def measure(policy: Policy, step: int, compute: Compute, **columns: Any) -> None:
            """Keep result rows and a sample of the episodes behind them."""
            if RANK:
                return
            whole, n = step in (0, exp.steps), policy.n_active
            splits = full if whole else dict.fromkeys(curve_splits(task), exp.eval_episodes)
            spent, done = base + compute.flops(n), base + compute.done_flops(n)
            facts = {"step": step, "compute": spent, "compute_done": done, **columns}
            rows, played = evaluate(policy, task, exp, splits, progress)
            rows += [kl.row(policy)] if kl else []
            run.add_evals(row | facts for row in rows)
            if gpu:
                run.note(peak_gpu_memory_mb=torch.cuda.max_memory_reserved() // 2**20)
            shown = SHOWN_PICTURES if whole and task.pictures else SHOWN
            run.add_episodes(
                episode_row(task.prompt(e.item), e, step=step, split=split, index=i, **columns)
                for split, episodes in played.items()
                for i, e in enumerate(episodes[:shown])
            )
            if step == exp.steps:
                run.note(compute=spent, compute_done=done, n_active=n)

        begins = "step" not in run.metrics() or not (run.evals().step == 0).any()
        known = after is not None and exp.seed in set(after.evals().seed)
        known = known and after.manifest.get("data", {}) == exp.data  # on the same routes
        if exp.method == "rl" and final is None and begins and not known:
            # The init on this seed's own deals: the other half of the pair with both arms.
            lr = exp.tier["init"]["lr"]
            measure(policy, 0, Compute(), method="init", lr=lr, train_tries=1)
        if is_init and not exp.tiny and begins:  # before any training: zero-shot
            measure(policy, 0, Compute(), method="base", lr=0.0)

        train = train_rl if exp.method == "rl" else train_sft
        train(exp, policy, task, run, measure, progress and not RANK)
        if RANK:
            return run
        if makes_init:
            save_whole(policy, init_folder(exp))
        if exp.keep != "none" or is_init:
            save_whole(policy, run.path / WEIGHTS_OF_RUN)
    return run


def save_whole(policy: Policy, folder: Path) -> None:
    """Writes beside, then renames: whoever finds weights in `folder` finds all of them."""
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def main_grid(task: str = "gp-l") -> list[Experiment]:
    """Both arms of every test seed at the preset's settings."""
    return [Experiment(task=task, method=m, seed=s) for s in TEST_SEEDS for m in ("rl", "sft")]


def tries_ablation() -> list[Experiment]:
    """RL with 1, 5 and 10 verification iterations (paper, Fig. 10) beside the main grid's 3, with
    as many steps as make the compute about the same (an episode of few tries is short)."""
    steps = Experiment(method="rl").steps
    share = {1: 2.2, 5: 0.68, 10: 0.4}  # tokens an episode of the init: 0.45, 1.47, 2.52 of 3 tries
    return [
        Experiment(method="rl", seed=s, tries=t, steps=round(steps * share[t]), eval_points=1)
        for t in share
        for s in TEST_SEEDS
    ]


def color_control() -> list[Experiment]:
    """The visual test the other way round, for one seed: red cards in training, black ones new."""
    return [exp.but(color="red") for exp in main_grid("gp-vl") if exp.seed == TEST_SEEDS[0]]


def tuning_grid(task: str) -> list[Experiment]:
    """Both arms at every learning rate on the development seeds."""
    return [
        Experiment(task=task, method=m, seed=s, lr=lr, eval_points=4)
        for s in DEVELOPMENT_SEEDS
        for lr in LEARNING_RATES
        for m in ("rl", "sft")
    ]


def book_runs(workers: int = 2, only_estimate: bool = False, tuning: bool = False) -> None:
    """Every run that the book shows: of each task the init and both arms on the test seeds; the
    control of the colours; the tries ablation. Or, with `tuning`, the learning-rate grid on the
    development seeds, added to data/tuning.csv."""
    inits = [Experiment(task=task, method="init") for task in HEADLINE]
    grids = [(main_grid(task), RUNS, None) for task in HEADLINE]
    grids += [(color_control(), RUNS, None)]
    grids += [(tries_ablation(), RUNS, dict.fromkeys(CURVE_SPLITS["gp-l"], 600))]
    if tuning:
        grids = [
            (tuning_grid(e.task), TUNING, dict.fromkeys(CURVE_SPLITS[e.task], e.eval_episodes))
            for e in inits
        ]
    if only_estimate:
        left = sum(estimate(grid, root) for grid, root, _ in grids)
        known = "a time not yet known" if math.isnan(left) else f"{left / 60:.0f} core-minutes"
        print(f"{known} left of {sum(len(g[0]) for g in grids)} runs")
        return
    for init in inits:
        run_experiment(init, RUNS, final={})  # its measurements belong to each seed's runs
    for grid, root, final in grids:
        run_grid(grid, root, workers, final)
    if tuning:
        write_tuning()
    else:
        write_results()


def your_runs(
    experiments: list[Experiment], workers: int, only_estimate: bool = False,
    engine: str = "processes",
) -> None:  # fmt: skip
    """Runs of a reader's, in runs/yours, where explorer and figures find them."""
    seconds = estimate(experiments, YOURS)
    known = "a time not yet known" if math.isnan(seconds) else f"{seconds / 60:.0f} core-minutes"
    print(f"{known} left of {len(experiments)} runs")
    if not only_estimate:
        inits = [exp for exp in experiments if exp.method == "init"]  # what the others start from
        for grid in (inits, [exp for exp in experiments if exp not in inits]):
            if grid:
                run_grid(grid, YOURS, workers, engine=engine)
        print("They are in runs/yours; notebook 05's explorer shows them beside the book's.")


def write_tuning() -> None:
    """Add the tuning runs' last measurements to data/tuning.csv, where every attempt stays."""
    rows = runs.results_table([TUNING], done_only=True)
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    if TUNING_TABLE.exists():
        before = runs.load_results(TUNING_TABLE, paper=TUNING_TABLE / "none")
        rows = pd.concat([before[~before.run_id.isin(rows.run_id)], rows])
    runs.write_atomic(TUNING_TABLE, rows.to_csv(index=False, lineterminator="\n"))


def estimate(experiments: list[Experiment], root: Path = RUNS) -> float:
    """Seconds of one core for the runs that are not done, from the finished runs of the same model,
    precision, task and method and, where there are such, of as many tries (nan if there are none):
    of an answer in training, and of an episode measured, with all that comes on top."""
    arm = operator.itemgetter("preset", "model", "precision", "task", "method")
    known: dict[tuple, list[tuple[float, float]]] = {}

    def measured(config: dict[str, Any]) -> int:
        return config["eval_points"] * config["eval_episodes"] + config["final_episodes"]

    for path in (path for folder in (RUNS, YOURS) for path in folder.glob("*/manifest.json")):
        facts = read_manifest(path.parent)
        if facts["state"] == "done":
            steps, config = Run(path.parent, facts).metrics(), facts["config"]
            trained = steps.seconds.sum() if "seconds" in steps else 0.0
            around = (facts["wall_s"] - trained) / measured(config)
            found = trained / (config["steps"] * config["batch"]), around
            for key in (arm(config), (*arm(config), config["tries"])):
                known.setdefault(key, []).append(found)
    total = 0.0
    for exp in experiments:
        if not is_done(root / exp.run_id):
            key = arm(vars(exp))
            times = known.get((*key, exp.tries)) or known.get(key, [(math.nan, math.nan)])
            answer, around = (sum(column) / len(times) for column in zip(*times, strict=True))
            total += exp.steps * exp.batch * answer + measured(vars(exp)) * around
    return total


def _worker(exp: Experiment, root: Path, final: dict | None) -> str:
    torch.set_num_threads(1)
    hf_logging.disable_progress_bar()  # one bar for all: the grid's
    return run_experiment(exp, root, progress=False, final=final).path.name


@contextlib.contextmanager
def _engine(name: str, workers: int) -> Iterator[Callable]:
    """A function that has `_worker` called with its arguments by somebody, and returns a future:
    processes of this machine, or a Ray cluster (RAY_ADDRESS; else one on this machine), whose
    machines need this library and see the same folder of runs."""
    if name == "ray":
        try:
            import ray
        except ImportError as error:
            raise SftrlError(
                "engine ray needs the package ray; run `pip install -r requirements-ray.txt`."
            ) from error
        ray.init(log_to_driver=False, configure_logging=False)
        gpus = min(1, ray.cluster_resources().get("GPU", 0))  # one run a GPU, where there are some
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_worker)
        try:
            yield lambda *job: remote.remote(*job).future()
        finally:
            ray.shutdown()
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        try:
            yield partial(pool.submit, _worker)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_grid(
    experiments: list[Experiment], root: Path = RUNS, workers: int = 2, final: dict | None = None,
    engine: str = "processes",
) -> None:  # fmt: skip
    """Run all, `workers` at a time, one thread each (two such runs beat one with two threads). Stop
    it at any time; the same command goes on."""
    minutes = estimate(experiments, root) / 60 / workers
    about = "a time not yet known" if math.isnan(minutes) else f"about {minutes:.0f} minutes"
    print(f"{len(experiments)} runs, {workers} at a time: {about}. Ctrl-C stops; the same command "
          "goes on.")  # fmt: skip
    bar = tqdm(total=sum(e.steps for e in experiments), desc="grid", unit="step", smoothing=0)
    with _engine(engine, workers) as submit:
        waiting = {submit(e, root, final): e for e in experiments}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, timeout=2)
            for future in done:
                waiting.pop(future)
                tqdm.write(f"{time.strftime('%H:%M')} {future.result()} is done")
            bar.n = sum(_steps_done(e, root) for e in experiments)
            bar.refresh()
    bar.close()


def _steps_done(exp: Experiment, root: Path) -> int:
    log = root / exp.run_id / "metrics.jsonl"
    return min(exp.steps, log.read_bytes().count(b"\n")) if log.exists() else 0
