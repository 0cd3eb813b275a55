"""Many runs: how long they would take, and side by side on this machine or on a Ray cluster."""

import concurrent.futures
import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers.utils import logging as hf_logging

from commons.errors import SftrlError
from commons.processes import end_with_parent
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import METHODS
from sftrl_lib.runner import run_experiment
from sftrl_lib.runs import RUNS, YOURS, Run, experiment_of, find_run, is_done, read_manifest


def your_runs(
    experiments: list[Experiment], workers: int, only_estimate: bool = False,
    engine: str = "processes",
) -> None:  # fmt: skip
    """Runs of a reader's, in runs/yours, where explorer and figures find them."""
    seconds = estimate(experiments, YOURS)
    known = "a time not yet known" if math.isnan(seconds) else f"{seconds / 60:.0f} core-minutes"
    print(f"{known} left of {len(experiments)} runs")
    if not only_estimate:
        inits = [e for e in experiments if not METHODS[e.method.name].is_arm]  # others start there
        for grid in (inits, [exp for exp in experiments if exp not in inits]):
            if grid:
                run_grid(grid, YOURS, workers, engine=engine)
        print("They are in runs/yours; notebook 06's explorer shows them beside the book's.")


def _alike(exp: Experiment) -> list[tuple]:
    """What runs must share for one's time to tell the other's, the best first."""
    own, method = exp.model, METHODS[exp.method.name].like or exp.method.name
    arm = exp.task.name, method
    alike = own.preset, own.model, own.precision, *arm
    return [(*alike, getattr(exp.method, "tries", 1)), alike]


def _sizes(exp: Experiment) -> tuple[int, int]:
    """Answers a run trains on, and episodes of a split that it plays over all measurements."""
    own = exp.evaluation
    measured = own.eval_points * own.eval_episodes + own.final_episodes
    return exp.method.steps * exp.method.batch, measured


def known_times(*roots: Path) -> dict[tuple, list[tuple[float, float]]]:
    """Seconds of an answer in training, and of an episode measured with all that comes on top, of
    the finished runs under `roots` that are `_alike`."""
    known: dict[tuple, list[tuple[float, float]]] = {}
    for path in (path for folder in roots for path in folder.glob("*/manifest.json")):
        facts = read_manifest(path.parent)
        if facts["state"] == "done":
            steps, exp = Run(path.parent, facts).metrics(), experiment_of(facts["config"])
            trained = steps.seconds.sum() if "seconds" in steps else 0.0
            answers, measured = _sizes(exp)
            for key in _alike(exp):
                found = trained / answers, (facts["wall_s"] - trained) / measured
                known.setdefault(key, []).append(found)
    return known


def estimate(
    experiments: list[Experiment], root: Path = RUNS, known: dict[tuple, list] | None = None
) -> float:
    """Seconds of one core for the runs that are not done, from the finished runs of the same model,
    precision, task and method and, where there are such, of as many tries (nan if there are
    none). `known`: what `known_times` found; by default among the recorded runs and yours."""
    known, total = known_times(RUNS, YOURS) if known is None else known, 0.0
    for exp in experiments:
        if not is_done(find_run(exp, root)):
            times = next((known[key] for key in _alike(exp) if key in known), [(math.nan,) * 2])
            each = (sum(column) / len(times) for column in zip(*times, strict=True))
            total += sum(n * seconds for n, seconds in zip(_sizes(exp), each, strict=True))
    return total


def run_one(exp: Experiment, root: Path, measured: dict[str, Any]) -> str:
    """One run on one thread, without a bar of its own; the name of its folder."""
    torch.set_num_threads(1)
    hf_logging.disable_progress_bar()  # one bar for all: the grid's
    return run_experiment(exp, root, progress=False, **measured).path.name


@contextlib.contextmanager
def _engine(name: str, workers: int) -> Iterator[Callable]:
    """A function that has `run_one` called with its arguments by somebody, and returns a future: by
    a process of this machine, or of a Ray cluster (RAY_ADDRESS; else one on this machine), whose
    machines need this library and see the same folder of runs. Each run has a process of its own:
    what it held, on a GPU too, is free when the next one looks how much there is."""
    if name == "ray":
        try:
            import ray
        except ImportError as error:
            raise SftrlError(
                "engine ray needs the package ray; run `pip install -r requirements-ray.txt`."
            ) from error
        ray.init(log_to_driver=False, configure_logging=False)
        gpus = min(1, ray.cluster_resources().get("GPU", 0))  # one run a GPU, where there are some
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, max_calls=1)(run_one)
        try:
            yield lambda *job: remote.remote(*job).future()
        finally:
            ray.shutdown()
        return
    context = multiprocessing.get_context("spawn")

    def alone(*job: Any) -> str:
        # Not `max_tasks_per_child`, with which a pool can stand still (python/cpython#115634).
        with concurrent.futures.ProcessPoolExecutor(1, context, end_with_parent) as pool:
            return pool.submit(run_one, *job).result()

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            yield lambda *job: pool.submit(alone, *job)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_grid(
    experiments: list[Experiment], root: Path = RUNS, workers: int = 2,
    engine: str = "processes", **measured: Any,
) -> None:  # fmt: skip
    """Run all, `workers` at a time, one thread each (two such runs beat one with two threads). Stop
    it at any time; the same command goes on. `measured` is for `run_experiment`: final, curve, kl.
    """
    minutes = estimate(experiments, root) / 60 / workers
    about = "a time not yet known" if math.isnan(minutes) else f"about {minutes:.0f} minutes"
    print(f"{len(experiments)} runs, {workers} at a time: {about}. Ctrl-C stops; the same command "
          "goes on.")  # fmt: skip
    bar = tqdm(
        total=sum(e.method.steps for e in experiments), desc="grid", unit="step", smoothing=0
    )
    at = [find_run(e, root) for e in experiments]  # once: it reads what lies beside, too
    with _engine(engine, workers) as submit:
        waiting = {submit(e, root, measured): e for e in experiments}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, timeout=2)
            for future in done:
                waiting.pop(future)
                tqdm.write(f"{time.strftime('%H:%M')} {future.result()} is done")
            bar.n = sum(steps_done(e, folder) for e, folder in zip(experiments, at, strict=True))
            bar.refresh()
    bar.close()


def steps_done(exp: Experiment, folder: Path) -> int:
    """Steps that the run in a folder has logged."""
    log = folder / "metrics.jsonl"
    return min(exp.method.steps, log.read_bytes().count(b"\n")) if log.exists() else 0
